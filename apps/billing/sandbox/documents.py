"""Invoices on paper: one page of PDF, written by hand. No amounts are made here."""

from datetime import UTC, datetime

from apps.billing.sandbox.rows import Data
from apps.core import numbers
from apps.core.money import MICROUSD_PER_CENT

HEIGHT, WIDTH, MARGIN, LEADING = 842, 595, 56, 18  # A4 in points
MOST_LINES = 38


def day(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def dollars(cents: int) -> str:
    return numbers.dollars(cents * MICROUSD_PER_CENT, 2)


def written(line: Data, cents: int) -> Data:
    """A line of a checkout or an invoice, for a page."""
    return {"title": line["description"], "quantity": line["quantity"], "amount": dollars(cents)}


def invoice_lines(invoice: Data) -> list[tuple[str, str]]:
    """Text on the left, amount on the right."""
    issued = day(invoice["created"])
    tax = sum(part["amount"] for part in invoice["total_taxes"])
    lines = [
        (f"Invoice {invoice['number']}", ""),
        ("Sandbox money: no card was charged.", ""),
        ("", ""),
        (f"From {invoice['account_name']}", ""),
        (f"To {invoice['customer_name'] or invoice['customer_email'] or invoice['customer']}", ""),
        *[(f"Tax ID {tax_id['value']}", "") for tax_id in invoice["customer_tax_ids"]],
        (f"Issued {issued.day} {issued:%b %Y}", ""),
        (f"State {invoice['status']}", ""),
        ("", ""),
        *[(line["description"], dollars(line["amount"])) for line in invoice["lines"]["data"]],
        ("Tax", dollars(tax)),
        ("Total", dollars(invoice["total"])),
        ("Paid", dollars(invoice["amount_paid"])),
    ]
    return lines[:MOST_LINES]


def pdf(lines: list[tuple[str, str]]) -> bytes:
    """One page. Letters outside Windows-1252 become "?": the standard fonts have no others."""
    text = ["BT /F1 11 Tf"]
    for place, (left, right) in enumerate(lines):
        y = HEIGHT - MARGIN - place * LEADING
        text.append(f"1 0 0 1 {MARGIN} {y} Tm ({_escaped(left)}) Tj")
        if right:
            text.append(f"1 0 0 1 {WIDTH - MARGIN - 90} {y} Tm ({_escaped(right)}) Tj")
    text.append("ET")
    stream = "\n".join(text).encode("cp1252", "replace")
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {WIDTH} {HEIGHT}]/Contents 4 0 R"
        "/Resources<</Font<</F1 5 0 R>>>>>>".encode(),
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return (
        out
        + b"xref\n0 6\n0000000000 65535 f \n"
        + table
        + b"trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(out)
    )


def _escaped(text: str) -> str:
    text = text.replace(numbers.MINUS, "-")
    return text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)").replace("\n", " ").replace("\r", " ")
