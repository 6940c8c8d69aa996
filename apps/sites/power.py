"""What a kilowatt-hour is worth at a site now. Pure."""


def marginal_usd_per_mwh(*, power_usd_per_mwh: float, energy_factor: float) -> float:
    """What a MWh at the device costs: the site's price of power times (1 + host share) × PUE."""
    return power_usd_per_mwh * energy_factor
