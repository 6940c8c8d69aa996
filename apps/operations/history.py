"""Made-up history for trying pages and plans at size: jobs that ended, each with its hold and its lines in the journal.

Of the customers "Sample history 1", 2, …: the first has half of the jobs, the next half of the rest. What a customer sees
and what `audit_ledger` and `reconcile` compare is there and agrees; contents, events and budgets' counters are not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from psycopg.types.json import Jsonb

from apps.accounts.models import Organization
from apps.catalog.models import Model, PriceVersion
from apps.catalog.prices import Price
from apps.core.ids import uuid7
from apps.jobs import rollup
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger import spending
from apps.sites.models import Pool
from cango_portal import database

PART = 50_000  # jobs of one transaction
SAMPLE = 20_000  # jobs thought out one by one; where more are wanted, SQL draws them from these
STRIDE = 7919  # a prime: neighbours in time are not neighbours in the sample
HELD = 2  # times what was charged, of those that succeeded
TEAMS = [f"team-{number}" for number in range(20)]
CUSTOMERS, RUN = 10_000, 500  # customers that metadata names; jobs of one run
STATES = ("succeeded",) * 94 + ("failed",) * 3 + ("cancelled",) * 2 + ("expired",)
COLUMNS = (
    "id",
    "organization_id",
    "model_id",
    "price_id",
    "kind",
    "interactive",
    "streaming",
    "state",
    "reason",
    "version",
    "attempt",
    "claimant",
    "pool_id",
    "placement",
    "created_at",
    "deadline_at",
    "dispatched_at",
    "started_at",
    "first_token_at",
    "finished_at",
    "hold_microusd",
    "charge_microusd",
    "prompt_tokens",
    "completion_tokens",
    "max_completion_tokens",
    "pages",
    "total_pages",
    "energy_factor",
    "grid_gco2e_per_kwh",
    "gpu_energy_wh",
    "energy_wh",
    "energy_quality",
    "carbon_gco2e",
    "finish_reason",
    "error_code",
    "error_message",
    "metadata",
)
SAMPLED = """
CREATE TEMPORARY TABLE sample (LIKE jobs_job INCLUDING DEFAULTS, number integer PRIMARY KEY) ON COMMIT PRESERVE ROWS;
CREATE TEMPORARY TABLE made (LIKE jobs_job INCLUDING DEFAULTS) ON COMMIT DELETE ROWS
"""
FORGET = "DROP TABLE IF EXISTS sample, made"


def at(column: str) -> str:
    return f"drawn.at + (sample.{column} - sample.created_at)"


def id_at(moment: str) -> str:
    """A new id that begins with its milliseconds, as every job's does: a table of ten million grows at its end, its indexes too."""
    first = f"lpad(to_hex(floor(extract(epoch FROM {moment}) * 1000)::bigint), 12, '0') || '7'"
    return f"overlay(replace(gen_random_uuid()::text, '-', '') PLACING {first} FROM 1)::uuid"


# What differs from the job of the sample; `drawn.number` counts all jobs that are written.
DIFFERENT = {
    "id": id_at("drawn.at"),
    **{
        name: at(name)
        for name in ("created_at", "deadline_at", "dispatched_at", "started_at", "first_token_at", "finished_at")
    },
    "metadata": f"""CASE WHEN sample.metadata = '{{}}' THEN sample.metadata ELSE sample.metadata || jsonb_build_object(
        'customer', 'c' || abs(hashint8(drawn.number) %% {CUSTOMERS}), 'run', 'r' || (drawn.number / {RUN})) END""",
}
DRAWN = f"""
INSERT INTO made ({", ".join(COLUMNS)})
SELECT {", ".join(DIFFERENT.get(name, f"sample.{name}") for name in COLUMNS)}
FROM (
    SELECT number, %(from)s + (%(to)s - %(from)s) * (number / %(rows)s::float8) AS at
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS numbers (number)
) drawn
JOIN sample ON sample.number = (drawn.number * {STRIDE} + drawn.number / %(sample)s) %% %(sample)s
ORDER BY drawn.number
"""  # noqa: S608 - constants go in
JOBS = "INSERT INTO jobs_job SELECT * FROM made"
HOLDS = """
INSERT INTO ledger_hold (id, key, organization_id, state, promotional_microusd, credit_microusd, promotional_charged_microusd,
    credit_charged_microusd, overrun_microusd, day, created_at, ended_at)
SELECT id, 'job:' || id, organization_id, CASE WHEN charge_microusd > 0 THEN 'settled' ELSE 'released' END, 0, hold_microusd, 0,
    charge_microusd, 0, created_at::date, created_at, finished_at
FROM made
"""
JOURNAL = f"""
INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
SELECT {id_at("at")}, step || ':job:' || made.id || part, organization_id, debit, credit, amount, made.id, '', '', at
FROM made CROSS JOIN LATERAL (VALUES
    ('reserve', ':credit', 'credit', 'held', hold_microusd, created_at),
    ('settle', ':charge', 'held', 'revenue', charge_microusd, finished_at),
    ('settle', ':return:credit', 'held', 'credit', hold_microusd - charge_microusd, finished_at)
) AS steps (step, part, debit, credit, amount, at)
WHERE amount > 0
"""  # noqa: S608 - constants go in
CREDIT = """
INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
SELECT gen_random_uuid(), 'sample:' || min(id::text), organization_id, 'adjustments', 'credit', sum(charge_microusd),
    'What the made-up history was paid with', 'seed_jobs', min(created_at)
FROM made GROUP BY organization_id HAVING sum(charge_microusd) > 0
"""


