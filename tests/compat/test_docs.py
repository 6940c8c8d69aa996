"""Every example of docs/api.md and the guides runs as it is written, in its order, with this portal's address and key put in."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator

from cango_portal.launcher.node import PACKAGE
from tests.started import ROOT, Portal

BLOCK = re.compile(r"^```(sh|python|javascript)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS, KEY = "http://localhost:8000", "cango_…"


@dataclass(frozen=True)
class Example:
    file: str
    line: int
    language: str
    text: str


def examples() -> list[Example]:
    return [
        Example(file.stem, document.count("\n", 0, found.start()) + 1, found[1], found[2])
        for file in [ROOT / "docs" / "api.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
        for document in [file.read_text()]
        for found in BLOCK.finditer(document)
    ]


@pytest.fixture
def manager(portal: Portal) -> Iterator[str]:
    """The demo's key, which manages too while an example runs."""
    (key,) = portal.sql("SELECT id, scopes FROM keys_apikey ORDER BY created_at, id LIMIT 1")
    widen = "UPDATE keys_apikey SET scopes = %s WHERE id = %s RETURNING id"
    portal.sql(widen, [*key["scopes"], "manage"], key["id"])
    yield portal.demo["api_key"]
    portal.sql(widen, key["scopes"], key["id"])


def run(portal: Portal, example: Example, folder: Path) -> subprocess.CompletedProcess[str]:
    text = example.text.replace(ADDRESS, portal.base_url).replace(KEY, portal.demo["api_key"])
    name = {"sh": "example.sh", "python": "example.py", "javascript": "example.mjs"}[example.language]
    program = {"sh": ["bash", "-euo", "pipefail"], "python": [sys.executable], "javascript": ["node"]}[example.language]
    for sample in (ROOT / "docs" / "samples").iterdir():
        shutil.copy(sample, folder)
    (folder / name).write_text(text)
    if example.language == "javascript":  # an import looks for packages beside the file
        (folder / "node_modules").symlink_to(PACKAGE / "node_modules")
    return subprocess.run(
        [*program, name],
        cwd=folder,
        env={**os.environ, "BASE": portal.base_url, "KEY": portal.demo["api_key"], "MANAGER": portal.demo["api_key"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(
            each, id=f"{each.file} line {each.line}", marks=[pytest.mark.node] if each.language == "javascript" else []
        )
        for each in examples()
    ],
)
def test_an_example_runs(portal, manager, tmp_path, example):
    done = run(portal, example, tmp_path)
    assert done.returncode == 0, f"{example.text}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), "it says nothing"


def test_each_language_has_examples():
    assert {each.language for each in examples()} == {"sh", "python", "javascript"}


ASKED = re.compile(
    r"^.*?\b(?:api|json|curl)\b(?P<options>[^\n]*?)\"?\$BASE(?P<path>/[^\s\"?)|]+)(?P<rest>[^\n]*)", re.MULTILINE
)
# There is one member in the demo, and an owner, whom no key changes.
NOT_SHOWN = {("PATCH", "/api/v1/members/{public_id}"), ("DELETE", "/api/v1/members/{public_id}")}


def test_every_address_has_an_example_with_curl():
    shown = set()
    text = "\n".join(each.text for each in examples() if each.language == "sh").replace("\\\n", "")
    for found in ASKED.finditer(text):
        method = re.search(r"-X (\w+)", found["options"])
        sends = re.search(r" -[dF] ", found["options"] + found["rest"])
        shown.add((method[1] if method else "POST" if sends else "GET", found["path"]))
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    every = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    missing = {
        (method, path)
        for method, path in every - NOT_SHOWN
        if not any(
            asked == method and re.fullmatch(re.sub(r"\{model\}", ".+", re.sub(r"\{(?!model)\w+\}", "[^/]+", path)), at)
            for asked, at in shown
        )
    }
    assert len(every) >= 60
    assert missing == set()
