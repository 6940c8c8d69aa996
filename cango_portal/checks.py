"""System checks that refuse to run production on a demo's settings (DEMO=0), and a bad mix of money anywhere.

`apps.portal` registers them.
"""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured

DEMO_SECRET = "demo-only"  # noqa: S105 - the beginning of the default that everybody knows
SHORT_SECRET = 50  # characters; what Django's own check asks for
UNSENT_MAIL = ("filebased", "locmem", "console", "dummy")


def production(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """What mixes sandbox and real money; in production also every setting that only a demo may have."""
    return [*money(), *([] if settings.DEMO else [*secrets(), *addresses(), *servers(), *mail(), *webhooks()])]


def secrets() -> Iterator[CheckMessage]:
    try:
        secret = settings.SECRET_KEY
    except ImproperlyConfigured:
        secret = ""
    if len(secret) < SHORT_SECRET or secret.startswith(DEMO_SECRET):
        yield Error(
            "SECRET_KEY is missing, the demo's, or shorter than 50 characters.",
            hint="Set SECRET_KEY, or SECRET_KEY_FILE to a file with it. docs/deploy.md shows how to make one.",
            id="portal.E001",
        )
    if settings.DEBUG:
        yield Error("DEBUG is on: error pages would show settings and data.", hint="Remove DEBUG.", id="portal.E002")


def addresses() -> Iterator[CheckMessage]:
    base = urlsplit(settings.BASE_URL)
    if base.scheme != "https":
        yield Error(
            f"BASE_URL is {settings.BASE_URL}: keys and passwords would travel in the clear.",
            hint="Set BASE_URL to the https address customers use.",
            id="portal.E003",
        )
    if not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS:
        yield Error(
            "ALLOWED_HOSTS is empty or allows every host.",
            hint="Set ALLOWED_HOSTS to the names of the portal, with commas between.",
            id="portal.E004",
        )
    elif not any(
        base.hostname == host or (host.startswith(".") and f".{base.hostname}".endswith(host))
        for host in settings.ALLOWED_HOSTS
    ):
        yield Error(
            f"The host of BASE_URL ({base.hostname}) is not in ALLOWED_HOSTS, so every page would answer 400.",
            hint="Add it to ALLOWED_HOSTS.",
            id="portal.E005",
        )


def servers() -> Iterator[CheckMessage]:
    """The embedded servers trust everybody on their socket and keep no copy of the data."""
    places = (
        ("DATABASE_URL", settings.DATABASE_URL, "portal.E006"),
        ("REDIS_URL", settings.REDIS_URL, "portal.E007"),
        ("CELERY_BROKER_URL", settings.CELERY_BROKER_URL, "portal.E008"),
    )
    for name, url, code in places:
        if not url or str(settings.VAR) in url or "/var/tmp/cango-" in url:  # noqa: S108 - where the launcher may put them
            yield Error(
                f"{name} is missing or points at the demo's embedded server.",
                hint=f"Set {name} to your own server. docs/deploy.md says what it needs.",
                id=code,
            )
        elif (
            name != "DATABASE_URL"
            and urlsplit(url).scheme == "redis"
            and urlsplit(url).hostname not in {"localhost", "127.0.0.1", "::1"}
        ):
            yield Warning(
                f"{name} reaches {urlsplit(url).hostname} without TLS.",
                hint="Use rediss:// unless that network is yours alone.",
                id="portal.W001",
            )


def mail() -> Iterator[CheckMessage]:
    if any(kind in settings.EMAIL_BACKEND for kind in UNSENT_MAIL):
        yield Error(
            f"EMAIL_BACKEND is {settings.EMAIL_BACKEND}: nobody would get the mail that verifies an address.",
            hint="Remove EMAIL_BACKEND and set EMAIL_HOST.",
            id="portal.E009",
        )
    if settings.DEFAULT_FROM_EMAIL.rstrip(">").endswith("@localhost"):
        yield Error(
            "DEFAULT_FROM_EMAIL still ends in @localhost, which mail servers refuse.",
            hint="Set DEFAULT_FROM_EMAIL to an address of your domain.",
            id="portal.E010",
        )


def webhooks() -> Iterator[CheckMessage]:
    if settings.WEBHOOKS_ALLOW_PRIVATE:
        yield Error(
            "WEBHOOKS_ALLOW_PRIVATE is on: customers could have this portal call addresses inside your network.",
            hint="Remove WEBHOOKS_ALLOW_PRIVATE.",
            id="portal.E020",
        )


def money() -> Iterator[CheckMessage]:
    """Sandbox money buys real GPU time, so production takes it only where it was asked for, and never beside Stripe."""
    if settings.SANDBOX_MONEY:
        if not settings.DEMO and not settings.ALLOW_SANDBOX_MONEY:
            yield Error(
                "STRIPE_SECRET_KEY is missing, so anybody could add credit without paying (sandbox money).",
                hint="Set STRIPE_SECRET_KEY, or PORTAL_SANDBOX_MONEY=1 on a portal where nobody pays.",
                id="portal.E011",
            )
        return
    if settings.ALLOW_SANDBOX_MONEY:
        yield Error(
            "PORTAL_SANDBOX_MONEY=1 stands beside a STRIPE_SECRET_KEY: a portal has real money or sandbox money.",
            hint="Remove one of the two.",
            id="portal.E012",
        )
    if not settings.STRIPE_WEBHOOK_SECRETS:
        yield Error(
            "STRIPE_WEBHOOK_SECRETS is missing: customers could pay, and no payment would become credit.",
            hint="Set it to the signing secret of the endpoint /webhooks/stripe/ (whsec_…).",
            id="portal.E013",
        )
    if settings.DEMO and live(settings.STRIPE_SECRET_KEY):
        yield Error(
            "STRIPE_SECRET_KEY is a live key in a demo: its sessions are signed with a secret that everybody knows.",
            hint="Use a test key (sk_test_…), or set DEMO=0 and production's own secrets.",
            id="portal.E014",
        )


def live(key: str) -> bool:
    return key.startswith(("sk_live_", "rk_live_"))


def refuse() -> None:
    """For processes that run no system checks of their own (the web server): end with the errors, one a line."""
    errors = [message for message in production() if message.is_serious()]
    if errors:
        lines = [f"{error.id}: {error.msg} {error.hint}" for error in errors]
        raise SystemExit("The portal refuses to start with these settings:\n" + "\n".join(lines))
