"""Reads the imports of a tree of apps and says which ones go upwards. Works on any tree, so that it can be tested."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# From the customer's pages down to the words everybody shares; an app imports only apps that stand after it.
ORDER = [
    "portal",
    "operations",
    "economics",
    "gateway",
    "agents",
    "batches",
    "dispatch",
    "jobs",
    "scheduling",
    "telemetry",
    "billing",
    "keys",
    "sites",
    "ledger",
    "catalog",
    "files",
    "webhooks",
    "live",
    "accounts",
    "wire",
    "runner",
    "core",
]

# Packages of which an app may not import anything.
FORBIDDEN = {
    "core": ("django", "rest_framework", "channels", "allauth", "cango_portal"),
    "wire": ("django", "rest_framework", "channels", "allauth", "cango_portal"),
    "runner": ("django", "rest_framework", "channels", "allauth", "psycopg", "psycopg_pool", "cango_portal"),
}

# The ways to PostgreSQL and Valkey; the rest of cango_portal puts the apps together and stands above them.
SERVERS = ("cango_portal.database", "cango_portal.valkey")
# The highest app registers the system checks when it loads.
CHECKS = ("portal", "cango_portal.checks")

# Files that compute on plain snapshots: no ORM, no clock, no I/O.
PURE = (
    "scheduling/placement.py",
    "scheduling/planner.py",
    "scheduling/simulator.py",
    "sites/power.py",
    "telemetry/folding.py",
    "runner/energy.py",
    "runner/faults.py",
)
IMPURE = ("django", "cango_portal", "psycopg", "redis", "httpx", "socket", "time", "os")


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, dotted and absolute. `from a import b` counts as `a.b`: b may be a module."""

    name: str
    line: int


def imports(source: str, *, package: str) -> Iterator[Import]:
    """Every import of a file in `package`, wherever it stands: in functions, under TYPE_CHECKING, by `import_module("…")`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - (node.level - 1)]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.lineno)
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if (
                called in {"import_module", "__import__"}
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                yield Import(first.value, node.lineno)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def refusal(*, app: str, path: str, name: str) -> str | None:
    """Why the file at `path` (below apps/) of `app` may not import `name`, or None."""
    for package in FORBIDDEN.get(app, ()):
        if within(name, package):
            return f"{app} does not import {package}"
    if path in PURE:
        for package in IMPURE:
            if within(name, package):
                return f"{path} is pure: it does not import {package}"
        if name.startswith("apps.") and "models" in name.split("."):
            return f"{path} is pure: it does not import models"
    if within(name, "tests"):
        return "apps do not import tests"
    allowed = [*SERVERS, CHECKS[1]] if app == CHECKS[0] else SERVERS
    if within(name, "cango_portal") and not any(within(name, module) for module in allowed):
        return "of cango_portal, apps import only the ways to its servers"
    if not name.startswith("apps."):
        return None
    other = name.split(".")[1]
    if other == app:
        return None
    if other not in ORDER:
        return f"{other} has no place in the order"
    if app == "runner" and other != "core":
        return "of the apps, runner imports only core"
    if ORDER.index(other) <= ORDER.index(app):
        return f"{app} stands below {other}"
    if other == "runner" and not within(name, "apps.runner.protocol"):
        return "of runner, others import only apps.runner.protocol"
    return None


def violations(apps: Path) -> list[str]:
    """`app/file.py:line imports name: why not`, for every file below `apps` but migrations."""
    found = []
    for file in sorted(apps.rglob("*.py")):
        path = file.relative_to(apps)
        if "migrations" in path.parts or len(path.parts) == 1:
            continue
        app = path.parts[0]
        if app not in ORDER:
            found.append(f"{path}: {app} has no place in the order")
            continue
        package = ".".join(["apps", *path.parts[:-1]])
        for imported in imports(file.read_text(), package=package):
            why = refusal(app=app, path=path.as_posix(), name=imported.name)
            if why:
                found.append(f"{path}:{imported.line} imports {imported.name}: {why}")
    return found
