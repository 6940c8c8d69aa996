"""Writes the demo: people, credit, a key, what is sold and where it runs. Every step may run again and changes nothing then."""

import json
import secrets
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction
from django.utils.text import slugify

from apps.accounts.models import Organization, User
from apps.billing.models import Plan
from apps.catalog.models import Model, PriceVersion
from apps.keys import secrets as key_secrets
from apps.keys import services as keys
from apps.keys.models import APIKey
from apps.portal import sample
from apps.portal.services import welcome
from apps.sites import nodes
from apps.sites.models import Node, Pool, Site

EngineKind = Literal["chat", "embeddings"]


@dataclass(frozen=True)
class Engine:
    """An OpenAI-compatible engine the user already has; `models` are the names it answers to."""

    url: str
    key: str
    models: list[str] = field(default_factory=list)


class EngineAway(Exception):
    """The engine at ENGINE_URL did not tell its models; the message says why."""


def ask(url: str, key: str) -> Engine:
    """Which models an engine serves. Raises EngineAway."""
    url = url.rstrip("/")
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(f"{url}/models", headers=headers, timeout=10).raise_for_status()
        return Engine(url, key, [str(model["id"]) for model in answer.json()["data"]])
    except httpx.HTTPStatusError as error:
        raise EngineAway(f"{url}/models answered {error.response.status_code}") from None
    except httpx.HTTPError as error:
        raise EngineAway(f"{url}/models did not answer ({type(error).__name__})") from None
    except (ValueError, KeyError, TypeError):
        raise EngineAway(
            f"{url}/models did not answer with a list of models; give the address that ends in /v1"
        ) from None


def seed(*, engine: Engine | None = None) -> dict[str, str]:
    """Everything, in one transaction; then `demo.json` and `runner.toml` in the portal's directory. Returns the demo."""
    demo_path, runner_path = settings.VAR / "demo.json", settings.VAR / "runner.toml"
    before = read_json(demo_path)
    token = read_token(runner_path)
    with transaction.atomic():
        password = before.get("password") or new_password()
        staff_password = before.get("staff_password") or new_password()
        user = person(sample.EMAIL, password)
        person(sample.STAFF_EMAIL, staff_password, is_staff=True, is_superuser=True)
        organization = organization_of(user)
        secret = key_for(organization, user, before.get("api_key", ""))
        for name, fields in sample.MODELS.items():
            offer(name, fields, sample.PRICES[name])
        for code, fields in sample.PLANS.items():
            Plan.objects.get_or_create(code=code, defaults=fields)  # what staff changed since stays
        node = node_with(token)
        pools = [pool(node, code, **fields) for code, fields in sample.POOLS.items()]
        served = [(pool, sample_engine(pool.code)) for pool in pools]
        served += engine_pools(node, engine) if engine else []
        retire(node, keep=[pool.pk for pool, _ in served])
    demo = {
        "base_url": settings.BASE_URL,
        "email": sample.EMAIL,
        "password": password,
        "staff_email": sample.STAFF_EMAIL,
        "staff_password": staff_password,
        "organization": organization.name,
        "api_key": secret,
    }
    write_private(demo_path, json.dumps(demo, indent=2) + "\n")
    write_private(runner_path, runner_config(token, served))
    return demo


def new_password() -> str:
    return secrets.token_urlsafe(12)


def person(email: str, password: str, **fields: bool) -> User:
    """A user with a verified address whose password is what demo.json says."""
    user = User.objects.filter(email=email).first() or User.objects.create_user(email, password, **fields)
    if not user.check_password(password):
        user.set_password(password)
        user.save()
    EmailAddress.objects.get_or_create(user=user, email=email, defaults={"verified": True, "primary": True})
    return user


def organization_of(user: User) -> Organization:
    found = Organization.objects.filter(name=sample.ORGANIZATION, memberships__user=user).first()
    return found or welcome(user=user, organization_name=sample.ORGANIZATION)


def key_for(organization: Organization, user: User, secret: str) -> str:
    """The key in demo.json while it is in force; otherwise a new one, and the lost one ends."""
    mine = APIKey.objects.filter(organization=organization, name=sample.KEY_NAME).active()
    if secret and mine.filter(sha256=key_secrets.digest(secret)).exists():
        return secret
    for lost in mine:
        keys.revoke(key=lost, user=user, reason="The file with its secret was lost")
    return keys.issue(organization=organization, name=sample.KEY_NAME, user=user)[1]


