"""Where work runs: sites and the containers that stand there."""

from __future__ import annotations

from ipaddress import ip_network
from zoneinfo import available_timezones

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from apps.sites.models.feeds import Feed


def known_time_zone(value: str) -> None:
    if value not in available_timezones():
        raise ValidationError("No time zone of this name, such as America/Chicago, is known.")


def known_range(value: str) -> None:
    try:
        ip_network(value)
    except ValueError:
        raise ValidationError("This is no IP range, such as 203.0.113.0/24 or 2001:db8::/32.") from None


class Site(models.Model):
    """A place with power and a grid connection.

    `pue` is facility power over IT power (≥ 1), `host_share` the host's power per watt of device (≥ 0); with the grid's
    carbon intensity they turn a device's energy into the energy and carbon a customer is shown. `power_cap_w` is what the
    connection can carry, `contracted_power_w` what the contract allows: null where nobody has said, which is no zero.
    """

    class Stage(models.TextChoices):
        MINING = "mining"
        HYBRID = "hybrid"
        AI = "ai", "AI"

    code = models.SlugField(unique=True)
    name = models.CharField(max_length=80)
    region = models.CharField(max_length=40)
    country = models.CharField(max_length=2, help_text="ISO 3166-1 alpha-2")
    time_zone = models.CharField(max_length=64, default="UTC", validators=[known_time_zone])
    stage = models.CharField(max_length=6, choices=Stage, default=Stage.AI, db_default=Stage.AI)
    grid_zone = models.CharField(
        max_length=40,
        blank=True,
        default="",
        db_default="",
        help_text="As the grid's operator or a feed names it, such as ERCOT-WEST",
    )
    power_cap_w = models.FloatField("power cap (W)", null=True, blank=True, help_text="What the connection can carry")
    contracted_power_w = models.FloatField("contracted power (W)", null=True, blank=True)
    pue = models.FloatField("PUE", default=1.2)
    host_share = models.FloatField(default=0.1)
    grid_gco2e_per_kwh = models.FloatField(help_text="Average intensity of the local grid")
    power_usd_per_mwh = models.FloatField(help_text="What a MWh costs here")
    price_feed = models.CharField(
        max_length=80,
        blank=True,
        default="",
        db_default="",
        help_text="Where the price of power comes from; empty: the figure above",
    )
    carbon_feed = models.CharField(
        max_length=80,
        blank=True,
        default="",
        db_default="",
        help_text="Where the grid's intensity comes from; empty: the figure above",
    )
    market_gco2e_per_kwh = models.FloatField(
        "market gCO₂e/kWh", null=True, blank=True, help_text="By its contracts of supply, where it has some"
    )
    market_feed = models.CharField(
        max_length=80,
        blank=True,
        default="",
        db_default="",
        help_text="Where the intensity by contract comes from; empty: the figure above",
    )
    meter_feed = models.CharField(
        max_length=80, blank=True, default="", db_default="", help_text="Of its energy meter, where one is read"
    )
    ip_ranges = ArrayField(
        models.CharField(max_length=50, validators=[known_range]),
        default=list,
        db_default=models.Value([], ArrayField(models.CharField(max_length=50))),
        blank=True,
        help_text="Where its nodes are enrolled from, such as 203.0.113.0/24, with commas; empty: from anywhere",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(pue__gte=1) & Q(host_share__gte=0), name="sites_site_factors_plausible"),
            models.CheckConstraint(
                condition=Q(power_cap_w__isnull=True) | Q(power_cap_w__gt=0), name="sites_site_power_cap_positive"
            ),
            models.CheckConstraint(
                condition=Q(contracted_power_w__isnull=True)
                | Q(contracted_power_w__gt=0)
                & (Q(power_cap_w__isnull=True) | Q(contracted_power_w__lte=models.F("power_cap_w"))),
                name="sites_site_contract_within_cap",
                violation_error_message="No more can be contracted than the connection carries.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def feeds(self) -> dict[str, str]:
        """Codes of the feeds it names, by kind."""
        named = {
            Feed.Kind.PRICE: self.price_feed,
            Feed.Kind.CARBON: self.carbon_feed,
            Feed.Kind.MARKET: self.market_feed,
            Feed.Kind.METER: self.meter_feed,
        }
        return {kind.value: code for kind, code in named.items() if code}

    def clean(self) -> None:
        for kind, code in self.feeds.items():
            if not Feed.objects.filter(code=code, kind=kind).exists():
                raise ValidationError({f"{kind}_feed": "There is no feed of this name and kind."})

    @property
    def energy_factor(self) -> float:
        """Site energy per unit of device energy: (1 + host share) × PUE."""
        return (1 + self.host_share) * self.pue


class Container(models.Model):
    """One container of machines at a site: what is fed, cooled and opened together."""

    site = models.ForeignKey(Site, models.PROTECT, related_name="containers")
    code = models.SlugField(unique=True)
    power_cap_w = models.FloatField("power cap (W)", null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(power_cap_w__isnull=True) | Q(power_cap_w__gt=0), name="sites_container_power_cap_positive"
            )
        ]

    def __str__(self) -> str:
        return self.code
