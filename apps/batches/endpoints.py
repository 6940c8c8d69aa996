"""Which of /v1 a batch may be for, and what a row of each answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.catalog.models import Model
from apps.catalog.offers import Offer
from apps.core.errors import InvalidRequest
from apps.dispatch import intake
from apps.dispatch.work import Work
from apps.jobs.models import Job
from apps.runner.protocol import RowResult, Usage
from apps.wire import ceilings, completions, embeddings, items, rerank, text
from apps.wire import chat as chats
from apps.wire import responses as response
from apps.wire.completions import Completion
from apps.wire.response_object import ResponseObject
from apps.wire.text import TextCompletion

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """A row that succeeded, and what its answer is made of. `usage` is the official object with our additions.

    `at`: Unix seconds, when it was reported.
    """

    row_id: UUID
    model: str
    result: RowResult
    usage: Mapping[str, Any]
    site: str | None
    at: int


def nothing(work: Work, body: Mapping[str, Any]) -> None:
    return None


def as_it_is(answer: Answer, kept: Any) -> Answer:
    return answer


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`kind` is what its rows are to a runner, `models` which models do it (blank: `work` says so).

    `work` checks the body of a line, and `answer` is what its row is kept as.

    Where an answer also says what was asked, `kept` of it lies beside the row's task, and `told` makes the answer of both
    when the files are written; None where that was lost.
    """

    kind: str
    models: str
    work: Callable[[Offer, Mapping[str, Any]], Work]
    answer: Callable[[Answered], Answer]
    kept: Callable[[Work, Mapping[str, Any]], Any] = nothing
    told: Callable[[Answer, Any], Answer] = as_it_is


def is_not_kept(body: Mapping[str, Any]) -> None:
    if body.get("store"):
        raise InvalidRequest(
            "Answers of a batch are in its file. Leave 'store' out.", param="store", code="invalid_value"
        )


def with_site(answer: Answer, site: str | None) -> Answer:
    return answer | ({"site": site} if site else {})


def input_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in usage.items() if not name.startswith("completion_")}


# Chat


def chat_work(offer: Offer, body: Mapping[str, Any]) -> Work:
    is_not_kept(body)
    chats.chat_request(body)
    return intake.chat_work(offer, body, interactive=False, streaming=False)


def chat(row: Answered) -> Answer:
    completion = Completion(job_id=row.row_id, model=row.model, service_tier="default")
    completion.created = row.at
    completion.gather([row.result.choices or []])
    return completion.whole(row.usage, row.site)


# Completions


def completion_work(offer: Offer, body: Mapping[str, Any]) -> Work:
    text.completion_request(body)
    return intake.completion_work(offer, body, interactive=False, streaming=False)


def completion(row: Answered) -> Answer:
    made = TextCompletion(job_id=row.row_id, model=row.model, service_tier="default")
    made.created = row.at
    made.gather([row.result.choices or []])
    return made.whole(row.usage, row.site)


