"""Images in messages, as data URLs.

The portal fetches nothing on behalf of a request: an address would make it, or a site, a way into networks that the
sender cannot reach, and its answer could change between the price and the work. So an image travels in the request.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_IMAGES = 50  # of one request
MAX_IMAGE_BYTES = 10 * 1024 * 1024
DATA_URL = re.compile(r"data:(?P<type>image/(?:png|jpeg|webp|gif));base64,(?P<data>[A-Za-z0-9+/=]+)")
SHOWN = re.compile(r"(data:image/[a-z]+;base64,[A-Za-z0-9+/]{16})[A-Za-z0-9+/=]{48,}")
STARTS = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/webp": (b"RIFF",),
    "image/gif": (b"GIF87a", b"GIF89a"),
}


def wrong_with(url: str) -> str:
    """What stands in the way of an image's URL, in words for its sender; empty where nothing does."""
    if url[:8].lower().startswith(("http://", "https://")):
        return (
            "images are not fetched from addresses here; send the image itself as a data URL (data:image/png;base64,…)"
        )
    found = DATA_URL.fullmatch(url)
    if found is None:
        return "it should be a data URL of a PNG, JPEG, WebP or GIF image in base64 (data:image/png;base64,…)"
    if len(found["data"]) > MAX_IMAGE_BYTES * 4 // 3 + 4:
        return f"an image may have at most {MAX_IMAGE_BYTES:,} bytes"
    try:
        raw = base64.b64decode(found["data"], validate=True)
    except binascii.Error:
        return "the base64 of the image is broken"
    if not raw.startswith(STARTS[found["type"]]):
        return f"the bytes are no {found['type'].partition('/')[2].upper()} image"
    return ""


def parts(messages: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The image parts of messages."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and part.get("type") == "image_url":
                yield part


def without(value: Any) -> Any:
    """`value` with each image part left out: what is left is text."""
    if isinstance(value, list):
        return [without(item) for item in value if not (isinstance(item, Mapping) and item.get("type") == "image_url")]
    if isinstance(value, Mapping):
        return {name: without(item) for name, item in value.items()}
    return value


def shortened(text: str) -> str:
    """A request as JSON for a page: the beginning of each image is enough."""
    return SHOWN.sub(r"\1…", text)
