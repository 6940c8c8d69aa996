"""Every setting, in reading order. The only reader of the environment; the defaults run a laptop."""

import hashlib
import hmac
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parent.parent


def env(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


def env_bool(name: str, default: bool = False) -> bool:
    return env(name, "1" if default else "0").strip().lower() in {"1", "true", "yes", "on"}


def env_int(name: str, default: int) -> int:
    return int(env(name) or default)


def env_float(name: str, default: float) -> float:
    return float(env(name) or default)


def env_list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in env(name, default).split(",") if part.strip()]


def env_secret(name: str, default: str = "") -> str:
    """`NAME`, or the content of the file `NAME_FILE` points at."""
    path = env(f"{name}_FILE")
    return Path(path).read_text().strip() if path else env(name, default)


# What kind of portal this is -------------------------------------------------------------------------------------------
# DEMO: one machine, sample data, mails as files with a page that lists them. Production sets DEMO=0 and its own secrets.
DEMO = env_bool("DEMO", default=True)
DEBUG = env_bool("DEBUG", default=False)
FAILED_PARTS_RAISE = DEBUG  # a part of a page that cannot be read is then the page's own error
VAR = Path(env("PORTAL_VAR", str(ROOT / "var"))).resolve()
BASE_URL = env("BASE_URL", f"http://localhost:{env('PORT') or '8000'}").rstrip("/")
SECRET_KEY = env_secret("SECRET_KEY", "demo-only-secret-key-that-production-refuses" if DEMO else "")
SECRET_KEY_FALLBACKS = env_secret("SECRET_KEY_FALLBACKS").replace(",", " ").split()  # what was replaced still opens
# What encrypts the text of jobs at rest: the first seals, all of them open (apps/files/sealing.py). Without, SECRET_KEY.
CONTENT_KEYS = env_secret("CONTENT_KEYS").replace(",", " ").split()
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if DEMO else "")
CSRF_TRUSTED_ORIGINS = env_list("CSRF_TRUSTED_ORIGINS", BASE_URL)

# Who runs this portal, for the legal pages.
OPERATOR_NAME = env("OPERATOR_NAME")
OPERATOR_ADDRESS = env("OPERATOR_ADDRESS")
OPERATOR_EMAIL = env("OPERATOR_EMAIL")

# An OpenAI-compatible engine the demo's user already has; its models join the demo's catalog.
ENGINE_URL = env("ENGINE_URL")
ENGINE_KEY = env_secret("ENGINE_KEY")

# Servers ---------------------------------------------------------------------------------------------------------------
DATABASE_URL = env_secret("DATABASE_URL", f"postgresql://postgres@/portal?host={VAR}/postgres")
REDIS_URL = env_secret("REDIS_URL", f"unix://{VAR}/valkey.sock")
CELERY_BROKER_URL = env_secret("CELERY_BROKER_URL", REDIS_URL.replace("unix://", "redis+socket://"))
# As sites reach them, without user and password: each enrolled node gets its own, cut to its pools. Empty: none is given out.
SITES_REDIS_URL = env("SITES_REDIS_URL")
# Where RabbitMQ carries the orders: its management API, with a user that may administer. Nodes' users are made there.
RABBITMQ_MANAGEMENT_URL = env_secret("RABBITMQ_MANAGEMENT_URL")
SITES_BROKER_URL = env("SITES_BROKER_URL", SITES_REDIS_URL)


def database(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {"pool": {"min_size": 1, "max_size": env_int("DATABASE_CONNECTIONS", 8), "timeout": 10}, **query},
    }