def echo(work: Work, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The prompts that are to be repeated, and how many choices each has, where the engine does not repeat them."""
    if not body.get("echo") or "echo" in work.body:
        return None
    return {"prompts": ceilings.inputs(body["prompt"]), "n": body.get("n") or 1}


def echoed(answer: Answer, kept: dict[str, Any] | None) -> Answer:
    if kept is None:
        return answer
    choices = [
        {**choice, "text": kept["prompts"][choice["index"] // kept["n"]] + choice["text"]}
        for choice in answer["choices"]
    ]
    return {**answer, "choices": choices}


# Responses


def response_work(offer: Offer, body: Mapping[str, Any]) -> Work:
    is_not_kept(body)
    for name, instead in (
        ("background", "Every row of a batch runs in the background. Leave it out."),
        ("previous_response_id", "Send the earlier items in 'input': a row of a batch cannot go on from a response."),
    ):
        if body.get(name):
            raise InvalidRequest(
                f"'{name}' is not supported in a batch. {instead}", param=name, code="unsupported_parameter"
            )
    response.responses_request(body)
    if response.custom_names(body):
        raise InvalidRequest(
            "Tools of type 'custom' are not supported in a batch. Offer them as functions.",
            param="tools",
            code="unsupported_parameter",
        )
    return intake.response_work(offer, body, interactive=False)


def answered_response(row: Answered) -> Answer:
    output = items.Output(row.row_id, logprobs=True)  # an engine gives them only where they were asked for
    output.take([row.result.choices or []])
    output.end()
    made = ResponseObject(job_id=row.row_id, model=row.model, asked={"store": False})
    made.head["created_at"] = row.at
    return made.ended(output, usage=row.usage, site=row.site, completed_at=row.at)


def asked_settings(work: Work, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in body.items()
        if name not in ("input", "model", "client_metadata") and value is not None
    }


def with_settings(answer: Answer, kept: dict[str, Any] | None) -> Answer:
    """A response repeats what it was asked, but for its input."""
    asked = {**(kept or {}), "store": False}
    made = ResponseObject(job_id=UUID(int=0), model=answer["model"], asked=asked)
    return {**answer, **made.settings}


# Vectors and rankings


def embeddings_work(offer: Offer, body: Mapping[str, Any]) -> Work:
    embeddings.embeddings_request(body)
    return intake.embeddings_work(offer, body, interactive=False)


def vectors(row: Answered) -> Answer:
    """Kept as the runner packs them: a quarter of the size, and no work for whoever takes the report."""
    data = (row.result.result or {}).get("data") or []
    answer = embeddings.answer(model=row.model, data=data, usage=input_usage(row.usage), encoding_format="base64")
    return with_site(answer, row.site)


def unpacked(answer: Answer, kept: None) -> Answer:
    """Files hold vectors as numbers, whatever the line asked: so does the official output."""
    data = [
        {**item, "embedding": embeddings.floats(item["embedding"])} if isinstance(item["embedding"], str) else item
        for item in answer["data"]
    ]
    return {**answer, "data": data}


def rerank_work(offer: Offer, body: Mapping[str, Any]) -> Work:
    rerank.rerank_request(body)
    return intake.rerank_work(offer, body, interactive=False)


def ranking(row: Answered) -> Answer:
    answer = rerank.answer(
        job_id=row.row_id,
        model=row.model,
        results=(row.result.result or {}).get("results") or [],
        documents=None,
        top_n=None,
        usage=input_usage(row.usage),
    )
    return with_site(answer, row.site)


def ranked(work: Work, body: Mapping[str, Any]) -> dict[str, Any]:
    documents = None if body.get("return_documents") is False else rerank.texts(body)
    return {"documents": documents, "top_n": body.get("top_n")}


def with_documents(answer: Answer, kept: dict[str, Any] | None) -> Answer:
    return {**answer, "results": rerank.shown(answer["results"], **kept)} if kept else answer


CHAT = Model.Kind.CHAT.value
ENDPOINTS = {
    "/v1/chat/completions": Endpoint(Job.Kind.CHAT.value, CHAT, chat_work, chat),
    "/v1/completions": Endpoint(Job.Kind.COMPLETION.value, CHAT, completion_work, completion, echo, echoed),
    "/v1/responses": Endpoint(
        Job.Kind.CHAT.value, CHAT, response_work, answered_response, asked_settings, with_settings
    ),
    "/v1/embeddings": Endpoint(
        Job.Kind.EMBEDDINGS.value, Model.Kind.EMBEDDINGS.value, embeddings_work, vectors, nothing, unpacked
    ),
    "/v1/rerank": Endpoint(Job.Kind.RERANK.value, "", rerank_work, ranking, ranked, with_documents),
}


def usage_of(counted: Usage, settled: Mapping[str, Any]) -> dict[str, Any]:
    return completions.usage(**counted.model_dump(exclude={"pages"}), settled=settled)
