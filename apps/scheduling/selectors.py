"""The snapshots placement works on."""

from typing import Any

from apps.core.sql import Plan, Row
from apps.scheduling.placement import PoolView, refusal
from apps.sites import statements
from apps.sites.power import marginal_usd_per_mwh


def views(model_id: int | None = None) -> Plan[list[PoolView]]:
    """The pools of a model (or all) as they are now."""
    rows = yield from statements.pools(model_id)
    return [view(row) for row in rows]


def views_by_model() -> Plan[dict[int, list[PoolView]]]:
    """All pools as they are now, by their model."""
    found: dict[int, list[PoolView]] = {}
    for row in (yield from statements.pools(None)):
        found.setdefault(row["model_id"], []).append(view(row))
    return found


def places(model_id: int | None = None) -> Plan[dict[int, list[dict[str, Any]]]]:
    """By model: the sites that serve it, as customers see them, by name. A site is ready where one of its pools is."""
    rows = yield from statements.pools(model_id)
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["site"]):
        place = found.setdefault(row["model_id"], {}).setdefault(
            row["site_code"],
            {
                "code": row["site_code"],
                "name": row["site"],
                "region": row["region"],
                "country": row["country"],
                "ready": False,
            },
        )
        place["ready"] |= not refusal(view(row))
    return {model: list(sites.values()) for model, sites in found.items()}


def view(row: Row) -> PoolView:
    return PoolView(
        id=row["id"],
        code=row["code"],
        slots=row["slots"],
        ready=row["ready"],
        draining=row["draining"],
        node_state=row["node_state"],
        trusted=row["trusted"],
        parked=row["parked"],
        silent_seconds=row["silent_seconds"],
        site=row["site"],
        region=row["region"],
        country=row["country"],
        usd_per_mwh=marginal_usd_per_mwh(
            power_usd_per_mwh=row["power_usd_per_mwh"], energy_factor=row["energy_factor"]
        ),
        energy_factor=row["energy_factor"],
        grid_gco2e_per_kwh=row["grid_gco2e_per_kwh"],
        market_gco2e_per_kwh=row["market_gco2e_per_kwh"],
        reason=row["reason"],
        site_code=row["site_code"],
    )
