"""Rows for tests, with defaults that are valid together."""

import hashlib
import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.accounts.models import Membership, Organization, User
from apps.catalog.models import Discount, Model, PriceVersion
from apps.core.ids import uuid7
from apps.jobs import sealed
from apps.jobs.models import FINAL, Content, Job
from apps.keys.models import BEFORE_SCOPES, APIKey
from apps.ledger import services as ledger
from apps.sites.models import (
    GPU,
    BurnIn,
    Container,
    Deployment,
    Drain,
    Feed,
    Freeze,
    GoldenPrompt,
    Node,
    NodeEvent,
    Partner,
    Pool,
    PowerCurve,
    Site,
    SpeedCurve,
)
from apps.telemetry.models import MeterAlarm, Minute, SiteMeterReading
from apps.wire.capabilities import Capability

counter = itertools.count(1)


def user(
    *, email: str | None = None, password: str = "correct horse battery", verified: bool = True, **fields: Any
) -> User:
    from allauth.account.models import EmailAddress

    made = User.objects.create_user(email or f"person{next(counter)}@example.org", password, **fields)
    EmailAddress.objects.create(user=made, email=made.email, verified=verified, primary=True)
    return made


def organization(
    *, credit_microusd: int = 0, promotional_microusd: int = 0, owner: User | None = None, name: str = "Meridian Foods"
) -> Organization:
    made = Organization.objects.create(name=name)
    if owner:
        Membership.objects.create(organization=made, user=owner, role=Membership.Role.OWNER)
    ledger.open_account(organization=made)
    for amount, promotional in ((credit_microusd, False), (promotional_microusd, True)):
        if amount:
            ledger.grant(
                organization=made,
                microusd=amount,
                key=f"test:{uuid7()}",
                reason="test",
                actor="test",
                promotional=promotional,
            )
    return made


def api_key(
    organization: Organization,
    *,
    name: str = "test",
    scopes: Iterable[str] = BEFORE_SCOPES,
    user: User | None = None,
    **fields: Any,
) -> tuple[APIKey, str]:
    """A key that may do all but manage keys and members, unless `scopes` says otherwise: of `user`, whatever they may now."""
    from apps.keys import services as keys
    from apps.keys.permits import Permit
    from apps.ledger import budgets

    made = keys.issue(organization=organization, name=name, user=None, permit=Permit(scopes=tuple(scopes), **fields))
    if user is not None:
        made[0].created_by = user
        made[0].save(update_fields=["created_by"])
        budgets.budget_of_member(organization, user)
    return made


def model(
    *,
    kind: str = "chat",
    name: str | None = None,
    input: int = 120_000,
    output: int = 360_000,
    page: int = 0,
    request: int = 0,
    cached: int | None = None,
    batch: int = 5000,
    flexible: int = 7000,
    **fields: Any,
) -> Model:
    name = name or f"acme/model-{next(counter)}"
    made = Model.objects.create(
        **{
            "name": name,
            "title": name,
            "kind": kind,
            "description": "A model for tests.",
            "engine_name": name.split("/")[1],
            "context_tokens": 4096,
            "max_output_tokens": 1024,
            "max_pages": 20,
            "dimensions": 384,
            "capabilities": [term.value for term in Capability],
            "max_choices": 8,
            **fields,
        }
    )
    PriceVersion.objects.create(
        model=made,
        effective_at=datetime.now(UTC) - timedelta(days=1),
        input_microusd_per_mtok=input,
        output_microusd_per_mtok=output,
        page_microusd=page or (1000 if kind == "ocr" else 0),
        request_microusd=request,
        cached_input_microusd_per_mtok=cached,
        batch_basis_points=batch,
        flexible_basis_points=flexible,
    )
    return made


def discount(
    organization: Organization, *, model: Model | None = None, off: int = 1000, by: User | None = None, **fields: Any
) -> Discount:
    """`off` in basis points, in force for the last hour."""
    return Discount.objects.create(
        **{
            "organization": organization,
            "model": model,
            "basis_points": off,
            "starts_at": datetime.now(UTC) - timedelta(hours=1),
            "reason": "test",
            "created_by": by or user(),
            **fields,
        }
    )


def site(**fields: Any) -> Site:
    n = next(counter)
    return Site.objects.create(
        **{
            "code": f"site-{n}",
            "name": f"Site {n}",
            "region": "Georgia",
            "country": "US",
            "grid_gco2e_per_kwh": 380,
            "power_usd_per_mwh": 45,
            **fields,
        }
    )