DATABASES = {"default": database(DATABASE_URL)}
DOOR_DATABASE_CONNECTIONS = env_int("DOOR_DATABASE_CONNECTIONS", 8)
CACHES = {
    "default": {
        "BACKEND": "cango_portal.cache.ForgetfulCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "cache",
        "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Apps: from the customer's pages down to the words everybody shares ------------------------------------------------------
INSTALLED_APPS = [
    "apps.portal",
    "apps.operations",
    "apps.gateway",
    "apps.agents",
    "apps.batches",
    "apps.dispatch",
    "apps.jobs",
    "apps.scheduling",
    "apps.telemetry",
    "apps.billing",
    "apps.keys",
    "apps.sites",
    "apps.ledger",
    "apps.catalog",
    "apps.files",
    "apps.webhooks",
    "apps.live",
    "apps.accounts",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "channels",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
]
MIDDLEWARE = [
    "apps.portal.parts.PartsMiddleware",  # whatever those below refuse, its page has parts too
    "apps.portal.streaming.StreamingMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "apps.portal.compression.CompressionMiddleware",
    "csp.middleware.CSPMiddleware",
    "apps.portal.reporting.ReportingMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apps.accounts.middleware.LanguageMiddleware",  # the person may have chosen one
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "apps.accounts.middleware.SignedOutMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "apps.accounts.whence.WhenceMiddleware",
    "apps.accounts.middleware.OrganizationMiddleware",
    "apps.accounts.middleware.TimeZoneMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "cango_portal.urls"
ASGI_APPLICATION = "cango_portal.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apps.portal.context.shell",
            ],
            "builtins": [
                "django.templatetags.i18n",
                "apps.portal.templatetags.times",
                "apps.portal.templatetags.numbers",
                "apps.portal.templatetags.icons",
                "apps.portal.templatetags.controls",
                "apps.portal.templatetags.parts",
                "apps.accounts.templatetags.letters",
            ],
        },
    }
]

# Accounts ----------------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/dashboard/"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_ADAPTER = "apps.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "apps.accounts.forms.LoginForm",
    "signup": "apps.accounts.forms.SignupForm",
    "reset_password": "apps.accounts.forms.ResetPasswordForm",
    "reset_password_from_key": "apps.accounts.forms.ResetPasswordKeyForm",
    "change_password": "apps.accounts.forms.ChangePasswordForm",
    "reauthenticate": "apps.accounts.forms.ReauthenticateForm",
}
ALLAUTH_TRUSTED_PROXY_COUNT = env_int("TRUSTED_PROXIES", 0)  # limits on guessing count by the client's address
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True  # only in the browser that signed up
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
ACCOUNT_RATE_LIMITS = {"confirm_email": "1/60s/key"}  # a new link after a minute; the rest as allauth has it
ACCOUNT_EMAIL_CONFIRMATION_ANONYMOUS_REDIRECT_URL = LOGIN_URL
ACCOUNT_DEFAULT_HTTP_PROTOCOL = BASE_URL.partition(":")[0]
ACCOUNT_EMAIL_NOTIFICATIONS = True  # of what guards the account: password and factors
MFA_ADAPTER = "apps.accounts.adapter.FactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_USER_VERIFICATION = "required"  # by a finger or a PIN, in every ceremony: one challenge serves them all
MFA_TOTP_ISSUER = "Cango Portal"
MFA_FORMS = {
    "add_webauthn": "apps.accounts.forms.AddPasskeyForm",
    "edit_webauthn": "apps.accounts.forms.RenamePasskeyForm",
    "login_webauthn": "apps.accounts.forms.PasskeyLoginForm",
    "authenticate_webauthn": "apps.accounts.forms.PasskeyForm",
    "reauthenticate_webauthn": "apps.accounts.forms.PasskeyConfirmForm",
}
STARTER_CREDIT_MICROUSD = env_int("STARTER_CREDIT_MICROUSD", 5_000_000)

