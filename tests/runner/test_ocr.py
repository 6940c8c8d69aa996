"""Real recognition of generated pages, with the network out of reach."""

import asyncio
import io
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from PIL import Image, ImageDraw, ImageFont

from apps.runner.engines import ocr_reader
from apps.runner.engines.engine import EngineFailed, Piece, Work
from apps.runner.engines.rapidocr import RapidOCREngine

pytestmark = pytest.mark.whole

PAGES = (["Invoice 2041", "Total 184.50 EUR"], ["Delivery note", "Twelve boxes"])


def page(lines: list[str]) -> Image.Image:
    image = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((30, 30 + 70 * number), line, fill="black", font=ImageFont.load_default(36))
    return image


def encoded(kind: str, images: list[Image.Image]) -> bytes:
    buffer = io.BytesIO()
    first, *others = images
    first.save(buffer, kind, **({"save_all": True, "append_images": others} if others else {}))
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _no_network() -> Iterator[None]:
    """A download would go to a proxy that is not there, and fail the test."""
    before = dict(os.environ)
    os.environ.update(dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
async def reader() -> AsyncIterator[RapidOCREngine]:
    engine = RapidOCREngine(name="test-ocr", slots=1)
    await engine.start()
    yield engine
    await engine.stop()


def work(file: bytes, media_type: str) -> Work:
    return Work(kind="ocr", model="", body={}, file=file, file_type=media_type)


async def collect(engine: RapidOCREngine, work: Work) -> list[Piece]:
    return [piece async for piece in engine.run(work)]


async def test_it_reads_files_page_by_page(reader: RapidOCREngine) -> None:
    pieces = await collect(reader, work(encoded("PNG", [page(PAGES[0])]), "image/png"))
    assert [(piece.done, piece.total) for piece in pieces[:-1]] == [(1, 1)]
    assert text(pieces) == "Invoice 2041\nTotal 184.50 EUR"
    result = pieces[-1].result
    assert result
    (first,) = result["pages"]
    assert [line["text"] for line in first["lines"]] == PAGES[0]
    assert all(line["confidence"] > 0.9 for line in first["lines"])
    assert [len(corner) for corner in first["lines"][0]["box"]] == [2, 2, 2, 2]

    pieces = await collect(reader, work(encoded("PDF", [page(lines) for lines in PAGES]), "application/pdf"))
    assert [(piece.done, piece.total) for piece in pieces[:-1]] == [(1, 2), (2, 2)]
    assert [piece.usage.pages for piece in pieces if piece.usage] == [1, 2]
    assert text(pieces) == "Invoice 2041\nTotal 184.50 EUR\n\nDelivery note\nTwelve boxes"

    for content, media_type, says in (
        (b"these are words", "image/png", "not a PNG"),
        (b"%PDF-1.7 and nothing else", "application/pdf", "not a PDF"),
        (encoded("PNG", [page(PAGES[0])])[:600], "image/png", "damaged"),
    ):
        with pytest.raises(EngineFailed) as raised:
            await collect(reader, work(content, media_type))
        failure = raised.value.failure
        assert (failure.status, failure.code, failure.param) == (400, "invalid_file", "file")
        assert says in failure.message

    # A page cannot be left half read: an interrupted reader is replaced.
    many = work(encoded("PDF", [page(PAGES[0])] * 20), "application/pdf")
    async with aclosing(reader.run(many)) as running:
        async for _ in running:
            break
        (interrupted,) = reader.processes()
    async with asyncio.timeout(5):
        while reader.processes() in ([interrupted], []):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def text(pieces: list[Piece]) -> str:
    return "".join(choice["delta"].get("content", "") for piece in pieces for choice in piece.choices or [])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr_reader, "PIXELS", 100_000)
    with pytest.raises(ocr_reader.Unreadable, match="million pixels"):
        list(ocr_reader.frames(encoded("PNG", [page(PAGES[0])])))


def test_a_tiff_has_as_many_pages_as_frames() -> None:
    tiff = encoded("TIFF", [page(lines) for lines in PAGES])
    assert [(total, frame.shape) for total, frame in ocr_reader.frames(tiff)] == [(2, (300, 400, 3))] * 2
