"""Warnings: a budget at 50, 80 and 100 %, a balance that runs low. By mail and webhook, once each.

A budget counts what is spent: what its window has used, less what open holds of that window still hold. Work that a hold
refused, or might cost, warns of nothing. Of several shares passed at once the highest warns alone.

`look` writes the row and the webhook's message in one transaction. `send` mails what has not been mailed: a crash between
the two, or a mail server that is away, makes a warning late, at worst twice, and never silent.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import OperationalError, connection, models, transaction
from django.db.models import Q, Sum
from django.utils import timezone
from django.utils.translation import gettext_noop

from apps.accounts import letters
from apps.accounts.mails import Mail, wanted
from apps.accounts.models import Organization, User
from apps.accounts.rights import Right, with_right
from apps.billing import entitlements
from apps.billing.models import Alert, AlertSettings, Subscription
from apps.core.ids import public
from apps.keys.models import APIKey
from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Budget
from apps.webhooks import services as webhooks

log = logging.getLogger(__name__)

SHARES = (100, 80, 50)
PERIODS = (gettext_noop("total"), gettext_noop("daily"), gettext_noop("weekly"), gettext_noop("monthly"))  # in mails
SEND_FOR = timedelta(days=2)  # a mail that could not be sent for so long says nothing new
CHUNK = 500
LIMITED = Q(total_limit_microusd__gt=0)
for _period in PERIODS[1:]:
    LIMITED |= Q(**{f"{_period}_limit_microusd__gt": 0})

STILL_HELD = """
SELECT coalesce(sum(promotional_microusd + credit_microusd - promotional_charged_microusd - credit_charged_microusd), 0)::bigint
FROM ledger_hold WHERE state = 'open' AND organization_id = %s AND day >= %s AND %s = ANY (budget_ids)
"""
# What is held is not spent yet: a balance does not run low because work has begun, and does not recover because it ended.
LEFT = """
SELECT a.organization_id
FROM ledger_account a LEFT JOIN billing_alertsettings s ON s.organization_id = a.organization_id
WHERE (a.credit_microusd + a.promotional_microusd + a.held_microusd < coalesce(s.low_balance_microusd, %(low)s))
    <> (s.low_since IS NOT NULL)
  OR EXISTS (
    SELECT FROM ledger_grant g WHERE g.organization_id = a.organization_id AND g.remaining_microusd > 0
      AND g.expires_at <= clock_timestamp()
  )
"""


def look(now: datetime | None = None) -> int:
    """Write what there is to warn of; how many warnings that were. One organization's trouble keeps no other back."""
    now = now or timezone.now()
    count = 0
    for budget in Budget.objects.filter(LIMITED).iterator(chunk_size=CHUNK):
        with alone(budget.organization_id):
            count += warn_of_budget(budget, now)
    for organization in changed_balances():
        with alone(organization.pk):
            count += warn_of_balance(organization, now)
    for subscription in overdue(now):
        with alone(subscription.pk):
            count += warn_of_plan(subscription)
    return count


@contextmanager
def alone(organization_id: UUID) -> Iterator[None]:
    try:
        yield
    except OperationalError:  # the database is away: for the others too
        raise
    except Exception:
        log.exception("a warning failed", extra={"organization": public("org", organization_id)})


@dataclass(frozen=True, slots=True)
class Reached:
    """A share of a budget's limit that is spent."""

    period: str
    percent: int
    limit_microusd: int
    spent_microusd: int
    window: date


def reached(budget: Budget, now: datetime) -> Iterator[Reached]:
    """The highest share of each of a budget's limits. Holds are asked for only where they could matter."""
    for window in budgets.windows(budget, now):
        limit = window.limit_microusd
        if not limit or window.used_microusd * 100 < limit * SHARES[-1]:
            continue
        spent = window.used_microusd - still_held(budget, window.starts_on)
        percent = next((share for share in SHARES if spent * 100 >= limit * share), None)
        if percent:
            yield Reached(window.period, percent, limit, spent, window.starts_on)


def still_held(budget: Budget, since: date) -> int:
    with connection.cursor() as cursor:
        cursor.execute(STILL_HELD, [budget.organization_id, since, budget.pk])
        held: int = cursor.fetchone()[0]
    return held


def warn_of_budget(budget: Budget, now: datetime) -> int:
    return sum(warn_once(budget, each) for each in reached(budget, now))


@transaction.atomic
def warn_once(budget: Budget, reached: Reached) -> bool:
    """Once for each limit, window and share; not again for a lower share than was warned of."""
    same = {
        "budget": budget,
        "period": reached.period,
        "window": reached.window,
        "limit_microusd": reached.limit_microusd,
    }
    if Alert.objects.filter(kind=Alert.Kind.BUDGET, percent__gte=reached.percent, **same).exists():
        return False
    alert, made = Alert.objects.get_or_create(
        kind=Alert.Kind.BUDGET,
        percent=reached.percent,
        **same,
        defaults={"organization_id": budget.organization_id, "spent_microusd": reached.spent_microusd},
    )
    if made:
        webhooks.notify(
            organization=budget.organization_id,
            type="budget.exhausted" if reached.percent == SHARES[0] else "budget.threshold_reached",
            data={
                "budget": {"kind": budget.kind, "title": budget.title},
                "period": reached.period,
                "percent": reached.percent,
                "limit_microusd": reached.limit_microusd,
                "spent_microusd": reached.spent_microusd,
                "window_starts_on": None if reached.period == "total" else reached.window.isoformat(),
            },
            key=f"alert:{alert.pk}",
        )
    return made