EMAIL_BACKEND = env(
    "EMAIL_BACKEND",
    "django.core.mail.backends.filebased.EmailBackend" if DEMO else "django.core.mail.backends.smtp.EmailBackend",
)
EMAIL_FILE_PATH = VAR / "mail"
EMAIL_HOST = env("EMAIL_HOST", "localhost")
EMAIL_PORT = env_int("EMAIL_PORT", 25)
EMAIL_HOST_USER = env("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env_secret("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env_bool("EMAIL_USE_TLS")
EMAIL_TIMEOUT = 10  # seconds: some mails are sent in the transaction that marks them as sent
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL", "Cango Portal <portal@localhost>")

# Work: Celery for the portal's own slow tasks; leases of jobs -------------------------------------------------------------
DISPATCH_LEASE_SECONDS = env_float("DISPATCH_LEASE_SECONDS", 10)
INTERACTIVE_LEASE_SECONDS = env_float("INTERACTIVE_LEASE_SECONDS", 10)
SHARD_LEASE_SECONDS = env_float("SHARD_LEASE_SECONDS", 45)  # of a batch: nobody waits for it now
MAINTENANCE_NOTICE_SECONDS = env_int("MAINTENANCE_NOTICE_SECONDS", 24 * 3600)  # announced later, it is no excuse
# Attempts in a row that record nothing; then the rows that are missing fail.
BATCH_SHARD_ATTEMPTS = env_int("BATCH_SHARD_ATTEMPTS", 6)
BATCH_INPUT_TOKENS = env_int("BATCH_INPUT_TOKENS", 500_000_000)  # of an organization's batches of one model; 0: any
TELEMETRY_RETENTION_DAYS = env_int("TELEMETRY_RETENTION_DAYS", 400)  # of minutes: a year can be compared with the last
FEEDS_DIR = Path(env("FEEDS_DIR", str(VAR / "feeds")))  # files of prices, carbon and meters; feeds name none outside it
MAX_ATTEMPTS = env_int("MAX_ATTEMPTS", 3)
JOB_DEADLINE_SECONDS = env_int("JOB_DEADLINE_SECONDS", 24 * 3600)
FLEXIBLE_QUEUE_SECONDS = env_int("FLEXIBLE_QUEUE_SECONDS", 600)  # an interactive request that pays less waits so long
RUN_SECONDS = env_int("RUN_SECONDS", 3600)
CELERY_TASK_DEFAULT_QUEUE = "portal"
CELERY_BEAT_SCHEDULE = {
    "billing.sweep_events": {"task": "billing.sweep_events", "schedule": 30.0},
    "billing.fetch_missed_events": {"task": "billing.fetch_missed_events", "schedule": 3600.0},
    "billing.ask_again": {"task": "billing.ask_again", "schedule": 60.0},
    "billing.read_fees": {"task": "billing.read_fees", "schedule": 3600.0},
    "billing.top_up_automatically": {"task": "billing.top_up_automatically", "schedule": 10.0},
    "billing.warn": {"task": "billing.warn", "schedule": 15.0},
    "batches.sweep": {"task": "batches.sweep", "schedule": 5.0, "options": {"expires": 5}},
    "dispatch.forget_texts": {"task": "dispatch.forget_texts", "schedule": 30.0, "options": {"expires": 30}},
    "dispatch.forget_all_texts": {"task": "dispatch.forget_texts", "schedule": 3600.0, "kwargs": {"thorough": True}},
    "dispatch.forget_receipts": {"task": "dispatch.forget_receipts", "schedule": 3600.0},
    "files.expire": {"task": "files.expire", "schedule": 30.0, "options": {"expires": 30}},
    "keys.warn_of_expiry": {"task": "keys.warn_of_expiry", "schedule": 600.0},
    "ledger.sweep": {"task": "ledger.sweep", "schedule": 60.0},
    "ledger.sum_charges": {"task": "ledger.sum_charges", "schedule": 300.0, "options": {"expires": 300}},
    "jobs.sum_hours": {"task": "jobs.sum_hours", "schedule": 300.0, "options": {"expires": 300}},
    "jobs.forget_refusals": {"task": "jobs.forget_refusals", "schedule": 3600.0},
    "sites.read_feeds": {"task": "sites.read_feeds", "schedule": 60.0, "options": {"expires": 60}},
    "sites.forget_feeds": {"task": "sites.forget_feeds", "schedule": 86_400.0},
    "telemetry.reconcile": {"task": "telemetry.reconcile", "schedule": 60.0, "options": {"expires": 60}},
    "telemetry.forget": {"task": "telemetry.forget", "schedule": 3600.0},
    "portal.sweep": {"task": "portal.sweep", "schedule": 60.0, "options": {"expires": 60}},
    "operations.look": {"task": "operations.look", "schedule": 60.0, "options": {"expires": 60}},
    "operations.reconcile": {"task": "operations.reconcile", "schedule": crontab(hour=2, minute=30)},  # UTC
    "webhooks.deliver": {"task": "webhooks.deliver", "schedule": 15.0, "options": {"expires": 15}},
    "webhooks.forget": {"task": "webhooks.forget", "schedule": 3600.0},
}

# Money: Stripe, or without its keys a double of it on this machine ---------------------------------------------------------
# PORTAL_SANDBOX_MONEY lets a portal with DEMO=0 run on the double: for staging, never beside a key of Stripe's.
ALLOW_SANDBOX_MONEY = env_bool("PORTAL_SANDBOX_MONEY")
STRIPE_SECRET_KEY = env_secret("STRIPE_SECRET_KEY")
SANDBOX_MONEY = not STRIPE_SECRET_KEY
STRIPE_API_VERSION = "2026-10-28.endive"  # what the locked library speaks
STRIPE_API_BASE = f"{BASE_URL.replace('//localhost', '//127.0.0.1')}/sandbox/stripe" if SANDBOX_MONEY else ""
STRIPE_WEBHOOK_SECRETS = env_secret("STRIPE_WEBHOOK_SECRETS").replace(",", " ").split()  # two while one is rotated
if SANDBOX_MONEY:
    STRIPE_SECRET_KEY = "sk_sandbox_portal"  # noqa: S105 - opens nothing: the double asks for it only to find mistakes
    STRIPE_WEBHOOK_SECRETS = [f"whsec_{hmac.digest(SECRET_KEY.encode(), b'sandbox money', hashlib.sha256).hex()}"]
    CELERY_BEAT_SCHEDULE |= {
        "billing.sandbox_sweep": {"task": "billing.sandbox_sweep", "schedule": 15.0, "options": {"expires": 15}},
        "billing.sandbox_go_on": {"task": "billing.sandbox_go_on", "schedule": 60.0, "options": {"expires": 60}},
    }
STRIPE_TAX = env_bool("STRIPE_TAX")
STRIPE_TIMEOUT_SECONDS = env_float("STRIPE_TIMEOUT_SECONDS", 20)
STRIPE_RETRIES = env_int("STRIPE_RETRIES", 2)  # of a call that got no answer, at once, with its idempotency key
TOP_UP_MIN_CENTS = env_int("TOP_UP_MIN_CENTS", 500)
TOP_UP_MAX_CENTS = env_int("TOP_UP_MAX_CENTS", 1_000_000)
REFUND_DAYS = env_int("REFUND_DAYS", 14)
SUBSCRIPTION_GRACE_DAYS = env_int("SUBSCRIPTION_GRACE_DAYS", 7)
PAYG_MAX_OPEN_JOBS = env_int("PAYG_MAX_OPEN_JOBS", 1000)  # without a plan

# Rate limits of an organization that has none of its own (`keys.RateLimit`); 0 is no limit. WEB_PROCESSES share them while
# Valkey is away.
RATE_LIMITS = {
    "requests": env_int("RATE_REQUESTS_PER_MINUTE", 6_000),
    "input_tokens": env_int("RATE_INPUT_TOKENS_PER_MINUTE", 20_000_000),
    "output_tokens": env_int("RATE_OUTPUT_TOKENS_PER_MINUTE", 10_000_000),
    "concurrent": env_int("RATE_CONCURRENT_REQUESTS", 500),
}
WEB_PROCESSES = env_int("WEB_PROCESSES", 1)

# Webhooks to customers: only to public addresses, unless a laptop or a test says otherwise ----------------------------------
WEBHOOKS_ALLOW_PRIVATE = env_bool("WEBHOOKS_ALLOW_PRIVATE")
WEBHOOK_TIMEOUT_SECONDS = env_float("WEBHOOK_TIMEOUT_SECONDS", 10)  # one attempt, from the resolver to the last byte

# Files -----------------------------------------------------------------------------------------------------------------------
MEDIA_ROOT = VAR / "files"
MAX_FILE_BYTES = env_int("MAX_FILE_BYTES", 20 * 1024 * 1024)
BOOKS_YEARS = env_int("BOOKS_YEARS", 10)  # how long the law of the operator asks to keep bookings: pages say so
FILE_RETENTION_SECONDS = env_int("FILE_RETENTION_SECONDS", 7 * 24 * 3600)
MAX_UPLOAD_BYTES = env_int("MAX_UPLOAD_BYTES", 512 * 1024 * 1024)  # to /v1/files; the official limits, also the next
MAX_BATCH_FILE_BYTES = env_int("MAX_BATCH_FILE_BYTES", 200 * 1024 * 1024)
BATCH_FILE_RETENTION_SECONDS = env_int("BATCH_FILE_RETENTION_SECONDS", 30 * 24 * 3600)
ORGANIZATION_STORAGE_BYTES = env_int("ORGANIZATION_STORAGE_BYTES", 10 * 1024**3)  # all files of one organization
UPLOADS = VAR / "uploads"  # where a file is gathered before it is stored; on a disk, not in memory
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
MAX_BODY_BYTES = env_int("MAX_BODY_BYTES", 8 * 1024 * 1024)


PLAIN_FILES = env_bool("PLAIN_FILES", True)  # whether files that were stored before they were encrypted are read


def file_storage() -> dict[str, Any]:
    """Where files lie, encrypted: below `PORTAL_VAR`, in any store that speaks S3 (STORAGE_BACKEND=s3), or in a class of yours."""
    return {"BACKEND": "apps.files.vault.SealedStorage", "OPTIONS": {"store": file_store()}}


def file_store() -> dict[str, Any]:
    """The options are those of django-storages 1.14, "Amazon S3". Parts go one after the other, so that an upload holds one
    part (8 MiB) and not ten; a download is spooled to the disk, not to memory.
    """
    backend = env("STORAGE_BACKEND", "disk")
    if backend == "disk":
        return {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    if backend != "s3":
        return {"BACKEND": backend}
    if not env("STORAGE_BUCKET"):
        raise ImproperlyConfigured("STORAGE_BACKEND=s3 needs STORAGE_BUCKET, the name of the bucket.")
    from boto3.s3.transfer import TransferConfig

    given = {
        "bucket_name": env("STORAGE_BUCKET"),
        "endpoint_url": env("STORAGE_ENDPOINT_URL"),
        "region_name": env("STORAGE_REGION"),
        "access_key": env_secret("STORAGE_ACCESS_KEY"),
        "secret_key": env_secret("STORAGE_SECRET_KEY"),
        "location": env("STORAGE_PREFIX"),
        "addressing_style": env("STORAGE_ADDRESSING_STYLE"),
    }
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            **{name: value for name, value in given.items() if value},
            "default_acl": None,
            "querystring_auth": True,
            "file_overwrite": True,  # names are ids of ours
            "max_memory_size": 1024 * 1024,
            "transfer_config": TransferConfig(use_threads=False),
        },
    }


