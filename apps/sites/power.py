"""What a kilowatt-hour is worth at a site now, and what it emits. Pure."""


def marginal_usd_per_mwh(*, power_usd_per_mwh: float, energy_factor: float) -> float:
    """What a MWh at the device costs: the site's price of power times (1 + host share) × PUE."""
    return power_usd_per_mwh * energy_factor


GRAMS_PER_POUND = 453.59237  # exact: the international pound


def gco2e(energy_wh: float, gco2e_per_kwh: float) -> float:
    """What energy emits at an intensity. Average and marginal intensities are different facts: never mix them in one sum."""
    return energy_wh / 1000 * gco2e_per_kwh


def gco2e_per_kwh(lb_per_mwh: float) -> float:
    """Grid operators and WattTime state marginal emissions (MOER) in pounds per MWh."""
    return lb_per_mwh * GRAMS_PER_POUND / 1000
