"""Which pool should run this? Pure: snapshots in, a ranking with reasons out. No ORM, no clock, no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass

from apps.core import places

FULL = "Waiting for a free GPU"
OUTSIDE = "outside the allowed places"
UNTRUSTED = "a partner's node: not for work that is bound to places"
NODE_SAYS = {"draining": "node is draining", "maintenance": "node is in maintenance"}
SUSPECT_SECONDS = 6.0  # a node silent for longer gets no new work (reference: three missed heartbeats)


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it was read a moment ago. `silent_seconds` is None where its node never beat."""

    id: int
    code: str
    slots: int
    ready: bool
    draining: bool
    node_state: str
    silent_seconds: float | None
    site: str
    region: str
    country: str
    usd_per_mwh: float
    energy_factor: float
    grid_gco2e_per_kwh: float
    reason: str = ""
    site_code: str = ""
    trusted: bool = True
    parked: bool = False  # its model is loaded first
    market_gco2e_per_kwh: float | None = None  # by contract; None where the site has none

    @property
    def place(self) -> str:
        return places.place(self.country, self.region, self.site_code)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool and what was thought of it. `refusal` is empty where it may run the work."""

    pool: PoolView
    refusal: str

    def record(self) -> dict[str, object]:
        """What the job remembers of it."""
        return {
            "pool": self.pool.code,
            "site": self.pool.site,
            "usd_per_mwh": round(self.pool.usd_per_mwh, 2),
            "refusal": self.refusal,
        }


def refusal(pool: PoolView) -> str:
    """Why a pool may not take new work now, in words for the job's page; empty where it may."""
    if pool.node_state != "admitted":
        return NODE_SAYS.get(pool.node_state, "node not admitted")
    if pool.draining:
        return "pool is draining"
    if pool.silent_seconds is None:
        return "node was never heard"
    if pool.silent_seconds > SUSPECT_SECONDS:
        return f"node silent for {pool.silent_seconds:.0f} s"
    if not pool.ready:
        return pool.reason or "engine not ready"
    return ""


def barred(pool: PoolView, rule: tuple[str, ...] | None) -> str:
    """Why work with this rule of places may never run there; empty where it may."""
    if not places.inside(pool.place, rule):
        return OUTSIDE
    return UNTRUSTED if rule is not None and not pool.trusted else ""


def affordable(ranked: list[Candidate], max_usd_per_mwh: float | None) -> list[Candidate]:
    """Those that may run the work now; with a ceiling, only where a MWh at the device costs less than that."""
    return [
        each
        for each in ranked
        if not each.refusal and (max_usd_per_mwh is None or each.pool.usd_per_mwh < max_usd_per_mwh)
    ]


def waits(ranked: list[Candidate]) -> str:
    """Why work waits that no pool has taken: a reason of the design guide's closed list, with what stands in the way where nothing is ready."""
    if not ranked:
        return "Waiting for a site that offers this model"
    if all(each.refusal == OUTSIDE for each in ranked):
        return "Waiting for a site: none in the allowed places offers this model"
    if all(each.refusal for each in ranked):
        return f"Waiting for a site: {ranked[0].refusal}"[:200]
    return FULL


def rank(pools: list[PoolView], residency: Iterable[str] | None = None) -> list[Candidate]:
    """Eligible pools first, ours before partners', loaded before parked, cheapest marginal MWh first; ties by code, so that equal input gives equal output.

    A pool outside the places of `residency` is refused whatever else is true of it, and comes last. Work that has such
    a rule runs on nodes of ours only.
    """
    rule = None if residency is None else tuple(residency)
    candidates = [Candidate(pool, barred(pool, rule) or refusal(pool)) for pool in pools]
    return sorted(
        candidates,
        key=lambda each: (
            bool(each.refusal),
            each.refusal == OUTSIDE,
            not each.pool.trusted,
            each.pool.parked,
            each.pool.usd_per_mwh,
            each.pool.code,
        ),
    )