# Pages -------------------------------------------------------------------------------------------------------------------------
STATIC_URL = "static/"
STATICFILES_DIRS = [ROOT / "static"]
STATIC_ROOT = VAR / "static"
STORAGES = {
    "default": file_storage(),
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if env_bool("STATIC_MANIFEST", not DEMO)
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEMO
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [ROOT / "cango_portal" / "locale"]  # texts of all pages; each app has its own besides
LANGUAGE_COOKIE_NAME = "language"
FORMAT_MODULE_PATH = "cango_portal.formats"
TIME_ZONE = "UTC"
USE_TZ = True
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF, "https://checkout.stripe.com", "https://billing.stripe.com"],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "report-uri": "/csp/",
        "report-to": "csp",
    }
}
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
HTTPS = BASE_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-session" if HTTPS else "session"
SESSION_COOKIE_AGE = 14 * 24 * 3600

# The management API --------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.keys.authentication.APIKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "apps.keys.authentication.error_response",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cango Portal",
    "VERSION": "1",
    "DESCRIPTION": "Jobs, balance and models of an organization. Inference itself is OpenAI-compatible, at /v1.",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "ENUM_NAME_OVERRIDES": {
        "KeyState": "apps.keys.serializers.STATES",
        "JobState": "apps.jobs.models.Job.State",
        "BatchState": "apps.batches.models.Batch.State",
        "WebhookDeliveryState": "apps.webhooks.models.Delivery.State",
        "ModelKind": "apps.catalog.models.Model.Kind",
        "JobKind": "apps.jobs.models.Job.Kind",
        "JobTier": "apps.catalog.models.Tier",
        "WantedTier": "apps.dispatch.api.TIERS",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apps.gateway.openapi.add_inference",
    ],
}

# Logs -------------------------------------------------------------------------------------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "apps.core.logging.JSONFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": env("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"handlers": ["console"], "level": "WARNING", "propagate": False},
        "httpx": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},
    },
}
