"""Everything an admission decides by, read as one statement: the offer, its pools, who waits, and what the caller may still do."""

from dataclasses import dataclass

from apps.catalog import offers
from apps.catalog.offers import Offer
from apps.core.errors import NotFound
from apps.core.sql import Plan, Statement
from apps.dispatch import allowance
from apps.dispatch.allowance import Standing
from apps.jobs import statements as jobs
from apps.keys.services import Caller
from apps.scheduling import selectors
from apps.scheduling.placement import PoolView
from apps.sites import statements as sites

SITUATION = f"""
WITH offered AS ({offers.OFFERS})
SELECT to_jsonb(offered) AS offer, ({offers.DISCOUNT.format(model="offered.model_id")}) AS discount,
    (SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]') FROM ({sites.POOLS_OF_MODEL.format(model="offered.model_id")}) p) AS pools,
    ({jobs.ANYBODY_WAITS.format(model="offered.model_id")}) AS crowded,
    (SELECT to_jsonb(s) FROM ({allowance.STANDING}) s) AS standing
FROM offered
"""  # noqa: S608 - only constants go in


@dataclass(frozen=True, slots=True)
class Situation:
    """`discount` is in basis points. `crowded`: work that goes before this waits for the model, at some place."""

    offer: Offer
    discount: int
    pools: list[PoolView]
    crowded: bool
    standing: Standing

    @property
    def is_crowded(self) -> bool:
        """Who has a free slot of its own by its plan waits behind nobody."""
        return self.crowded and not self.standing.has_slot_of_its_own


def unknown(name: str) -> NotFound:
    return NotFound(
        f"The model '{name[:100]}' does not exist or is not on offer. GET /v1/models lists those that are.",
        param="model",
        code="model_not_found",
    )


def situation(caller: Caller, name: str, tier: str) -> Plan[Situation]:
    """Of a request for the model of this name. Raises NotFound."""
    if "\x00" in name:  # PostgreSQL's text has no such character, so no model has
        raise unknown(name)
    rows = yield Statement(SITUATION, {**allowance.params(caller, name, tier), "name": name}, alone=True)
    if not rows:
        raise unknown(name)
    row = rows[0]
    return Situation(
        offer=offers.offer_of(row["offer"]),
        discount=row["discount"],
        pools=[selectors.view(pool) for pool in row["pools"]],
        crowded=row["crowded"],
        standing=Standing(**row["standing"]),
    )
