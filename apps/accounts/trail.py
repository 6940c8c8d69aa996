"""The audit trail as a page and a table show it: who did what, when, from where; newest first, cut by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext, gettext_lazy, gettext_noop

from apps.accounts import languages
from apps.accounts.models import AuditEvent, Organization, User
from apps.core import numbers
from apps.core.spreadsheets import BYTE_ORDER_MARK, lines

SIZE = 50
EXPORT_SIZE = 1000
KINDS = {
    "money": (gettext_lazy("Money and limits"), ("credit", "balance", "refund", "limits", "warnings", "automatic_top_up", "plan", "subscription", "discount")),
    "keys": (gettext_lazy("API keys"), ("api_key",)),
    "members": (gettext_lazy("Members"), ("member", "membership", "invitation")),
    "sign_in": (gettext_lazy("Signing in"), ("password", "passkey", "authenticator_app", "recovery_codes")),
    "settings": (gettext_lazy("Settings"), ("organization", "webhook", "rate_limit", "account")),
    "work": (gettext_lazy("Jobs and batches"), ("job", "batch")),
}  # fmt: skip
STAFF, PORTAL, KEY = "staff", "portal", "key"  # who is no member
WORDS = {"issued": "created"}
NOUNS = {"api_key": "API key", "automatic_top_up": "Automatic top-up"}
# Acts and fields as they are made of their names, for translators.
SAID = (
    gettext_noop("API key created"),
    gettext_noop("API key changed"),
    gettext_noop("API key replaced"),
    gettext_noop("API key revoked"),
    gettext_noop("Automatic top-up changed"),
    gettext_noop("Automatic top-up stopped"),
    gettext_noop("Automatic top-up switched off"),
    gettext_noop("Authenticator app added"),
    gettext_noop("Authenticator app removed"),
    gettext_noop("Balance corrected"),
    gettext_noop("Batch cancelled"),
    gettext_noop("Credit bought"),
    gettext_noop("Credit granted"),
    gettext_noop("Discount added"),
    gettext_noop("Discount changed"),
    gettext_noop("Discount ended"),
    gettext_noop("Invitation declined"),
    gettext_noop("Invitation sent again"),
    gettext_noop("Invitation withdrawn"),
    gettext_noop("Job cancelled"),
    gettext_noop("Limits changed"),
    gettext_noop("Member invited"),
    gettext_noop("Member joined"),
    gettext_noop("Member removed"),
    gettext_noop("Member role changed"),
    gettext_noop("Membership removed"),
    gettext_noop("Organization changed"),
    gettext_noop("Organization created"),
    gettext_noop("Organization deleted"),
    gettext_noop("Organization deletion asked"),
    gettext_noop("Organization deletion undone"),
    gettext_noop("Organization exported"),
    gettext_noop("Organization residency changed"),
    gettext_noop("Passkey added"),
    gettext_noop("Passkey removed"),
    gettext_noop("Password changed"),
    gettext_noop("Plan cancelled"),
    gettext_noop("Plan changed"),
    gettext_noop("Plan resumed"),
    gettext_noop("Rate limit added"),
    gettext_noop("Rate limit changed"),
    gettext_noop("Recovery codes added"),
    gettext_noop("Recovery codes removed"),
    gettext_noop("Recovery codes replaced"),
    gettext_noop("Refund created"),
    gettext_noop("Refund failed"),
    gettext_noop("Refund requested"),
    gettext_noop("Refund updated"),
    gettext_noop("Warnings changed"),
    gettext_noop("Webhook changed"),
    gettext_noop("Webhook created"),
    gettext_noop("Webhook deleted"),
    gettext_noop("Webhook disabled"),
    gettext_noop("Webhook enabled"),
    gettext_noop("Webhook secret rotated"),
    gettext_noop("name"),
    gettext_noop("role"),
    gettext_noop("email"),
    gettext_noop("scopes"),
    gettext_noop("event types"),
    gettext_noop("expires at"),
    gettext_noop("allowed models"),
    gettext_noop("residency"),
    gettext_noop("keep text days"),
    gettext_noop("amount"),
    gettext_noop("tax"),
    gettext_noop("source"),
    gettext_noop("threshold"),
    gettext_noop("ceiling"),
    gettext_noop("low balance"),
    gettext_noop("mail enabled"),
    gettext_noop("plan"),
    gettext_noop("at"),
    gettext_noop("on"),
    gettext_noop("until"),
    gettext_noop("replaces"),
    gettext_noop("invited by"),
    gettext_noop("kind"),
    gettext_noop("url"),
    gettext_noop("description"),
    gettext_noop("fields"),
    gettext_noop("ip ranges"),
    gettext_noop("requests per minute"),
    gettext_noop("input tokens per minute"),
    gettext_noop("output tokens per minute"),
    gettext_noop("concurrent requests"),
    gettext_noop("daily"),
    gettext_noop("weekly"),
    gettext_noop("monthly"),
    gettext_noop("total"),
)
UNSAID = frozenset({"prefix", "budget", "by_key"})
# Fields whose values are words of ours, and an act whose "from" and "to" are such.
WORDED = frozenset({"role", "kind", "source"})
WORDED_ACTS = {"member.role_changed": "role"}
VALUES = (
    gettext_noop("owner"),
    gettext_noop("admin"),
    gettext_noop("developer"),
    gettext_noop("billing"),
    gettext_noop("viewer"),
    gettext_noop("organization"),
    gettext_noop("member"),
    gettext_noop("key"),
    gettext_noop("checkout"),
    gettext_noop("automatic"),
)
# What the portal writes as a reason where a person acted; what people write stays as written.
REASONS = frozenset({
    gettext_noop("replaced"),
    gettext_noop("revoked on the keys page"),
    gettext_noop("revoked through the API"),
    gettext_noop("its maker may give none of its scopes any more"),
})  # fmt: skip
OF_THE_PORTAL = (gettext_noop("The organization was deleted."), gettext_noop("Starter credit"))


@dataclass(frozen=True, slots=True)
class Entry:
    event: AuditEvent
    staff: bool

    @property
    def who(self) -> str:
        """Staff have no names for customers."""
        event = self.event
        if event.data.get("by_key"):
            return gettext("API key %(key)s…") % {"key": event.data["by_key"]}
        if event.actor is None:
            return "Cango Portal"
        return gettext("Staff of Cango Portal") if self.staff else event.actor.email

    @property
    def what(self) -> str:
        noun, _, verb = self.event.action.partition(".")
        return languages.said(
            f"{NOUNS.get(noun, noun.replace('_', ' ').capitalize())} {WORDS.get(verb, verb.replace('_', ' '))}"
        )

    @property
    def target(self) -> str:
        prefix = self.event.data.get("prefix")
        return f"{prefix}…" if prefix else self.event.target

    @property
    def details(self) -> list[str]:
        event = self.event
        found = [*said(event.data, of=WORDED_ACTS.get(event.action, ""))]
        if event.reason:
            own = event.actor_id is None or event.reason in REASONS
            reason = languages.said(event.reason) if own else event.reason
            found.append(gettext("Reason: %(reason)s") % {"reason": reason})
        return found


def said(data: Mapping[str, Any], *, of: str = "") -> Iterator[str]:
    """What an event holds, in words: "name: Meridian → Meridian Foods". `of` is the field that "from" and "to" are of."""
    for name, value in data.items():
        if name in UNSAID:
            continue
        if isinstance(value, dict) and value.keys() == {"from", "to"}:
            yield named(name, f"{shown(name, value['from'])} → {shown(name, value['to'])}")
        elif isinstance(value, dict):
            yield from said(value)
        elif name == "to" and "from" in data:
            continue
        elif name == "from" and "to" in data:
            yield f"{shown(of or name, value)} → {shown(of or name, data['to'])}"
        else:
            yield named(name, shown(name, value))


def named(name: str, value: str) -> str:
    label = languages.said(name.removesuffix("_microusd").removesuffix("_cents").replace("_", " "))
    return gettext("%(name)s: %(value)s") % {"name": label, "value": value}


def shown(name: str, value: Any) -> str:
    if value is None or value in ("", []):
        return gettext("none")
    if isinstance(value, bool):
        return gettext("yes") if value else gettext("no")
    if isinstance(value, int) and name.endswith(("_microusd", "_cents")):
        return numbers.balance(value * (10_000 if name.endswith("_cents") else 1))
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return languages.said(str(value)) if name in WORDED else str(value)


@dataclass(frozen=True, slots=True)
class Page:
    """`older` names the last entry of the page, where there are more."""

    entries: list[Entry]
    older: str


def matching(organization: Organization, *, who: str = "", kind: str = "", since: date | None = None, until: date | None = None) -> QuerySet[AuditEvent]:  # fmt: skip
    """`who` is a member's number or one of STAFF, PORTAL and KEY; days are of UTC, both included."""
    events = AuditEvent.objects.filter(organization=organization).select_related("actor")
    if kind in KINDS:
        events = events.filter(reduce(or_, (Q(action__startswith=f"{noun}.") for noun in KINDS[kind][1])))
    if who == KEY:
        events = events.filter(data__has_key="by_key")
    elif who == PORTAL:
        events = events.filter(actor=None).exclude(data__has_key="by_key")
    elif who == STAFF:
        events = events.filter(actor__in=staff(organization))
    elif who:
        events = events.filter(actor=int(who)).exclude(actor__in=staff(organization))
    if since:
        events = events.filter(at__gte=midnight(since))
    if until:
        events = events.filter(at__lt=midnight(until) + timedelta(days=1))
    return events


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def staff(organization: Organization) -> QuerySet[User]:
    """Staff who are no members here."""
    return User.objects.filter(is_staff=True).exclude(memberships__organization=organization)


