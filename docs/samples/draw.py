"""Draws invoice.png and invoice.pdf, the samples for the text recognition model: python docs/samples/draw.py (needs Pillow)."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
SIZE = (1240, 1754)  # A4 at 150 dpi
INK, GREY = "#111111", "#555555"
LINES = [
    ("Roasted coffee beans, 1 kg", "24", "14.50", "348.00"),
    ("Paper filters, box of 100", "10", "3.20", "32.00"),
    ("Delivery", "1", "18.00", "18.00"),
]


def font(size: int) -> ImageFont.FreeTypeFont:
    loaded = ImageFont.load_default(size=size)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


def right(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, size: int) -> None:
    draw.text((x - draw.textlength(text, font=font(size)), y), text, fill=INK, font=font(size))


def invoice() -> Image.Image:
    page = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(page)
    draw.text((100, 100), "Harbour Coffee Roasters", fill=INK, font=font(48))
    draw.text((100, 170), "12 Dock Street, Savannah, GA 31401", fill=GREY, font=font(28))
    draw.text((100, 300), "INVOICE", fill=INK, font=font(60))
    draw.text((100, 400), "Invoice number: HC-2026-0417", fill=INK, font=font(32))
    draw.text((100, 450), "Date: 3 November 2026", fill=INK, font=font(32))
    draw.text((100, 500), "Bill to: Meridian Foods", fill=INK, font=font(32))
    for x, text in ((100, "Description"), (720, "Quantity"), (900, "Price"), (1040, "Amount")):
        draw.text((x, 620), text, fill=GREY, font=font(28))
    draw.line([(100, 668), (1140, 668)], fill=GREY, width=2)
    y = 700
    for description, quantity, price, amount in LINES:
        draw.text((100, y), description, fill=INK, font=font(32))
        right(draw, 820, y, quantity, 32)
        right(draw, 975, y, price, 32)
        right(draw, 1140, y, amount, 32)
        y += 64
    draw.line([(100, y + 16), (1140, y + 16)], fill=GREY, width=2)
    draw.text((720, y + 50), "Total USD", fill=INK, font=font(40))
    right(draw, 1140, y + 50, "398.00", 40)
    draw.text((100, y + 200), "Payment due within 30 days.", fill=INK, font=font(32))
    return page


def terms() -> Image.Image:
    page = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(page)
    draw.text((100, 100), "Terms of delivery", fill=INK, font=font(48))
    draw.text((100, 220), "Goods remain ours until the invoice is paid.", fill=INK, font=font(32))
    draw.text((100, 280), "Please quote HC-2026-0417 with your payment.", fill=INK, font=font(32))
    return page


if __name__ == "__main__":
    first = invoice()
    first.save(HERE / "invoice.png", optimize=True)
    first.convert("L").save(HERE / "invoice.pdf", save_all=True, append_images=[terms().convert("L")], resolution=150)
