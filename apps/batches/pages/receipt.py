"""What a batch costs, and the energy it took."""

from __future__ import annotations

import math
import statistics
from functools import cached_property

from django.utils.translation import gettext

from apps.batches.models import Row
from apps.batches.pages.progress import Progress
from apps.catalog.models import Tier
from apps.catalog.prices import Price
from apps.core import numbers
from apps.jobs.models import Job

SAMPLE = 200  # rows whose charges say how far apart those to come may be


class Receipt(Progress):
    @property
    def returned_microusd(self) -> int:
        return self.batch.hold_microusd - self.batch.charge_microusd

    @cached_property
    def sample(self) -> list[int]:
        """What its last rows were charged. Whoever shows it again and again keeps it for a while."""
        last = Row.objects.filter(batch=self.batch).order_by("-line").values_list("charge_microusd", flat=True)
        return list(last[:SAMPLE])

    @cached_property
    def expected(self) -> str:
        """What all of it costs in the end, as a range: the rows to come are like those that came. Empty while nobody knows.

        The range is two standard deviations of a sum of so many, and that of the mean they are taken for. It never leaves
        what was charged already and what is held.
        """
        if self.seconds_left is None or not self.left:
            return ""
        if len(self.sample) < 2:
            return ""
        spread = 2 * statistics.stdev(self.sample) * math.sqrt(self.left * (1 + self.left / self.done))
        middle = self.batch.charge_microusd * self.batch.total / self.done
        low = max(round(middle - spread), self.batch.charge_microusd)
        high = min(max(round(middle + spread), low), self.batch.hold_microusd)
        return between(numbers.money_column(min(low, high)), numbers.money_column(high))

    @property
    def terms(self) -> list[tuple[str, str]]:
        """Its price: what a million tokens cost, the batch's share of that, and the discount."""
        if self.batch.price is None:
            return []
        price = Price.of(self.batch.price)
        share = numbers.basis_points(price.tier_basis_points(Tier.BATCH.value))
        found = [(gettext("Batch price"), gettext("%(share)s of each price") % {"share": share})]
        if self.batch.discount_basis_points:
            off = numbers.basis_points(self.batch.discount_basis_points)
            found.append((gettext("Discount"), gettext("%(share)s off each price") % {"share": off}))
        return found

    @property
    def input_price(self) -> str:
        return numbers.price(self.batch.price.input_microusd_per_mtok) if self.batch.price else numbers.NONE

    @property
    def output_price(self) -> str:
        return numbers.price(self.batch.price.output_microusd_per_mtok) if self.batch.price else numbers.NONE

    @property
    def energy_each_wh(self) -> float | None:
        if self.batch.energy_wh is None or not self.done:
            return None
        return self.batch.energy_wh / self.done * 1000

    @cached_property
    def energy_note(self) -> str:
        """How the energy was come by, as the shard of its last line says; empty while that runs."""
        last = Row.objects.filter(batch=self.batch).order_by("-line").values_list("job__energy_quality", flat=True)
        quality = last.first()
        return str(Job(energy_quality=quality).get_energy_quality_display()) if quality else ""

    @property
    def energy_per_ktok_wh(self) -> float | None:
        """For 1,000 tokens written."""
        if self.batch.energy_wh is None or not self.batch.completion_tokens:
            return None
        return self.batch.energy_wh / self.batch.completion_tokens * 1000


def between(low: str, high: str) -> str:
    """A range; one figure where both are the same."""
    return low if low == high else gettext("%(low)s to %(high)s") % {"low": low, "high": high}
