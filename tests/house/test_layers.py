"""An app imports only apps below it. The checker is tried on a planted tree first."""

from pathlib import Path

import pytest
from django.conf import settings

from tests.house.layers import ORDER, violations

APPS = settings.ROOT / "apps"


def test_apps_import_only_what_stands_below_them() -> None:
    assert violations(APPS) == []


def test_installed_apps_are_in_the_order_of_the_layers() -> None:
    installed = [name.split(".")[1] for name in settings.INSTALLED_APPS if name.startswith("apps.")]
    assert installed == [app for app in ORDER if app in installed]


def test_apps_with_tables_or_pages_are_installed() -> None:
    with_config = {path.parent.name for path in APPS.glob("*/apps.py")}
    assert with_config == {name.split(".")[1] for name in settings.INSTALLED_APPS if name.startswith("apps.")}


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("ledger/services.py", "from apps.jobs.models import Job", "ledger stands below jobs"),
        ("ledger/services.py", "import apps.jobs.models as jobs", "ledger stands below jobs"),
        ("ledger/services.py", "from apps import jobs", "ledger stands below jobs"),
        ("ledger/services.py", "from ..jobs import models", "ledger stands below jobs"),
        ("ledger/management/commands/x.py", "from ....jobs.models import Job", "ledger stands below jobs"),
        ("ledger/services.py", "def f():\n    from apps.dispatch import services", "ledger stands below dispatch"),
        (
            "ledger/services.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from apps.jobs.models import Job",
            "ledger stands below jobs",
        ),
        (
            "ledger/x.py",
            "import importlib\nimportlib.import_module('apps.jobs.models')",
            "ledger stands below jobs",
        ),
        ("core/x.py", "from django.conf import settings", "core does not import django"),
        ("core/x.py", "from apps.runner import protocol", "core stands below runner"),
        ("core/x.py", "from cango_portal import database", "core does not import cango_portal"),
        ("wire/chat.py", "import django", "wire does not import django"),
        ("runner/x.py", "import psycopg", "runner does not import psycopg"),
        ("runner/x.py", "from django.db import models", "runner does not import django"),
        ("agents/door.py", "from apps.runner.energy import split", "only apps.runner.protocol"),
        ("agents/door.py", "from apps.runner import energy", "only apps.runner.protocol"),
        ("scheduling/placement.py", "from django.db.models import Q", "is pure"),
        ("scheduling/placement.py", "from apps.sites.models import Pool", "is pure"),
        ("sites/power.py", "import time", "is pure"),
        ("jobs/x.py", "from cango_portal import settings", "only the ways to its servers"),
        ("jobs/x.py", "from cango_portal import checks", "only the ways to its servers"),
        ("portal/x.py", "from cango_portal import celery", "only the ways to its servers"),
        ("jobs/x.py", "from tests import make", "apps do not import tests"),
        ("jobs/x.py", "from apps.misc import thing", "misc has no place in the order"),
        ("misc/x.py", "", "misc has no place in the order"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, path: str, source: str, why: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    (found,) = violations(tmp_path)
    assert why in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("jobs/x.py", "from apps.ledger import services\nfrom apps.core.ids import public"),
        ("jobs/x.py", "from .models import Job\nfrom . import statements\nfrom apps.jobs.models import Event"),
        ("jobs/x.py", "from cango_portal import database\nimport time\nimport redis"),
        ("agents/door.py", "from apps.runner import protocol\nfrom apps.runner.protocol import Report"),
        ("runner/x.py", "from apps.core.money import usd\nfrom apps.runner.protocol import Order\nimport celery"),
        ("scheduling/placement.py", "from dataclasses import dataclass\nfrom datetime import datetime"),
        ("ledger/migrations/0001_initial.py", "from apps.jobs.models import Job"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, path: str, source: str) -> None:
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    planted.write_text(source)
    assert violations(tmp_path) == []
