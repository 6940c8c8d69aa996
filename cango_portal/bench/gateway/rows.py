"""One customer and one site, in the database of whichever tree `PYTHONPATH` names; and what became of the books.

python -P rows.py write <node token> [batches]   prints the key and the pools
python -P rows.py books                   prints what the audit finds
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

CREDIT_MICROUSD = 10**12
SLOTS = 600
ENGINE_NAMES = {"instant": "chat", "paced": "chat"}
VECTORS = {"vectors": "embeddings"}  # for batches alone


def write(token: str, *, batches: bool) -> dict[str, Any]:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from apps.accounts.models import Organization
    from apps.catalog.models import Model, PriceVersion
    from apps.keys import services as keys
    from apps.ledger import services as ledger
    from apps.sites import nodes
    from apps.sites.models import Node, Pool, Site

    organization = Organization.objects.create(name="Bench")
    ledger.open_account(organization=organization)
    ledger.deposit(organization=organization, microusd=CREDIT_MICROUSD, key="bench:credit", reason="", actor="")
    _, secret = keys.issue(organization=organization, name="bench", user=None)
    site = Site.objects.create(
        code="bench", name="Bench", region="Georgia", country="US", grid_gco2e_per_kwh=380, power_usd_per_mwh=45
    )
    node = Node.objects.create(site=site, code="bench", token_sha256=nodes.digest(token), state=Node.State.ADMITTED)
    models, pools = {}, {}
    for engine_name, kind in (ENGINE_NAMES | (VECTORS if batches else {})).items():
        model = Model.objects.create(
            name=f"bench/{engine_name}",
            title=engine_name,
            kind=kind,
            description="A model of the bench.",
            engine_name=engine_name,
            context_tokens=4096,
            max_output_tokens=1024,
        )
        PriceVersion.objects.create(
            model=model,
            effective_at=datetime.now(UTC) - timedelta(days=1),
            input_microusd_per_mtok=120_000,
            output_microusd_per_mtok=360_000,
        )
        pool = Pool.objects.create(code=f"bench-{engine_name}", model=model, node=node, slots=SLOTS)
        models[engine_name], pools[pool.code] = model.name, engine_name
    return {"key": secret, "models": models, "pools": pools}


def books() -> dict[str, Any]:
    """What the ledger's audit finds, and how the jobs ended."""
    from django.db import connection

    from apps.ledger import auditing

    with connection.cursor() as cursor:
        cursor.execute("SELECT state, count(*) FROM jobs_job GROUP BY state")
        return {"violations": len(list(auditing.audit())), "jobs": dict(cursor.fetchall())}


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cango_portal.settings")
    django.setup()
    sys.stdout.write(
        json.dumps(write(sys.argv[2], batches="batches" in sys.argv) if sys.argv[1] == "write" else books())
    )
