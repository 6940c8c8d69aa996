"""Invoices are Stripe's documents; we keep what a list of them shows."""

from datetime import UTC, datetime
from typing import Any

from apps.accounts.models import Organization
from apps.billing.client import client, plain
from apps.billing.models import Invoice


def read(stripe_id: str) -> dict[str, Any]:
    return plain(client().v1.invoices.retrieve(stripe_id))


def remember(*, organization: Organization, read: dict[str, Any]) -> Invoice:
    """Write what the list shows of an invoice, as it was just read."""
    total = int(read.get("total") or 0)
    subtotal = read.get("total_excluding_tax")
    subtotal = int(read.get("subtotal") or 0) if subtotal is None else int(subtotal)
    issued = (read.get("status_transitions") or {}).get("finalized_at") or read["created"]
    row, _ = Invoice.objects.update_or_create(
        stripe_id=read["id"],
        defaults={
            "organization": organization,
            "number": (read.get("number") or "")[:64],
            "state": (read.get("status") or "draft")[:16],
            "description": (read.get("description") or "")[:200],
            "subtotal_cents": subtotal,
            "tax_cents": total - subtotal,
            "total_cents": total,
            "hosted_url": (read.get("hosted_invoice_url") or "")[:500],
            "pdf_url": (read.get("invoice_pdf") or "")[:500],
            "issued_at": datetime.fromtimestamp(issued, UTC),
        },
    )
    return row
