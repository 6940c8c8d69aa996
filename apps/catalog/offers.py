"""What a customer may name in a request, with the price in force now."""

from dataclasses import dataclass
from datetime import datetime

from apps.core.money import TOKENS_PER_MTOK, cost_microusd
from apps.core.sql import Plan, Row, Statement


@dataclass(frozen=True, slots=True)
class Price:
    id: int
    input_microusd_per_mtok: int
    output_microusd_per_mtok: int
    request_microusd: int
    page_microusd: int

    def charge_microusd(self, *, prompt_tokens: int, completion_tokens: int, pages: int) -> int:
        """The cost of a usage: each line (request, input, output, pages) rounded up once."""
        return (
            self.request_microusd
            + cost_microusd(units=prompt_tokens, price_microusd=self.input_microusd_per_mtok, per=TOKENS_PER_MTOK)
            + cost_microusd(units=completion_tokens, price_microusd=self.output_microusd_per_mtok, per=TOKENS_PER_MTOK)
            + cost_microusd(units=pages, price_microusd=self.page_microusd)
        )


@dataclass(frozen=True, slots=True)
class Offer:
    """A listed model and its price version. Limits count tokens or pages; 0 where they do not apply."""

    model_id: int
    name: str
    kind: str
    engine_name: str
    context_tokens: int
    max_output_tokens: int
    max_pages: int
    dimensions: int
    max_queue_seconds: int
    title: str
    description: str
    license: str
    created_at: datetime
    price: Price


OFFERS = """
SELECT m.id AS model_id, m.name, m.kind, m.engine_name, m.context_tokens, m.max_output_tokens, m.max_pages, m.dimensions,
    m.max_queue_seconds, m.title, m.description, m.license, m.created_at,
    p.id, p.input_microusd_per_mtok, p.output_microusd_per_mtok, p.request_microusd, p.page_microusd
FROM catalog_model m
CROSS JOIN LATERAL (
    SELECT * FROM catalog_priceversion WHERE model_id = m.id AND effective_at <= now() ORDER BY effective_at DESC LIMIT 1
) p
WHERE m.listed AND (%(name)s::text IS NULL OR m.name = %(name)s)
ORDER BY m.name
"""

PRICE = """
SELECT id, input_microusd_per_mtok, output_microusd_per_mtok, request_microusd, page_microusd
FROM catalog_priceversion WHERE id = %(id)s
"""


def _price(row: Row) -> Price:
    return Price(**{name: row.pop(name) for name in Price.__slots__})


def _offer(row: Row) -> Offer:
    price = _price(row)
    return Offer(**row, price=price)


def offers() -> Plan[list[Offer]]:
    rows = yield Statement(OFFERS, {"name": None})
    return [_offer(row) for row in rows]


def offer(name: str) -> Plan[Offer | None]:
    if "\x00" in name:  # PostgreSQL's text has no such character, so no model has
        return None
    rows = yield Statement(OFFERS, {"name": name})
    return _offer(rows[0]) if rows else None


def price(price_id: int) -> Plan[Price]:
    rows = yield Statement(PRICE, {"id": price_id})
    return _price(rows[0])
