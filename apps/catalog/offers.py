"""What a customer may name in a request, with the price in force now."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.catalog.prices import Price
from apps.core.sql import Plan, Row, Statement
from apps.wire.capabilities import Ability


@dataclass(frozen=True, slots=True)
class Offer:
    """A listed model and its price version. Limits count tokens or pages; 0 where they do not apply or are not known."""

    model_id: int
    name: str
    kind: str
    engine_name: str
    context_tokens: int
    max_output_tokens: int
    max_pages: int
    dimensions: int
    shorter_dimensions: list[int]
    capabilities: list[str]
    max_choices: int
    image_tokens: int
    vocabulary_tokens: int
    max_queue_seconds: int
    title: str
    description: str
    license: str
    created_at: datetime
    retires_at: datetime | None
    price: Price

    @property
    def ability(self) -> Ability:
        return Ability(self.capabilities, self.max_choices)


OFFERS = """
SELECT m.id AS model_id, m.name, m.kind, m.engine_name, m.context_tokens, m.max_output_tokens, m.max_pages, m.dimensions,
    m.shorter_dimensions, m.capabilities, m.max_choices, m.image_tokens, m.vocabulary_tokens, m.max_queue_seconds, m.title, m.description, m.license, m.created_at, m.retires_at,
    p.id, p.input_microusd_per_mtok, p.cached_input_microusd_per_mtok, p.output_microusd_per_mtok, p.request_microusd,
    p.page_microusd, p.batch_basis_points, p.flexible_basis_points
FROM catalog_model m
CROSS JOIN LATERAL (
    SELECT * FROM catalog_priceversion WHERE model_id = m.id AND effective_at <= now() ORDER BY effective_at DESC LIMIT 1
) p
WHERE m.listed AND (m.retires_at IS NULL OR m.retires_at > now()) AND (%(name)s::text IS NULL OR m.name = %(name)s)
ORDER BY m.name
"""

# `model`: an expression
DISCOUNT = """
SELECT coalesce(max(basis_points), 0)::int AS basis_points FROM catalog_discount
WHERE organization_id = %(organization)s AND (model_id = {model} OR model_id IS NULL)
  AND starts_at <= now() AND (ends_at IS NULL OR ends_at > now())
"""

DISCOUNTS = """
SELECT m.id AS model_id, max(d.basis_points)::int AS basis_points
FROM catalog_discount d JOIN catalog_model m ON d.model_id = m.id OR d.model_id IS NULL
WHERE d.organization_id = %(organization)s AND d.starts_at <= now() AND (d.ends_at IS NULL OR d.ends_at > now())
GROUP BY m.id
"""


def price_of(row: Row) -> Price:
    """A price version from its row; takes its columns off it."""
    return Price(**{name: row.pop(name) for name in Price.__slots__})


def offer_of(row: Row) -> Offer:
    """Of a row of `OFFERS`; also where it came as JSON."""
    for name in ("created_at", "retires_at"):
        if isinstance(row[name], str):
            row[name] = datetime.fromisoformat(row[name])
    price = price_of(row)
    return Offer(**row, price=price)


def offers(name: str | None = None) -> Plan[list[Offer]]:
    """All, or the one of this name."""
    if name and "\x00" in name:  # PostgreSQL's text has no such character, so no model has
        return []
    rows = yield Statement(OFFERS, {"name": name}, alone=True)
    return [offer_of(row) for row in rows]


def offer(name: str) -> Plan[Offer | None]:
    found = yield from offers(name)
    return found[0] if found else None


def discount(organization_id: UUID, model_id: int) -> Plan[int]:
    """Basis points off for an organization's work on a model admitted now: the largest in force, alone."""
    rows = yield Statement(
        DISCOUNT.format(model="%(model)s"), {"organization": organization_id, "model": model_id}, alone=True
    )
    points: int = rows[0]["basis_points"]
    return points


def discounts(organization_id: UUID) -> Plan[dict[int, int]]:
    """As `discount`, by model; those without one are left out."""
    rows = yield Statement(DISCOUNTS, {"organization": organization_id}, alone=True)
    return {row["model_id"]: row["basis_points"] for row in rows}
