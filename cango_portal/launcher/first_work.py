"""One real chat and one real embedding through the portal's own API, and what they cost."""

import time
from dataclasses import dataclass
from typing import Any

import httpx

CHAT_MODEL = "cango/demo-chat"
EMBEDDING_MODEL = "sentence-transformers/all-minilm-l6-v2"
WAIT_SECONDS = 90
FINAL = {"succeeded", "failed", "cancelled", "expired"}


@dataclass(frozen=True)
class Result:
    """What one piece of work came to; `error` says why it did not, and the rest is then empty."""

    what: str
    model: str
    job: dict[str, Any]
    error: str = ""


def send(demo: dict[str, str]) -> list[Result]:
    """Both, one after the other. Engines may still be loading, so a 503 is asked again for `WAIT_SECONDS`."""
    chat = {
        "model": CHAT_MODEL,
        "messages": [{"role": "user", "content": "What does a small business need?"}],
        "max_completion_tokens": 64,
    }
    embedding = {"model": EMBEDDING_MODEL, "input": "cat"}
    with httpx.Client(
        base_url=demo["base_url"], headers={"authorization": f"Bearer {demo['api_key']}"}, timeout=60
    ) as client:
        return [
            attempt(client, "chat", "/v1/chat/completions", chat),
            attempt(client, "embedding", "/v1/embeddings", embedding),
        ]


def attempt(client: httpx.Client, what: str, path: str, body: dict[str, Any]) -> Result:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            answer = client.post(path, json=body)
            if answer.is_success:
                return Result(what, body["model"], settled(client, answer.headers["x-job-id"]))
            problem = explain(answer)
            again = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        except httpx.HTTPStatusError as error:  # the job could not be asked for
            problem, again = explain(error.response), False
        except (httpx.HTTPError, KeyError) as error:
            problem, again = f"{type(error).__name__}: {error}", isinstance(error, httpx.TransportError)
        if not again or time.monotonic() > deadline:
            return Result(what, body["model"], {}, problem)
        time.sleep(0.5)


def explain(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {answer.json()['error']['message']}"
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def settled(client: httpx.Client, job: str, *, seconds: float = 30) -> dict[str, Any]:
    """The job as the API tells it, once it is final or the time is over. Raises httpx.HTTPError."""
    deadline = time.monotonic() + seconds
    while True:
        answer = client.get(f"/api/v1/jobs/{job}").raise_for_status()
        found: dict[str, Any] = answer.json()
        if found["state"] in FINAL or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def usd(microusd: int) -> str:
    return f"${microusd // 1_000_000}.{microusd % 1_000_000:06d}"


def watt_hours(job: dict[str, Any]) -> str:
    energy = job["energy_wh"]
    if energy is None:
        return "not measured"
    text = f"{energy * 1000:.3g} mWh" if energy < 1 else f"{energy:.3g} Wh"
    return text if job["energy_measured"] else f"{text} (estimated)"


def after(seconds: float, installing: float) -> str:
    """How long a start took, with the part that installed packages."""
    return f"{seconds:.0f} s, {installing:.0f} s of them installing packages" if installing else f"{seconds:.1f} s"


def welcome(demo: dict[str, str], results: list[Result], *, seconds: float, installing: float = 0) -> str:
    """What is printed when everything answers: the first jobs, the address, how to sign in, a command, how to stop.

    `seconds` is how long it all took, `installing` the part of it that went by before the launcher ran.
    """
    lines = ["", "First work, through the portal's own API:"]
    for result in results:
        if result.error:
            lines.append(f"  {result.what:<10} did not succeed: {result.error}")
        else:
            job = result.job
            site = job["site"]["name"] if job["site"] else "none"
            lines.append(
                f"  {result.what:<10} {result.model:<40} cost {usd(job['charge_microusd'] or 0)}"
                f"   energy {watt_hours(job)}   site {site}   {job['id']}"
            )
    if any(result.error for result in results):
        lines.append("  The logs of each process are beside its data, in the folder log.")
    lines += [
        "",
        f"Cango Portal is ready at {demo['base_url']} after {after(seconds, installing)}",
        "",
        f"  Customer   {demo['email']:<24} password  {demo['password']}",
        f"  Staff      {demo['staff_email']:<24} password  {demo['staff_password']}   ({demo['base_url']}/admin/)",
        "",
        "  Send something yourself:",
        "",
        curl(demo),
        "",
        "  Stop it with Ctrl-C, or with make stop from another terminal.",
    ]
    return "\n".join(lines)


def curl(demo: dict[str, str]) -> str:
    return (
        f"curl {demo['base_url']}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {demo['api_key']}' -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{CHAT_MODEL}", "messages": [{{"role": "user", "content": "Hello"}}]}}\''
    )
