"""What the page of a draft shows: how far its check is, what is wrong, and what it would cost."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from uuid import UUID

from django.template.loader import render_to_string
from django.utils.translation import gettext, ngettext

from apps.batches import trying
from apps.batches.models import Batch, Draft
from apps.batches.pages.batch import MOST_ERRORS, BatchPage
from apps.batches.pages.receipt import between
from apps.catalog.models import WHOLE, Tier
from apps.catalog.prices import Price
from apps.core import numbers
from apps.files.models import File
from apps.jobs.pages.progress import left_in_words
from apps.ledger import services as ledger

EARLIER = 5  # batches that are gone by


class DraftPage:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    @property
    def topic(self) -> str:
        return trying.topic(self.draft.pk)

    @property
    def at(self) -> int:
        return self.draft.version

    @property
    def checking(self) -> bool:
        return self.draft.state == Draft.State.CHECKING

    @cached_property
    def file(self) -> File | None:
        return File.objects.filter(pk=self.draft.input_file_id, status=File.Status.PROCESSED).first()

    @cached_property
    def title(self) -> str:
        return (
            self.draft.name
            or (self.file.name if self.file else "")
            or gettext("Batch for %(endpoint)s") % {"endpoint": self.draft.endpoint}
        )

    @property
    def rows(self) -> str:
        return BatchPage.rows(self.draft.good)

    # What is wrong

    @property
    def clean(self) -> bool:
        return not self.checking and not self.draft.bad

    @property
    def mendable(self) -> bool:
        """May it be sent without its bad lines?"""
        return bool(not self.checking and self.draft.bad and self.draft.good and self.draft.bad_lines is not None)

    @property
    def left_out(self) -> str:
        count = len(self.draft.bad_lines or ())
        return ngettext("%(count)s line", "%(count)s lines", count) % {"count": numbers.count(count)}

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [error for error in self.draft.errors if error["code"] != "more_errors"][:MOST_ERRORS]

    @property
    def errors_left(self) -> int:
        return self.draft.bad - len(self.errors)

    # What it would cost

    @property
    def startable(self) -> bool:
        return (self.clean or self.mendable) and not self.short_microusd

    @cached_property
    def free_microusd(self) -> int:
        return ledger.balance(UUID(str(self.draft.organization_id))).available_microusd

    @property
    def short_microusd(self) -> int:
        """So much its worst case is above what is free."""
        return max(self.draft.hold_microusd - self.free_microusd, 0)

    @cached_property
    def earlier(self) -> list[BatchPage]:
        """The organization's newest batches like it that came to their end: what they used of the worst case is what this one may."""
        if self.draft.model is None:
            return []
        draft = self.draft
        like = Batch.objects.filter(organization=draft.organization, model=draft.model, endpoint=draft.endpoint)
        done = like.filter(state=Batch.State.COMPLETED, completed__gt=0, hold_microusd__gt=0)
        return [BatchPage(batch) for batch in done.order_by("-pk")[:EARLIER]]

    @property
    def expected(self) -> str:
        """Its cost as a range; empty without any to go by."""
        hold = self.draft.hold_microusd
        costs = [hold * page.batch.charge_microusd // page.batch.hold_microusd for page in self.earlier]
        return between(numbers.money_small(min(costs)), numbers.money_small(max(costs))) if costs else ""

    @property
    def takes(self) -> str:
        """How long it runs, as a range; empty without any to go by."""
        rates = [page.per_second for page in self.earlier if page.per_second]
        seconds = sorted(max(self.draft.good / rate, 1) for rate in rates)
        return between(left_in_words(seconds[0]), left_in_words(seconds[-1])) if seconds else ""

    @property
    def share(self) -> int:
        """Of the list price, in basis points: the batch's share and the organization's discount."""
        if self.draft.price is None:
            return WHOLE
        batch = Price.of(self.draft.price).tier_basis_points(Tier.BATCH.value)
        return batch * (WHOLE - self.draft.discount_basis_points) // WHOLE

    @property
    def share_in_words(self) -> str:
        return numbers.basis_points(self.share)

    @property
    def input_price(self) -> str:
        return numbers.price(self.draft.price.input_microusd_per_mtok) if self.draft.price else numbers.NONE

    @property
    def output_price(self) -> str:
        return numbers.price(self.draft.price.output_microusd_per_mtok) if self.draft.price else numbers.NONE

    def fields(self) -> dict[str, Any]:
        return {"lines": numbers.count(self.draft.lines)}


def load(draft_id: UUID) -> DraftPage:
    """Raises Draft.DoesNotExist."""
    return DraftPage(Draft.objects.select_related("model", "price", "organization").get(pk=draft_id))


def part(page: DraftPage) -> str:
    """What the socket puts in the place of the page's."""
    return render_to_string("batches/_draft.html", {"page": page, "draft": page.draft, "told": True})
