"""What the shell of every page shows. Nothing is read until a template asks, so pages without a shell cost nothing."""

from dataclasses import dataclass
from functools import cached_property

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext

from apps.accounts.rights import Right
from apps.batches.pages import listing
from apps.batches.pages.listing import Open
from apps.ledger import services as ledger
from apps.ledger import spending
from apps.ledger.services import Balance
from apps.ledger.spending import Pace
from apps.portal.words import words
from cango_portal import database

THEMES = ("light", "dark")


@dataclass(frozen=True)
class Link:
    text: str
    icon: str
    url: str
    current: bool
    counts: str = ""  # the topic of the figure beside it


@dataclass(frozen=True)
class Group:
    title: str
    links: list[Link]


def initials(name: str) -> str:
    words = [word for word in name.replace(".", " ").replace("-", " ").split() if word[0].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "?"


class Shell:
    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @property
    def theme(self) -> str:
        """ "light", "dark", or nothing where the reader's system decides."""
        chosen = self.request.COOKIES.get("theme", "")
        return chosen if chosen in THEMES else ""

    @property
    def words(self) -> dict[str, str]:
        """For scripts; nothing where they are to speak English."""
        return words()

    @property
    def starter_microusd(self) -> int:
        return int(settings.STARTER_CREDIT_MICROUSD)

    @property
    def operator_email(self) -> str:
        return settings.OPERATOR_EMAIL

    @property
    def mail_url(self) -> str:
        """Where the demo shows its mails; nothing elsewhere."""
        return reverse("portal:mail") if settings.DEMO else ""

    @property
    def api_url(self) -> str:
        """What OpenAI clients take as `base_url`, at the host the reader came by."""
        return self.request.build_absolute_uri("/v1")

    @property
    def jobs_url(self) -> str:
        return self.request.build_absolute_uri(reverse("api-jobs"))

    @property
    def initials(self) -> str:
        return initials(getattr(self.request.user, "name", "") or self.request.user.get_username().partition("@")[0])

    @property
    def organization_initials(self) -> str:
        organization = getattr(self.request, "organization", None)
        return initials(organization.name) if organization else ""

    @cached_property
    def balance(self) -> Balance | None:
        organization = getattr(self.request, "organization", None)
        return None if organization is None else ledger.balance(organization.pk)

    @cached_property
    def batches(self) -> Open | None:
        """How many run."""
        organization = getattr(self.request, "organization", None)
        return None if organization is None else database.run(listing.opened(organization.pk))

    @cached_property
    def pace(self) -> Pace | None:
        organization = getattr(self.request, "organization", None)
        if organization is None or self.balance is None:
            return None
        return spending.lately(organization.pk, available_microusd=self.balance.available_microusd)

    def may(self, right: Right) -> bool:
        membership = getattr(self.request, "membership", None)
        return membership is None or membership.may(right)

    @cached_property
    def navigation(self) -> list[Group]:
        return [
            Group(
                "",
                [
                    self.link(gettext("Overview"), "home", reverse("portal:dashboard")),
                    *(
                        [self.link(gettext("Playground"), "play", reverse("dispatch:playground"))]
                        if self.may(Right.WORK)
                        else []
                    ),
                    self.link(gettext("Models"), "models", reverse("portal:models")),
                    self.link(gettext("Jobs"), "jobs", reverse("jobs:history")),
                    self.link(gettext("Batches"), "batch", reverse("batches:index"), counts="batches"),
                ],
            ),
            Group(
                gettext("Build"),
                [
                    self.link(gettext("API keys"), "key", reverse("keys:index")),
                    *(
                        [self.link(gettext("Webhooks"), "bolt", reverse("webhooks:index"))]
                        if self.may(Right.WEBHOOKS)
                        else []
                    ),
                    self.link(gettext("Docs"), "docs", reverse("portal:docs")),
                ],
            ),
            Group(
                gettext("Account"),
                [
                    self.link(gettext("Usage"), "usage", reverse("jobs:usage")),
                    self.link(gettext("Billing"), "card", reverse("billing:overview"), but=reverse("billing:limits")),
                    self.link(gettext("Limits"), "limit", reverse("billing:limits")),
                    self.link(gettext("Members"), "team", reverse("portal:members")),
                    self.link(gettext("Organization"), "gear", reverse("portal:organization")),
                ],
            ),
        ]

    def link(self, text: str, icon: str, url: str, *, but: str = "", counts: str = "") -> Link:
        """`but` is a page below it with a link of its own."""
        path = self.request.path
        return Link(text, icon, url, path.startswith(url) and not (but and path.startswith(but)), counts)


def shell(request: HttpRequest) -> dict[str, object]:
    return {"shell": Shell(request)}
