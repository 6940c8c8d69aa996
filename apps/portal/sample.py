"""What the demo sells, and where it runs: one site, three models with real engines, and their prices."""

from typing import Any

from django.utils.translation import gettext_noop

ORGANIZATION = "Meridian Foods"
EMAIL, STAFF_EMAIL = "demo@cango.example", "staff@cango.example"
KEY_NAME = "Demo key"

SITE: dict[str, Any] = {
    "code": "georgia-1",
    "name": "Georgia 1",
    "region": "Georgia",
    "country": "US",
    "time_zone": "America/New_York",
    "pue": 1.2,
    "host_share": 0.1,
    "grid_gco2e_per_kwh": 380,
    "power_usd_per_mwh": 45,
}
NODE = "georgia-1-a"

CHAT = "cango/demo-chat"
EMBEDDINGS = "sentence-transformers/all-minilm-l6-v2"
OCR = "rapidocr/pp-ocrv6"

MODELS: dict[str, dict[str, Any]] = {
    CHAT: {
        "title": "Demo chat",
        "kind": "chat",
        "description": gettext_noop(
            "A table of word pairs compiled into a real Llama file: it strings words together and knows nothing. "
            "It is here to try the system with a real engine on any machine, and for nothing else."
        ),
        "license": "MIT",
        "engine_name": "demo-chat",
        "context_tokens": 4096,
        "vocabulary_tokens": 1024,
        "max_output_tokens": 1024,
        # What llama.cpp does with this file, each tried in tests/runner/test_llama.py. Its template prints no tools.
        "capabilities": [
            "completions",
            "json_object",
            "json_schema",
            "logprobs",
            "stop",
            "seed",
            "penalties",
            "logit_bias",
            "token_input",
        ],
        "max_choices": 8,  # each in a slot of its own
    },
    EMBEDDINGS: {
        "title": "all-MiniLM-L6-v2",
        "kind": "embeddings",
        "description": gettext_noop(
            "Sentence embeddings with 384 dimensions, the real weights by sentence-transformers. "
            "Good for search, clustering and finding near duplicates in English; input is read up to 512 tokens."
        ),
        "license": "Apache-2.0",
        "engine_name": "minilm",
        "context_tokens": 512,
        "vocabulary_tokens": 30_522,
        "dimensions": 384,
        "capabilities": ["token_input", "rerank"],
    },
    OCR: {
        "title": "PP-OCRv6 text recognition",
        "kind": "ocr",
        "description": gettext_noop(
            "Reads the text of images and PDF pages, line by line with positions: the real PP-OCRv6 small models. "
            "Made for invoices, forms and scans; handwriting is not its strength."
        ),
        "license": "Apache-2.0",
        "engine_name": "rapidocr",
        "max_pages": 50,
    },
}
PRICES: dict[str, dict[str, int]] = {
    CHAT: {
        "input_microusd_per_mtok": 50_000,
        "cached_input_microusd_per_mtok": 12_500,
        "output_microusd_per_mtok": 200_000,
    },
    EMBEDDINGS: {"input_microusd_per_mtok": 20_000},
    OCR: {"page_microusd": 1_500},
}
POOLS: dict[str, dict[str, Any]] = {
    "demo-chat": {"model": CHAT, "slots": 8},
    "demo-embed": {"model": EMBEDDINGS, "slots": 4},
    "demo-ocr": {"model": OCR, "slots": 1},
}
ENGINE_FILES = {"demo-chat": "demo-chat.gguf", "demo-embed": "minilm.gguf"}

# Amounts in cents and micro-USD.
PLANS: dict[str, dict[str, Any]] = {
    "team": {
        "title": "Team",
        "description": gettext_noop(
            "For a team that uses inference every day. Two slots are kept for you while others wait."
        ),
        "price_cents": 9_900,
        "included_microusd": 100_000_000,
        "reserved_slots": 2,
        "max_open_jobs": 5_000,
        "requests_per_minute": 20_000,
        "input_tokens_per_minute": 60_000_000,
        "output_tokens_per_minute": 30_000_000,
        "concurrent_requests": 1_500,
        "batch_input_tokens": 2_000_000_000,
        "position": 1,
    },
    "business": {
        "title": "Business",
        "description": gettext_noop(
            "For inference inside your product. Ten slots are kept for you, and large imports fit in one go."
        ),
        "price_cents": 49_900,
        "included_microusd": 550_000_000,
        "reserved_slots": 10,
        "max_open_jobs": 50_000,
        "requests_per_minute": 60_000,
        "input_tokens_per_minute": 200_000_000,
        "output_tokens_per_minute": 100_000_000,
        "concurrent_requests": 5_000,
        "batch_input_tokens": 10_000_000_000,
        "position": 2,
    },
}

# A model of the user's own engine (ENGINE_URL): we know nothing of it but its name.
ENGINE_LIMITS = {"context_tokens": 8192, "max_output_tokens": 2048}
# What such engines commonly do. Staff correct it in the admin, and that stays.
ENGINE_CAPABILITIES = {
    "chat": [
        "completions",
        "tools",
        "parallel_tool_calls",
        "json_object",
        "json_schema",
        "logprobs",
        "stop",
        "seed",
        "penalties",
    ],
    "embeddings": ["token_input"],
}
ENGINE_PRICE = {"input_microusd_per_mtok": 100_000, "output_microusd_per_mtok": 400_000}
ENGINE_SLOTS = 8
