"""What an uploaded file really is. The only module here that opens customers' images and documents.

Only headers and page trees are read: pixels are decoded at the site, never in the web process.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import IO

import pypdfium2
from PIL import Image

from apps.core.errors import InvalidRequest

MAX_PIXELS = 100_000_000
IMAGES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "TIFF": "image/tiff"}
PDF = "application/pdf"
PDF_HEADER_BYTES = 1024  # readers look for %PDF- this far in: ISO 32000-1, annex H.3

_pdfium = Lock()  # PDFium is not safe to use from two threads


@dataclass(frozen=True, slots=True)
class Content:
    """A media type, and how many pages it has: 1 for an image."""

    type: str
    pages: int


def inspect(file: IO[bytes]) -> Content:
    """What `file` holds. Raises InvalidRequest(param="file") for all but PNG, JPEG, WebP, TIFF and PDF."""
    file.seek(0)
    head = file.read(PDF_HEADER_BYTES)
    file.seek(0)
    if not head:
        raise InvalidRequest("The file is empty.", param="file", code="invalid_file")
    return document(file) if b"%PDF-" in head else image(file)


def document(file: IO[bytes]) -> Content:
    with _pdfium:
        try:
            pdf = pypdfium2.PdfDocument(file.read())
        except pypdfium2.PdfiumError:
            raise InvalidRequest(
                "This PDF cannot be read: it is damaged or protected by a password.", param="file", code="invalid_file"
            ) from None
        try:
            pages = len(pdf)
        finally:
            pdf.close()
    if not pages:
        raise InvalidRequest("This PDF has no pages.", param="file", code="invalid_file")
    return Content(PDF, pages)


def image(file: IO[bytes]) -> Content:
    try:
        with Image.open(file, formats=tuple(IMAGES)) as opened:
            kind, (width, height) = str(opened.format), opened.size
            too_large = width * height > MAX_PIXELS
            if not too_large:
                opened.verify()
    except Image.DecompressionBombError:
        too_large, kind = True, ""
    except Exception:  # Pillow's readers raise whatever a damaged file makes them meet
        raise InvalidRequest(
            "The file is not an image or a PDF that can be read. Send PNG, JPEG, WebP, TIFF or PDF.",
            param="file",
            code="invalid_file",
        ) from None
    if too_large:
        raise InvalidRequest(
            f"The image has more than {MAX_PIXELS // 1_000_000} million pixels. Send a smaller one.",
            param="file",
            code="invalid_file",
        )
    return Content(IMAGES[kind], 1)