def page(organization: Organization, events: QuerySet[AuditEvent], *, before: str = "", size: int = SIZE) -> Page:
    """What is not an `older` of ours is the beginning."""
    key = parsed(before)
    if key:
        events = events.filter(Q(at__lt=key[0]) | Q(at=key[0], pk__lt=key[1]))
    rows = list(events.order_by("-at", "-pk")[: size + 1])
    foreign = set(staff(organization).filter(pk__in=[row.actor_id for row in rows]).values_list("pk", flat=True))
    entries = [Entry(row, row.actor_id in foreign) for row in rows[:size]]
    last = rows[size - 1] if len(rows) > size else None
    return Page(entries, f"{last.at.isoformat()}_{last.pk}" if last else "")


def parsed(before: str) -> tuple[datetime, int] | None:
    at, _, pk = before.rpartition("_")
    try:
        found = datetime.fromisoformat(at), int(pk)
    except ValueError:
        return None
    return found if found[0].tzinfo and 0 < found[1] < 2**63 else None


COLUMNS = ["at", "who", "action", "target", "details", "address"]


def table(organization: Organization, events: QuerySet[AuditEvent]) -> Iterator[str]:
    """All of it as CSV, a page at a time; times are of UTC."""
    yield BYTE_ORDER_MARK + lines([COLUMNS])
    before = ""
    while True:
        found = page(organization, events, before=before, size=EXPORT_SIZE)
        yield lines(
            [entry.event.at.isoformat(), entry.who, entry.event.action, entry.target, "; ".join(entry.details), entry.event.address or ""]
            for entry in found.entries
        )  # fmt: skip
        before = found.older
        if not before:
            return