@dataclass(frozen=True, slots=True)
class Offered:
    """A model with its price, and a pool that could have run it."""

    model_id: int
    price: Price
    kind: str
    pool_id: int | None


class NothingOffered(Exception):
    """There is no model with a price to have history of."""


def offered() -> list[Offered]:
    """Raises NothingOffered."""
    found = []
    kinds = {Model.Kind.CHAT: Job.Kind.CHAT, Model.Kind.EMBEDDINGS: Job.Kind.EMBEDDINGS}
    for model in Model.objects.filter(kind__in=kinds).order_by("pk"):
        price = (
            PriceVersion.objects.filter(model=model, effective_at__lte=datetime.now(UTC))
            .order_by("-effective_at")
            .first()
        )
        pool = Pool.objects.filter(model=model).order_by("pk").first()
        if price is not None:
            kind = kinds[Model.Kind(model.kind)].value
            found.append(Offered(model.pk, Price.of(price), kind, pool.pk if pool else None))
    if not found:
        raise NothingOffered
    return found


def customers(count: int) -> list[Organization]:
    """Made where they are missing, with an account."""
    found = []
    for number in range(1, count + 1):
        organization, new = Organization.objects.get_or_create(name=f"Sample history {number}")
        if new:
            ledger.open_account(organization=organization)
        found.append(organization)
    return found


def fill(*, rows: int, organizations: int, days: int, seed: int, booked: int | None = None) -> Iterator[int]:
    """Write `rows` jobs that ended in the last `days`, a part in each transaction. Yields how many there are so far.

    With `booked` only about so many of the newest are in the ledger, which then agrees with those alone. Raises NothingOffered.
    """
    models, made = offered(), customers(organizations)
    shares = [2.0**-number for number in range(organizations)]
    chance = random.Random(seed)  # noqa: S311 - nothing of it is a secret
    now = datetime.now(UTC)
    span: dict[str, Any] = {"from": now - timedelta(days=days), "to": now, "rows": rows, "sample": min(rows, SAMPLE)}
    with connection.cursor() as cursor:
        cursor.execute(FORGET)
        cursor.execute(SAMPLED)
        with cursor.copy(f"COPY sample ({', '.join(COLUMNS)}, number) FROM STDIN") as copy:
            for number in range(span["sample"]):
                organization = chance.choices(made, shares)[0]
                job = ended_job(number, now, organization, chance.choice(models), chance)
                copy.write_row([*(job.get(name) for name in COLUMNS), number])
        cursor.execute("ANALYZE sample")
        for first in range(0, rows, PART):
            last = min(first + PART, rows)
            with transaction.atomic():
                cursor.execute(DRAWN, {**span, "first": first, "last": last - 1})
                in_books = booked is None or last > rows - booked
                for sql in (JOBS, HOLDS, JOURNAL, CREDIT) if in_books else (JOBS,):
                    cursor.execute(sql)
                database.run(rollup.again(span["from"]))
                database.run(spending.again(span["from"]))
            yield last
        cursor.execute(FORGET)


def ended_job(
    number: int, at: datetime, organization: Organization, offer: Offered, chance: random.Random
) -> dict[str, Any]:
    """One row of the sample."""
    state = chance.choice(STATES)
    good = state == "succeeded"
    prompt = chance.randint(20, 4000)
    completion = chance.randint(1, 800) if offer.kind == Job.Kind.CHAT else 0
    used: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "pages": 0}
    charge = offer.price.charge_microusd(**used) if good else 0
    hold = max(charge, 1) * HELD
    seconds = 0.2 + completion * chance.uniform(0.01, 0.03)
    wh = seconds * chance.uniform(0.05, 0.2)
    placed = {
        "attempt": 1,
        "claimant": "sample",
        "pool_id": offer.pool_id,
        "dispatched_at": at,
        "started_at": at + timedelta(seconds=0.05),
        "first_token_at": at + timedelta(seconds=0.2),
        "energy_factor": 1.3,
        "grid_gco2e_per_kwh": 380.0,
        "gpu_energy_wh": wh,
        "energy_wh": wh * 1.3,
        "energy_quality": "counter",
        "carbon_gco2e": wh * 1.3 * 0.38,
        "finish_reason": "stop",
    }
    words = {"team": chance.choice(TEAMS)} if chance.random() < 0.5 else {}
    return {
        "id": uuid7(),
        "organization_id": organization.pk,
        "model_id": offer.model_id,
        "price_id": offer.price.id,
        "kind": offer.kind,
        "interactive": True,
        "streaming": offer.kind == Job.Kind.CHAT,
        "state": state,
        "reason": "Finished" if good else "Ended",
        "version": 4,
        "attempt": 0,
        "claimant": "",
        "placement": Jsonb({}),
        "created_at": at,
        "deadline_at": at + timedelta(seconds=60),
        "finished_at": at + timedelta(seconds=seconds),
        "hold_microusd": hold,
        "charge_microusd": charge,
        "max_completion_tokens": 1024 if completion else 0,
        "total_pages": 0,
        "energy_quality": "",
        "finish_reason": "",
        "error_code": ""
        if good or state == "cancelled"
        else "no_capacity"
        if state == "expired"
        else "engine_unavailable",
        "error_message": "" if good else "Made up.",
        "metadata": Jsonb(words),
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "pages": 0,
        **({**used, **placed} if good else {}),
    }
