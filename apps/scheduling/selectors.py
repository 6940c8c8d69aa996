"""The snapshots placement works on."""

from apps.core.sql import Plan
from apps.scheduling.placement import PoolView
from apps.sites import statements
from apps.sites.power import marginal_usd_per_mwh


def views(model_id: int | None = None) -> Plan[list[PoolView]]:
    """The pools of a model (or all) as they are now."""
    rows = yield from statements.pools(model_id)
    return [
        PoolView(
            id=row["id"],
            code=row["code"],
            slots=row["slots"],
            ready=row["ready"],
            draining=row["draining"],
            admitted=row["admitted"],
            silent_seconds=row["silent_seconds"],
            site=row["site"],
            region=row["region"],
            country=row["country"],
            usd_per_mwh=marginal_usd_per_mwh(
                power_usd_per_mwh=row["power_usd_per_mwh"], energy_factor=row["energy_factor"]
            ),
            energy_factor=row["energy_factor"],
            grid_gco2e_per_kwh=row["grid_gco2e_per_kwh"],
            reason=row["reason"],
        )
        for row in rows
    ]
