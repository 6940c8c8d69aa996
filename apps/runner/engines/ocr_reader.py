"""The text of images and PDF pages, as a child of the runner: `python -m apps.runner.engines.ocr_reader`.

Standard input: a JSON line `{"type": media type, "bytes": n}` and n bytes, once per file. Standard output: JSON lines,
`{"ready": true}` once, then for each file `{"page", "total", "text", "lines"}` per page and `{"end": true}`, or
`{"failure": {…}}`. The recognition models are PP-OCRv6 out of the rapidocr wheel; nothing is downloaded.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from apps.runner.engines.parent import die_with_parent

PIXELS = 40_000_000  # of one image; an A4 page at 600 dpi has 35 million
PAGE_PIXELS = 16_000_000  # of one rendered PDF page; a larger sheet is rendered more coarsely
PAGES = 500  # the portal has its own limit; this one is for a file that lied
DPI = 200


class Unreadable(Exception):
    """The file cannot be read; the message is for the customer."""


def main() -> None:
    die_with_parent()
    requests = sys.stdin.buffer
    # Libraries print where they like; only this channel is the protocol.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    read = reader()
    say(answers, {"ready": True})
    while line := requests.readline():
        asked = json.loads(line)
        content = requests.read(asked["bytes"])
        try:
            for page in pages(read, content, asked["type"]):
                say(answers, page)
        except Unreadable as error:
            failure = {"code": "invalid_file", "message": str(error), "status": 400, "param": "file"}
            say(answers, {"failure": failure})
        else:
            say(answers, {"end": True})


def say(answers: Any, message: dict[str, Any]) -> None:
    data = memoryview(json.dumps(message).encode() + b"\n")
    while data:
        data = data[answers.write(data) :]


def reader() -> Any:
    """RapidOCR with the models that lie in its wheel. Raises FileNotFoundError where one is missing, and fetches none."""
    import rapidocr

    models = Path(rapidocr.__file__).parent / "models"
    parameters: dict[str, Any] = {
        "Global.log_level": "error",
        "EngineConfig.onnxruntime.intra_op_num_threads": min(4, os.cpu_count() or 1),
    }
    for part, file in (
        ("Det", "PP-OCRv6_det_small.onnx"),
        ("Cls", "ch_ppocr_mobile_v2.0_cls_mobile.onnx"),
        ("Rec", "PP-OCRv6_rec_small.onnx"),
    ):
        if not (models / file).exists():
            raise FileNotFoundError(models / file)
        parameters[f"{part}.model_path"] = str(models / file)
    return rapidocr.RapidOCR(params=parameters)


def pages(read: Any, content: bytes, media_type: str) -> Iterator[dict[str, Any]]:
    images = pdf_pages(content) if media_type == "application/pdf" or content[:5] == b"%PDF-" else frames(content)
    for number, (total, image) in enumerate(images, start=1):
        lines = recognized(read, image)
        yield {"page": number, "total": total, "text": "\n".join(line["text"] for line in lines), "lines": lines}


def pdf_pages(content: bytes) -> Iterator[tuple[int, Any]]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(content)
        total = len(document)
    except pypdfium2.PdfiumError as error:
        raise Unreadable(
            "The file is not a PDF that can be opened. A password-protected file cannot be read."
        ) from error
    if not 0 < total <= PAGES:
        raise Unreadable(f"The PDF has {total} pages; between 1 and {PAGES} can be read.")
    for number in range(total):
        try:
            page = document[number]
            width, height = page.get_size()  # in points, 72 per inch
            scale = min(DPI / 72, (PAGE_PIXELS / max(width * height, 1)) ** 0.5)
            image = page.render(scale=scale).to_numpy()
        except pypdfium2.PdfiumError as error:
            raise Unreadable(f"Page {number + 1} of the PDF is damaged.") from error
        yield total, image if image.ndim == 3 else image[..., None].repeat(3, axis=2)


def frames(content: bytes) -> Iterator[tuple[int, Any]]:
    """The frames of an image (a TIFF may have many), as BGR arrays, turned as its camera says."""
    import numpy
    from PIL import Image, ImageOps, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = PIXELS
    source: BinaryIO = io.BytesIO(content)
    try:
        with Image.open(source, formats=("PNG", "JPEG", "WEBP", "TIFF")) as image:
            total = getattr(image, "n_frames", 1)
            if total > PAGES:
                raise Unreadable(f"The image has {total} pages; {PAGES} can be read.")
            for number in range(total):
                image.seek(number)
                if image.width * image.height > PIXELS:
                    raise Unreadable(f"The image has more than {PIXELS // 1_000_000} million pixels.")
                upright = ImageOps.exif_transpose(image).convert("RGBA")
                sheet = Image.new("RGBA", upright.size, "white")  # transparent paper is white
                sheet.alpha_composite(upright)
                yield total, numpy.ascontiguousarray(numpy.asarray(sheet.convert("RGB"))[..., ::-1])
    except UnidentifiedImageError as error:
        raise Unreadable("The file is not a PNG, JPEG, WebP or TIFF image or a PDF.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(f"The image has more than {PIXELS // 1_000_000} million pixels.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable("The image is damaged.") from error


def recognized(read: Any, image: Any) -> list[dict[str, Any]]:
    """The lines of one page in reading order; `box` is four corners `[x, y]` in pixels, clockwise from the top left."""
    found = read(image)
    texts = getattr(found, "txts", None)
    if not texts:
        return []
    return [
        {
            "text": text,
            "confidence": round(float(score), 4),
            "box": [[round(float(x), 1), round(float(y), 1)] for x, y in box],
        }
        for text, score, box in zip(texts, found.scores, found.boxes, strict=True)
    ]


if __name__ == "__main__":
    main()
