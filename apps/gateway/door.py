"""/v1: inference as OpenAI's clients know it. Wire shapes: OpenAI API reference (openapi.json f85dbe2)."""

from __future__ import annotations

from django.conf import settings

from apps.batches import door as batches
from apps.core.asgi import Routes, door
from apps.gateway.chat import chat_completions
from apps.gateway.completions import create_completion
from apps.gateway.embeddings import create_embeddings
from apps.gateway.files import create_file, delete_file, file_content, list_files, retrieve_file
from apps.gateway.headers import with_headers
from apps.gateway.kept_responses import cancel_response, delete_response, list_input_items, retrieve_response
from apps.gateway.listing import list_models, retrieve_model
from apps.gateway.rerank import create_ranking
from apps.gateway.responses import create_response
from apps.gateway.stored import delete_chat, list_chats, list_messages, retrieve_chat, update_chat
from apps.keys.door import reachable

ROUTES: Routes = {
    ("GET", "/v1/models"): list_models,
    ("GET", "/v1/models/{model:path}"): retrieve_model,  # names of models have a slash in them
    ("POST", "/v1/chat/completions"): chat_completions,
    ("GET", "/v1/chat/completions"): list_chats,
    ("GET", "/v1/chat/completions/{completion}"): retrieve_chat,
    ("POST", "/v1/chat/completions/{completion}"): update_chat,
    ("DELETE", "/v1/chat/completions/{completion}"): delete_chat,
    ("GET", "/v1/chat/completions/{completion}/messages"): list_messages,
    ("POST", "/v1/completions"): create_completion,
    ("POST", "/v1/embeddings"): create_embeddings,
    ("POST", "/v1/files"): create_file,
    ("GET", "/v1/files"): list_files,
    ("GET", "/v1/files/{file}"): retrieve_file,
    ("DELETE", "/v1/files/{file}"): delete_file,
    ("GET", "/v1/files/{file}/content"): file_content,
    ("POST", "/v1/rerank"): create_ranking,
    ("POST", "/v1/responses"): create_response,
    ("GET", "/v1/responses/{response}"): retrieve_response,
    ("DELETE", "/v1/responses/{response}"): delete_response,
    ("POST", "/v1/responses/{response}/cancel"): cancel_response,
    ("GET", "/v1/responses/{response}/input_items"): list_input_items,
    **batches.ROUTES,
}

application = with_headers(
    door(
        {place: reachable(handler) for place, handler in ROUTES.items()},
        hint=f"The base URL is {settings.BASE_URL}/v1; clients put /models, /chat/completions, /responses or /embeddings after it.",
    )
)
