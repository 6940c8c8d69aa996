"""A simulated fleet's rows: sites, containers, nodes and pools as a seed makes them, and a model that only they serve.

`described` is the same for the same count and seed, so a fleet that is started again finds its own rows.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, Sum

from apps.accounts.models import User
from apps.catalog.models import Model
from apps.portal import sample, seeding
from apps.sites import drains, enrolment, nodes
from apps.sites.models import Container, GoldenPrompt, Node, Partner, Pool, Site

MODEL = "cango/simulated-chat"
FIELDS: dict[str, Any] = {
    "title": "Simulated chat",
    "kind": "chat",
    "description": "Says the same words to everyone, on simulated GPUs. It is here to watch work spread over a fleet.",
    "engine_name": "mock-chat",
    "context_tokens": 4096,
    "max_output_tokens": 1024,
}
PREFIX = "sim-"
REASON = "A simulated node"
PARTNER = "sim-partner"
NODES_OF_A_SITE = 3
PARTNERS_EVERY = 7  # each seventh node is a partner's
ASKED = {"messages": [{"role": "user", "content": "What does the site sell?"}]}
SAID = "the site sells its spare power"  # by the fleet's engine, to everyone

# Code, name, region, country, time zone, grid zone, then USD/MWh and gCO₂e/kWh around which a seed draws. Examples, no facts.
PLACES = (
    ("tx", "Texas", "US", "America/Chicago", "ERCOT-WEST", 32.0, 370.0),
    ("no", "Nordland", "NO", "Europe/Oslo", "NO4", 30.0, 25.0),
    ("ab", "Alberta", "CA", "America/Edmonton", "AESO", 48.0, 450.0),
    ("py", "Alto Parana", "PY", "America/Asuncion", "PY", 38.0, 30.0),
    ("qld", "Queensland", "AU", "Australia/Brisbane", "NEM-QLD1", 60.0, 640.0),
    ("wa", "Washington", "US", "America/Los_Angeles", "BPA", 41.0, 90.0),
)
GPUS = (("NVIDIA H200", 143_771), ("NVIDIA H100 80GB HBM3", 81_559), ("NVIDIA L40S", 46_068))


@dataclass(frozen=True, slots=True)
class Simulated:
    """One node of the fleet, and what its GPUs draw: `base_w` each, swinging by `swing_w` in `period_s`."""

    code: str
    site: str
    pool: str
    slots: int
    partner: bool
    gpu_name: str
    gpu_memory_mib: int
    uuids: list[str]
    base_w: float
    swing_w: float
    period_s: float


def described(count: int, seed: int) -> tuple[list[dict[str, Any]], list[Simulated]]:
    """Fields of the sites, and the nodes that stand there in turn."""
    random = Random(seed)  # noqa: S311 - nothing secret comes from it
    sites: list[dict[str, Any]] = []
    for code, region, country, zone, grid, price, carbon in PLACES[: max(2, -(-count // NODES_OF_A_SITE))]:
        cap = random.choice((150_000, 400_000, 1_000_000))
        sites.append(
            {
                "code": f"{PREFIX}{code}",
                "name": f"Simulated {region}",
                "region": region,
                "country": country,
                "time_zone": zone,
                "grid_zone": grid,
                "stage": random.choice((Site.Stage.HYBRID, Site.Stage.AI)),
                "power_cap_w": float(cap),
                "contracted_power_w": cap * random.choice((0.6, 0.8, 1.0)),
                "pue": round(random.uniform(1.06, 1.35), 2),
                "host_share": round(random.uniform(0.08, 0.3), 2),
                "grid_gco2e_per_kwh": round(carbon * random.uniform(0.8, 1.2), 1),
                "power_usd_per_mwh": round(price * random.uniform(0.8, 1.2), 2),
            }
        )
    made = []
    for number in range(count):
        site: str = sites[number % len(sites)]["code"]
        name, memory = random.choice(GPUS)
        made.append(
            Simulated(
                code=f"{site}-{number + 1:03}",
                site=site,
                pool=f"{site}-{number + 1:03}-chat",
                slots=random.choice((2, 3, 4)),
                partner=number % PARTNERS_EVERY == PARTNERS_EVERY - 1,
                gpu_name=name,
                gpu_memory_mib=memory,
                uuids=[f"GPU-{uuid.UUID(int=random.getrandbits(128))}" for _ in range(random.choice((1, 2)))],
                base_w=round(random.uniform(180, 420), 1),
                swing_w=round(random.uniform(20, 120), 1),
                period_s=round(random.uniform(20, 90), 1),
            )
        )
    return sites, made


def staff() -> User:
    return User.objects.get(email=sample.STAFF_EMAIL)


@transaction.atomic
def write(count: int, seed: int) -> list[tuple[Simulated, str]]:
    """The rows, and a one-time token for each node. Those of a larger fleet before stay as they are: silent, so without work."""
    sites, simulated = described(count, seed)
    model = seeding.offer(MODEL, FIELDS, sample.PRICES[sample.CHAT])
    GoldenPrompt.objects.get_or_create(model=model, body=ASKED, defaults={"expects": {"contains": SAID}})
    for fields in sites:
        site, _ = Site.objects.update_or_create(code=fields["code"], defaults=fields)
        Container.objects.get_or_create(
            code=f"{site.code}-c1", defaults={"site": site, "power_cap_w": site.contracted_power_w}
        )
    partner, _ = Partner.objects.get_or_create(
        code=PARTNER, defaults={"name": "Simulated partner", "revenue_share_basis_points": 6000}
    )
    made = []
    for each in simulated:
        site = Site.objects.get(code=each.site)
        about = {
            "site": site,
            "container": site.containers.get(code=f"{site.code}-c1"),
            "partner": partner if each.partner else None,
            "expected_gpus": len(each.uuids),
        }
        node, _ = Node.objects.update_or_create(
            code=each.code,
            defaults=about,
            create_defaults={**about, "token_sha256": nodes.digest(nodes.new_token())},
        )
        Pool.objects.update_or_create(code=each.pool, defaults={"model": model, "node": node, "slots": each.slots})
        token = enrolment.issue(node=node, actor=staff(), reason=REASON, now=datetime.now(UTC))
        made.append((each, token))
    return made


def admit() -> int:
    """Nodes of the fleet that passed their burn-in get work. Returns how many have no result yet. Raises NotTested for one that failed."""
    waiting = 0
    for node in Node.objects.filter(code__startswith=PREFIX, state=Node.State.BURN_IN).order_by("pk"):
        asked = node.events.filter(after=Node.State.BURN_IN).latest("pk")
        if node.pools.exclude(burn_ins__step=asked).exists():
            waiting += 1
        else:
            drains.move(node=node, after=Node.State.ADMITTED, reason=REASON, actor=staff())
    return waiting


def leave() -> None:
    """The model that only the fleet serves is not offered any more."""
    Model.objects.filter(name=MODEL).update(listed=False)


def table() -> list[dict[str, Any]]:
    """Each node: where, what power costs and emits there, its pools, and the jobs that ended there well."""
    done = Q(pools__jobs__state="succeeded")
    rows = (
        Node.objects.filter(code__startswith=PREFIX)
        .annotate(jobs=Count("pools__jobs", filter=done), energy_wh=Sum("pools__jobs__energy_wh", filter=done))
        .select_related("site", "partner")
        .prefetch_related("pools")
        .order_by("code")
    )
    return [
        {
            "node": node.code,
            "site": node.site.name,
            "usd_per_mwh": node.site.power_usd_per_mwh,
            "gco2e_per_kwh": node.site.grid_gco2e_per_kwh,
            "slots": sum(pool.slots for pool in node.pools.all()),
            "ready": any(pool.ready for pool in node.pools.all()),
            "power_w": node.power_w,
            "partner": node.partner.name if node.partner else "",
            "jobs": node.jobs,
            "energy_wh": node.energy_wh,
        }
        for node in rows
    ]