def node(*, token: str = "", **fields: Any) -> Node:
    n = next(counter)
    digest = hashlib.sha256((token or f"node-{n}").encode()).hexdigest()
    return Node.objects.create(
        **{
            "site": fields.pop("site", None) or site(),
            "code": f"node-{n}",
            "token_sha256": digest,
            "state": Node.State.ADMITTED,
            "heartbeat_at": datetime.now(UTC),
            **fields,
        }
    )


def pool(*, model: Model, slots: int = 4, ready: bool = True, **fields: Any) -> Pool:
    n = next(counter)
    return Pool.objects.create(
        **{
            "code": f"pool-{n}",
            "model": model,
            "node": fields.pop("node", None) or node(),
            "slots": slots,
            "ready": ready,
            **fields,
        }
    )


def partner(**fields: Any) -> Partner:
    n = next(counter)
    return Partner.objects.create(
        **{"code": f"partner-{n}", "name": "Miners", "revenue_share_basis_points": 6000, **fields}
    )


def fleet(beside: Node, *, model: Model, by: User) -> None:
    """Everything else that may stand around a node, and another that was tested."""
    n = next(counter)
    Container.objects.create(site=beside.site, code=f"container-{n}")
    partner()
    GPU.objects.create(uuid=f"GPU-{n}", node=beside)
    Deployment.objects.create(site=beside.site, model=model)
    now = datetime.now(UTC)
    Drain.objects.create(node=beside, purpose="drain", reason="New fans", actor=by, starts_at=now, deadline_at=now)
    Freeze.objects.create(nodes=4, leases=8, running=20, ended_at=now, open=False)
    Feed.objects.create(code=f"feed-{n}", kind="price", adapter="file", address="prices.csv", unit="usd_per_mwh")
    SiteMeterReading.objects.create(site=beside.site, at=now, energy_wh=5)
    MeterAlarm.objects.create(site=beside.site, starts_at=now, ends_at=now, meter_wh=5, counted_wh=4)
    Minute.objects.create(node=beside, uuid=f"GPU-{n}", at=now, energy_mj=5, counted_seconds=5, quality="counter")
    tested = pool(model=model, node=node(site=beside.site, state="burn-in"))
    step = NodeEvent.objects.create(node=tested.node, before="pending", after="burn-in", actor=by, reason="Enrolled")
    GoldenPrompt.objects.create(model=model, body={"messages": []}, expects={"contains": "Paris"})
    test = BurnIn.objects.create(step=step, pool=tested, passed=True, seconds=61)
    SpeedCurve.objects.create(burn_in=test, model=model, concurrency=1, tokens_per_second=140)
    PowerCurve.objects.create(burn_in=test, model=model, concurrency=0, power_w=117, quality="counter")


def job(
    *,
    organization: Organization,
    model: Model,
    state: str = "queued",
    text: str = "",
    request: Any = None,
    **fields: Any,
) -> Job:
    """A job row as it would look in `state`; no hold is made for it."""
    now = datetime.now(UTC)
    final = state in FINAL
    leased = state in ("dispatched", "running")
    made = Job.objects.create(
        **{
            "organization": organization,
            "model": model,
            "price": model.prices.first(),
            "kind": model.kind,
            "interactive": False,
            "state": state,
            "created_at": now,
            "deadline_at": now + timedelta(hours=1),
            "hold_microusd": 1000,
            "charge_microusd": 0 if final else None,
            "finished_at": now if final else None,
            **(
                {
                    "attempt": 1,
                    "fence": uuid7(),
                    "lease_expires_at": now + timedelta(seconds=10),
                    "pool": fields.pop("pool", None) or pool(model=model),
                }
                if leased
                else {}
            ),
            **fields,
        }
    )
    Content.objects.create(
        job=made, sealed_request=sealed.request(made.pk, request), sealed_answer=sealed.answer(made.pk, text)
    )
    made.events.create(number=1, state=state, attempt=made.attempt, at=now)
    return made


def answer(job: Job, *, text: str = "", result: Any = None) -> None:
    """What the job answered, in the place of what it had."""
    Content.objects.filter(job=job).update(sealed_answer=sealed.answer(job.pk, text, result))
