import pytest

from cango_portal import checks

GOOD = {
    "DEMO": False,
    "DEBUG": False,
    "SECRET_KEY": "x7" * 40,
    "BASE_URL": "https://portal.example.com",
    "ALLOWED_HOSTS": ["portal.example.com"],
    "DATABASE_URL": "postgresql://portal:secret@db.internal/portal",
    "REDIS_URL": "rediss://cache.internal/0",
    "CELERY_BROKER_URL": "rediss://broker.internal/0",
    "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
    "DEFAULT_FROM_EMAIL": "Cango Portal <portal@example.com>",
    "SANDBOX_MONEY": False,
    "ALLOW_SANDBOX_MONEY": False,
    "STRIPE_SECRET_KEY": "sk_live_x",
    "STRIPE_WEBHOOK_SECRETS": ["whsec_x"],
}


@pytest.fixture
def production(settings):
    for name, value in GOOD.items():
        setattr(settings, name, value)
    return settings


def found() -> list[str | None]:
    return [message.id for message in checks.production()]


def test_a_good_production_is_not_refused(production):
    assert found() == []
    checks.refuse()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("SECRET_KEY", "demo-only-secret-key-that-production-refuses", "portal.E001"),
        ("SECRET_KEY", "short", "portal.E001"),
        ("SECRET_KEY", "", "portal.E001"),
        ("DEBUG", True, "portal.E002"),
        ("BASE_URL", "http://portal.example.com", "portal.E003"),
        ("ALLOWED_HOSTS", [], "portal.E004"),
        ("ALLOWED_HOSTS", ["*"], "portal.E004"),
        ("ALLOWED_HOSTS", ["other.example.com"], "portal.E005"),
        ("DATABASE_URL", "postgresql://postgres@/portal?host={var}/postgres", "portal.E006"),
        ("DATABASE_URL", "postgresql://postgres@/portal?host=/var/tmp/cango-0123456789ab/postgres", "portal.E006"),
        ("REDIS_URL", "unix://{var}/valkey.sock", "portal.E007"),
        ("CELERY_BROKER_URL", "redis+socket://{var}/valkey.sock", "portal.E008"),
        ("REDIS_URL", "redis://cache.internal/0", "portal.W001"),
        ("EMAIL_BACKEND", "django.core.mail.backends.filebased.EmailBackend", "portal.E009"),
        ("DEFAULT_FROM_EMAIL", "Cango Portal <portal@localhost>", "portal.E010"),
        ("SANDBOX_MONEY", True, "portal.E011"),
        ("ALLOW_SANDBOX_MONEY", True, "portal.E012"),
        ("STRIPE_WEBHOOK_SECRETS", [], "portal.E013"),
        ("WEBHOOKS_ALLOW_PRIVATE", True, "portal.E020"),
    ],
)
def test_each_setting_of_a_demo_is_refused(production, name, value, code):
    setattr(production, name, value.format(var=production.VAR) if isinstance(value, str) else value)
    assert found() == [code]
    if ".E" in code:
        with pytest.raises(SystemExit, match=code):
            checks.refuse()


def test_subdomains_may_be_allowed(production):
    production.ALLOWED_HOSTS = [".example.com"]
    assert found() == []


def test_a_demo_is_not_checked(settings):
    settings.DEMO = True
    assert found() == []


def test_staging_may_run_on_sandbox_money_if_it_says_so(production):
    production.SANDBOX_MONEY = production.ALLOW_SANDBOX_MONEY = True
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("STRIPE_SECRET_KEY", "sk_live_x", "portal.E014"),
        ("STRIPE_SECRET_KEY", "rk_live_x", "portal.E014"),
        ("ALLOW_SANDBOX_MONEY", True, "portal.E012"),
        ("STRIPE_WEBHOOK_SECRETS", [], "portal.E013"),
    ],
)
def test_money_is_checked_in_a_demo_too(settings, name, value, code):
    settings.DEMO, settings.SANDBOX_MONEY, settings.ALLOW_SANDBOX_MONEY = True, False, False
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRETS = "sk_test_x", ["whsec_x"]
    assert found() == []
    setattr(settings, name, value)
    assert found() == [code]
    with pytest.raises(SystemExit, match=code):
        checks.refuse()