def offer(name: str, fields: dict[str, Any], price: dict[str, int], *, once: dict[str, Any] | None = None) -> Model:
    """A model on offer; a price version is added only where the price differs from the one in force.

    `once` is for a model that is new; what staff changed of it since stays.
    """
    given = {**fields, "listed": True}
    model, _ = Model.objects.update_or_create(name=name, defaults=given, create_defaults={**given, **(once or {})})
    units = ("input_microusd_per_mtok", "output_microusd_per_mtok", "request_microusd", "page_microusd")
    wanted = {
        "cached_input_microusd_per_mtok": price.get("cached_input_microusd_per_mtok"),
        **{unit: price.get(unit, 0) for unit in units},
    }
    latest = PriceVersion.objects.filter(model=model).first()  # the newest
    if latest is None or any(getattr(latest, unit) != value for unit, value in wanted.items()):
        PriceVersion.objects.create(model=model, effective_at=datetime.now(UTC), **wanted)
    return model


def node_with(token: str) -> Node:
    site, _ = Site.objects.update_or_create(code=sample.SITE["code"], defaults=sample.SITE)
    node, _ = Node.objects.update_or_create(
        code=sample.NODE,
        defaults={"site": site, "token_sha256": nodes.digest(token)},
        create_defaults={"site": site, "token_sha256": nodes.digest(token), "state": Node.State.ADMITTED},
    )
    return node


def pool(node: Node, code: str, *, model: str, slots: int) -> Pool:
    fields = {"model": Model.objects.get(name=model), "node": node, "slots": slots, "draining": False}
    return Pool.objects.update_or_create(code=code, defaults=fields)[0]


def sample_engine(code: str) -> dict[str, str]:
    if code not in sample.ENGINE_FILES:
        return {"engine": "rapidocr"}
    return {"engine": "llama", "gguf": str(settings.VAR / "models" / sample.ENGINE_FILES[code])}


def engine_pools(node: Node, engine: Engine) -> list[tuple[Pool, dict[str, str]]]:
    """One model and one pool for each name the engine answers to."""
    made = []
    for engine_name in engine.models:
        name = (engine_name if "/" in engine_name.strip("/") else f"engine/{engine_name}")[:100]
        if name in sample.MODELS:
            continue
        kind: EngineKind = "embeddings" if "embed" in engine_name.lower() else "chat"
        fields = {
            "title": engine_name.rsplit("/", 1)[-1][:120],
            "kind": kind,
            "description": f"Served by the engine you named, at {engine.url}. Its limits and price are examples.",
            "engine_name": engine_name,
            **sample.ENGINE_LIMITS,
        }
        offer(name, fields, sample.ENGINE_PRICE, once={"capabilities": sample.ENGINE_CAPABILITIES[kind]})
        code = f"engine-{slugify(name.replace('/', '-').replace('.', '-'))}"[:50]
        row = pool(node, code, model=name, slots=sample.ENGINE_SLOTS)
        made.append((row, {"engine": "url", "url": engine.url, "key": engine.key}))
    return made


def retire(node: Node, *, keep: list[int]) -> None:
    """Pools of an engine that was named once and is not now: not ready, and their models off the list."""
    gone = Pool.objects.filter(node=node).exclude(pk__in=keep)
    Model.objects.filter(pools__in=gone).update(listed=False)
    gone.update(ready=False, draining=True, reason="Its engine was not named at the last start")


def runner_config(token: str, served: list[tuple[Pool, dict[str, str]]]) -> str:
    top = {
        "portal_url": settings.BASE_URL.replace("//localhost", "//127.0.0.1"),  # one address family, no look-up
        "redis_url": settings.REDIS_URL,
        "broker_url": settings.CELERY_BROKER_URL,
        "node_token": token,
        "spool": str(settings.VAR / "spool"),
        "models_dir": str(settings.VAR / "models"),
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in top.items()]
    for row, engine in served:
        values = {
            "code": row.code,
            "kind": row.model.kind,
            "slots": row.slots,
            "model": row.model.engine_name,
            **engine,
        }
        lines += ["", "[[pools]]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def read_json(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_token(path: Path) -> str:
    """The node's token of the last start, or a new one."""
    try:
        return str(tomllib.loads(path.read_text())["node_token"])
    except (OSError, ValueError, KeyError):
        return nodes.new_token()


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, readable by its owner alone."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)
