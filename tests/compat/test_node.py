"""The official client for Node, unchanged but for base URL and key: every file of `node/` by Node's own test runner."""

import json
import os
import re
import subprocess

import pytest

from cango_portal.launcher.node import PACKAGE

FILES = sorted(path.name for path in PACKAGE.glob("*.test.mjs"))


@pytest.mark.node
@pytest.mark.parametrize("name", FILES)
def test_node(portal, engine, keys, name):
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", name],
        cwd=PACKAGE,
        env={
            **os.environ,
            "PORTAL_URL": portal.base_url,
            "PORTAL_KEY": portal.demo["api_key"],
            "PORTAL_KEYS": json.dumps(keys),
            "ENGINE_URL": engine.url.removesuffix("/v1"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    told = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, told
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed, told
    assert int(passed[1]) > 0, told
    assert re.search(r"^# skipped 0$", done.stdout, re.MULTILINE), told
