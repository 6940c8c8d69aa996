"""The examples of docs/webhooks.md check what is really sent; its list is the list."""

import json
import re
import shutil
import subprocess

import pytest
from django.conf import settings

from apps.webhooks import events, sending, services

TEXT = (settings.ROOT / "docs" / "webhooks.md").read_text()


def example(language: str) -> str:
    return next(block for block in re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL) if "verified" in block)


@pytest.fixture
def sent(hook, receiver):
    """A message signed by two secrets, and both."""
    new = services.rotate(hook.endpoint, user=None)
    hook.notify(note="Grüße 😀")
    sending.send_due()
    return receiver.received[0], (new, hook.secret)


def test_the_python_example(sent):
    request, keys = sent
    names: dict = {}
    exec(example("python"), names)
    for secret in keys:
        assert names["verified"](secret, request.body, request.headers)["data"] == {"note": "Grüße 😀"}
    with pytest.raises(ValueError, match="wrong signature"):
        names["verified"](keys[0], request.body + b" ", request.headers)
    with pytest.raises(ValueError, match="wrong signature"):
        names["verified"]("whsec_" + "A" * 32, request.body, request.headers)
    with pytest.raises(ValueError, match="too old"):
        names["verified"](keys[0], request.body, {**request.headers, "webhook-timestamp": "1000000000"})


def test_the_javascript_example(sent, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    request, keys = sent
    given = {"keys": keys, "body": request.body.decode(), "headers": request.headers}
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "example.mjs").write_text(
        example("javascript")
        + """
import { readFileSync } from "node:fs";
const { keys, body, headers } = JSON.parse(readFileSync(new URL("given.json", import.meta.url)));
const said = [];
for (const key of keys) said.push(verified(key, body, headers).data.note);
for (const [key, text, more] of [[keys[0], body + " ", {}], ["whsec_AAAA", body, {}], [keys[0], body, {"webhook-timestamp": "1"}]])
  try { verified(key, text, {...headers, ...more}); said.push("accepted"); } catch (error) { said.push(error.message); }
console.log(JSON.stringify(said));
"""
    )
    run = subprocess.run([node, tmp_path / "example.mjs"], capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(run.stdout) == [
        "Grüße 😀",
        "Grüße 😀",
        "wrong signature",
        "wrong signature",
        "too old or too new",
    ]


def test_the_list_is_the_list():
    listed = re.findall(r"^\| `([^`]+)` \| (.+) \|$", TEXT, re.MULTILINE)
    assert listed == [(event.name, event.description) for event in events.EVENT_TYPES]


def test_the_schedule_is_the_schedule():
    assert sending.RETRY_SECONDS == (15, 60, 300, 1800, 7200, 18_000, 28_800, 28_800)
    assert "after 15 s, 1, 5 and 30 minutes, 2, 5, 8 and 8 hours" in TEXT