def changed_balances() -> Iterator[Organization]:
    """Organizations whose balance may have crossed their threshold since the last look."""
    with connection.cursor() as cursor:
        cursor.execute(LEFT, {"low": AlertSettings.LOW_BALANCE_MICROUSD})
        found = [organization_id for (organization_id,) in cursor.fetchall()]
    yield from Organization.objects.filter(pk__in=found).order_by("pk").iterator(chunk_size=CHUNK)


@transaction.atomic
def warn_of_balance(organization: Organization, now: datetime) -> bool:
    """Once for each fall below the threshold; a balance that has risen to it again may warn again.

    What never was above the threshold has not fallen below it: starter credit that is no more than that warns of nothing.
    """
    AlertSettings.objects.get_or_create(organization=organization)
    wanted = AlertSettings.objects.select_for_update().get(organization=organization)
    balance = ledger.balance(organization.pk)
    left = balance.available_microusd + balance.held_microusd
    low = left < wanted.low_balance_microusd
    if low == (wanted.low_since is not None):
        return False
    wanted.low_since = now if low else None
    wanted.save(update_fields=["low_since"])
    if not low or received(organization) <= wanted.low_balance_microusd:
        return False
    alert = Alert.objects.create(
        organization=organization,
        kind=Alert.Kind.BALANCE,
        window=now.date(),
        limit_microusd=wanted.low_balance_microusd,
        spent_microusd=left,
    )
    webhooks.notify(
        organization=organization,
        type="balance.low",
        data={
            "balance_microusd": left,
            "available_microusd": balance.available_microusd,
            "threshold_microusd": wanted.low_balance_microusd,
        },
        key=f"alert:{alert.pk}",
    )
    return True


def received(organization: Organization) -> int:
    """All the credit an organization ever got, paid and given."""
    into = organization.transfers.filter(credit__in=("credit", "promotional"), hold=None)
    return into.aggregate(sum=Sum("amount_microusd"))["sum"] or 0


def overdue(now: datetime) -> models.QuerySet[Subscription]:
    """Plans whose grace period is over: what they gave has ended by the date, and this says so."""
    state, since = Subscription.State.PAST_DUE, now - entitlements.grace()
    return Subscription.objects.filter(state=state, past_due_since__lte=since).select_related("organization")


@transaction.atomic
def warn_of_plan(subscription: Subscription) -> bool:
    assert subscription.past_due_since is not None
    _, made = Alert.objects.get_or_create(
        kind=Alert.Kind.PLAN,
        organization=subscription.organization,
        period="ended",
        window=subscription.past_due_since.date(),
    )
    return made


def send() -> int:
    """Mail the warnings that have not been, oldest first; how many. One that cannot be sent is tried again at the next look."""
    count = 0
    waiting = Alert.objects.filter(sent_at__isnull=True, created_at__gt=timezone.now() - SEND_FOR).order_by(
        "created_at"
    )
    for pk in list(waiting.values_list("pk", flat=True)[:CHUNK]):
        try:
            count += send_one(pk)
        except (smtplib.SMTPException, OSError):
            log.exception("warning not mailed", extra={"alert": pk})
    return count


@transaction.atomic
def send_one(pk: int) -> bool:
    """Mail and mark, on the locked row: a crash before the commit mails again."""
    rows = Alert.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=pk, sent_at__isnull=True)
    alert = rows.select_related("organization", "budget").first()
    if alert is None:
        return False
    messages = messages_of(alert)
    if messages:
        get_connection().send_messages(messages)
    alert.sent_at = timezone.now()
    alert.save(update_fields=["sent_at"])
    return bool(messages)


def messages_of(alert: Alert) -> list[EmailMessage]:
    """One for each reader; none where the organization wants no such mail. News of a plan is always sent."""
    plan = alert.kind == Alert.Kind.PLAN
    if not plan and not mail_enabled(alert.organization):
        return []
    template = f"billing/mail/alert_{alert.kind}{f'_{alert.period}' if plan else ''}.txt"
    kind, context = None if plan else Mail.BUDGETS, context_of(alert)
    return [letters.letter(reader, template, kind=kind, **context) for reader in readers(alert)]


def mail_enabled(organization: Organization) -> bool:
    return not AlertSettings.objects.filter(organization=organization, mail_enabled=False).exists()


def context_of(alert: Alert) -> dict[str, Any]:
    subscription = Subscription.objects.select_related("plan").filter(organization=alert.organization).first()
    return {
        "alert": alert,
        "organization": alert.organization,
        "plan": subscription.plan if subscription else None,
        "grace_ends_at": subscription
        and subscription.past_due_since
        and subscription.past_due_since + entitlements.grace(),
        "max_open_jobs": settings.PAYG_MAX_OPEN_JOBS,
    }


def readers(alert: Alert) -> list[User]:
    """Owners and billing members; of a member's or a key's own budget also the member, or who made the key. Who wants none gets none."""
    of_organization = Q(
        memberships__organization=alert.organization,
        memberships__role__in=with_right(Right.PAY),
    )
    wanting = Q() if alert.kind == Alert.Kind.PLAN else wanted(Mail.BUDGETS)
    found = set(User.objects.filter(of_organization, wanting, is_active=True))
    if alert.budget is not None and alert.budget.kind != Budget.Kind.ORGANIZATION:
        spender = alert.budget.user_id or creator_of_key(alert.budget)
        own = User.objects.filter(
            wanting, pk__in=[spender], is_active=True, memberships__organization=alert.organization
        )
        found.update(own)
    return sorted(found, key=lambda reader: reader.email)


def creator_of_key(budget: Budget) -> int | None:
    return APIKey.objects.filter(budget=budget).values_list("created_by", flat=True).first()
