"""`make demo`: the main job over HTTP, from sign-up to settled job, and whether every micro-dollar adds up."""

import json
import math
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from cango_portal.launcher import first_work
from cango_portal.launcher.browser import Browser, PageProblem
from cango_portal.launcher.place import ROOT, Place, Refused, Turn

OCR_MODEL = "rapidocr/pp-ocrv6"
INVOICE = ROOT / "docs" / "samples" / "invoice.png"
INVOICE_NUMBER = "HC-2026-0417"
KEY = re.compile(r"cango_[0-9A-Za-z]{49}")
CREDIT_MICROUSD = 25_000_000
CREDIT_SECONDS = 30  # a payment's event is handled by a worker
FLEET_STEP = "work over the fleet"
FLEET_MODEL = "cango/simulated-chat"  # of make fleet
FLEET_MOST = 60  # chats at the same time
LINK = re.compile(r"/verify/[-:\w]+/")


class Wrong(Exception):
    """A step's answer is not what it must be; the message says how."""


@dataclass
class Step:
    name: str
    result: str
    seconds: float
    cost_microusd: int | None = None
    ok: bool = True


@dataclass
class Walk:
    """One new customer's first minutes. `steps` is what happened; the walk ends at the first step that fails."""

    base_url: str
    steps: list[Step] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    has_fleet: bool = False

    def __post_init__(self) -> None:
        self.email = f"walk-{secrets.token_hex(4)}@cango.example"
        self.password = secrets.token_urlsafe(16)

    def main(self) -> bool:
        """Walk it. True where every step and sum was right."""
        with Browser(self.base_url) as self.browser, httpx.Client(base_url=self.base_url, timeout=60) as self.api:
            steps: list[tuple[str, Callable[[], str]]] = [
                ("sign up", self.sign_up),
                ("verify the e-mail address", self.verify),
                ("name the organization", self.welcome),
                ("create an API key", self.create_key),
                ("add $25 credit", self.add_credit),
                ("balance before", self.balance_before),
                ("list models", self.models),
                ("chat, streamed", self.chat),
                ("embeddings", self.embeddings),
                ("read the sample invoice", self.ocr),
                ("job pages", self.pages),
                (FLEET_STEP, self.fleet),
                ("balance after", self.balance_after),
            ]
            return all(self.step(name, act) for name, act in steps if name != FLEET_STEP or self.has_fleet)

    def step(self, name: str, act: Callable[[], str]) -> bool:
        began, jobs = time.monotonic(), len(self.jobs)
        try:
            result, ok = act(), True
        except (Wrong, PageProblem) as problem:
            result, ok = str(problem), False
        except httpx.HTTPError as error:
            result, ok = f"the portal did not answer: {type(error).__name__} {error}", False
        except (KeyError, ValueError, TypeError) as error:
            result, ok = f"an answer in another shape than expected: {type(error).__name__} {error}", False
        new = self.jobs[jobs:]
        cost = sum(job["charge_microusd"] for job in new) if new else None
        self.steps.append(Step(name, result, time.monotonic() - began, cost, ok))
        return ok

    def sign_up(self) -> str:
        page = self.browser.submit(self.browser.open("/signup/"), email=self.email, password1=self.password)
        expect(page.url.path.startswith("/verify/"), f"sign-up led to {page.url.path}, not to the verification page")
        return self.email

    def verify(self) -> str:
        mails = self.browser.open("/mail/").text
        _, found, rest = mails.partition(self.email)
        expect(bool(found), "no mail for the new address on the mail page")
        link = LINK.search(rest)
        expect(link is not None, "the mail has no verification link")
        assert link is not None
        page = self.browser.submit(self.browser.open(link[0]))
        if page.url.path.startswith("/login"):
            page = self.browser.submit(page, login=self.email, password=self.password)
        return f"signed in, at {page.url.path}"

    def welcome(self) -> str:
        page = self.browser.submit(self.browser.open("/welcome/"), name="Harbour Trading", country="US")
        expect(page.url.path == "/dashboard/", f"naming the organization led to {page.url.path}")
        return "Harbour Trading, with starter credit"

    def create_key(self) -> str:
        page = self.browser.submit(self.browser.open("/keys/new/"), name="walk")
        secret = KEY.search(page.text)
        expect(secret is not None, "the page after creating a key does not show it")
        assert secret is not None
        expect(secret[0] not in self.browser.open("/keys/").text, "the secret is shown a second time")
        self.api.headers["authorization"] = f"Bearer {secret[0]}"
        return f"{secret[0][:12]}…, shown once"

    def balance(self) -> dict[str, int]:
        return self.answer(self.api.get("/api/v1/balance"))

    def add_credit(self) -> str:
        """Through the payment page of the sandbox. The credit is there when its event was handled, not before."""
        before = self.balance()["available_microusd"]
        page = self.browser.submit(self.browser.open("/billing/add/"), amount="25")
        if not page.url.path.startswith("/sandbox/"):
            return "left out: this portal takes real money"
        expect(self.balance()["available_microusd"] == before, "credit was given before the payment")
        page = self.browser.submit(page, name="Harbour Trading", country="US", step="pay")
        expect(page.url.path.startswith("/billing/return/"), f"paying led to {page.url.path}")
        for _ in range(CREDIT_SECONDS * 10):
            added = self.balance()["available_microusd"] - before
            if added:
                break
            time.sleep(0.1)
        expect(added == CREDIT_MICROUSD, f"{first_work.usd(added)} were credited within {CREDIT_SECONDS} s")
        return f"{first_work.usd(added)} by the sandbox's test card"

    def balance_before(self) -> str:
        self.before = self.balance()
        expect(self.before["held_microusd"] == 0, "credit is held before any work")
        return first_work.usd(self.before["available_microusd"])

    def models(self) -> str:
        names = [model["id"] for model in self.answer(self.api.get("/v1/models"))["data"]]
        missing = {first_work.CHAT_MODEL, first_work.EMBEDDING_MODEL, OCR_MODEL} - set(names)
        expect(not missing, f"/v1/models lacks {', '.join(sorted(missing))}")
        self.has_fleet = FLEET_MODEL in names
        return f"{len(names)} on offer"

    def chat(self) -> str:
        body = {
            "model": first_work.CHAT_MODEL,
            "messages": [{"role": "user", "content": "What does a small business need?"}],
            "max_completion_tokens": 64,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        text, chunks, usage, done = "", 0, None, False
        with self.api.stream("POST", "/v1/chat/completions", json=body) as answer:
            if not answer.is_success:
                answer.read()
                self.answer(answer)
            for line in answer.iter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    chunk = json.loads(line.removeprefix("data: "))
                    expect("error" not in chunk, f"the stream ended with {chunk.get('error')}")
                    usage = chunk.get("usage") or usage
                    chunks += 1
                    text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            job = answer.headers["x-job-id"]
        expect(done, "the stream ended without [DONE]")
        expect(bool(text.strip()), "the stream carried no text")
        expect(usage is not None and usage["completion_tokens"] > 0, "the stream carried no usage")
        self.settle(job)
        return f"{chunks} chunks: {text.strip()[:40]}…"

    def embeddings(self) -> str:
        body = {"model": first_work.EMBEDDING_MODEL, "input": ["cat", "feline", "invoice"]}
        answer = self.api.post("/v1/embeddings", json=body)
        cat, feline, invoice = (item["embedding"] for item in self.answer(answer)["data"])
        near, far = cosine(cat, feline), cosine(cat, invoice)
        expect(near > far + 0.1, f"cat is not nearer feline ({near:.2f}) than invoice ({far:.2f})")
        self.settle(answer.headers["x-job-id"])
        return f"cat·feline {near:.2f}, cat·invoice {far:.2f}"

    def ocr(self) -> str:
        with INVOICE.open("rb") as file:
            answer = self.api.post(
                "/api/v1/jobs", data={"model": OCR_MODEL}, files={"file": (INVOICE.name, file, "image/png")}
            )
        job = self.settle(self.answer(answer)["id"])
        expect(INVOICE_NUMBER in job["text"], f"the invoice number {INVOICE_NUMBER} was not read")
        return f"read {INVOICE_NUMBER} among {len(job['text'].split())} words"

    def fleet(self) -> str:
        """As many chats at the same time as the fleet has slots, up to FLEET_MOST: which sites had them."""
        sites = self.answer(self.api.get("/api/v1/sites"))["data"]
        slots = sum(each["slots"] for site in sites for each in site["models"] if each["model"] == FLEET_MODEL)
        body = {
            "model": FLEET_MODEL,
            "messages": [{"role": "user", "content": "Which site are you at?"}],
            "max_completion_tokens": 40,
        }
        with ThreadPoolExecutor(FLEET_MOST) as threads:
            asked = [
                threads.submit(self.api.post, "/v1/chat/completions", json=body) for _ in range(min(slots, FLEET_MOST))
            ]
            answers = [each.result() for each in asked]
        for answer in answers:
            self.answer(answer)
            self.settle(answer.headers["x-job-id"])
        where = Counter(job["site"]["name"] for job in self.jobs[-len(answers) :])
        expect(len(where) > 1 or len(answers) < 3, f"all {len(answers)} chats ran at {', '.join(where)}")
        return f"{len(answers)} chats: {', '.join(f'{count} at {name}' for name, count in where.most_common())}"

    def pages(self) -> str:
        """The same jobs as a person sees them."""
        history = self.browser.open("/jobs/").text
        for job in self.jobs:
            expect(job["id"] in history, f"{job['id']} is not in the job history")
            expect(job["id"] in self.browser.open(f"/jobs/{job['id']}/").text, f"{job['id']} has no page")
        return f"{len(self.jobs)} jobs in the history"

    def balance_after(self) -> str:
        after = self.balance()
        spent = self.before["available_microusd"] - after["available_microusd"]
        charged = sum(job["charge_microusd"] for job in self.jobs)
        expect(after["held_microusd"] == 0, f"{after['held_microusd']} micro-dollars are still held")
        expect(charged > 0, "nothing was charged")
        expect(spent == charged, f"the balance fell by {spent} micro-dollars, the jobs cost {charged}")
        return f"{first_work.usd(after['available_microusd'])}; before − after = {spent} = sum of charges"

    def settle(self, job_id: str) -> dict[str, Any]:
        """Wait until the job is final. Raises Wrong unless it succeeded."""
        job = first_work.settled(self.api, job_id, seconds=60)
        expect(
            job["state"] == "succeeded",
            f"{job_id} is {job['state']}: {(job['error'] or {}).get('message') or job['reason']}",
        )
        self.jobs.append(job)
        return job

    @staticmethod
    def answer(response: httpx.Response) -> dict[str, Any]:
        if not response.is_success:
            raise Wrong(first_work.explain(response))
        found: dict[str, Any] = response.json()
        return found

    def table(self) -> str:
        rows = [("step", "result", "time", "cost")]
        for step in self.steps:
            cost = "" if step.cost_microusd is None else first_work.usd(step.cost_microusd)
            rows.append(
                (step.name, step.result if step.ok else f"FAILED: {step.result}", f"{step.seconds:.2f} s", cost)
            )
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def expect(right: bool, otherwise: str) -> None:
    if not right:
        raise Wrong(otherwise)


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.hypot(*a) * math.hypot(*b))


def main(place: Place) -> int:
    holder = Turn(place).holder()
    if holder is None or "address" not in holder:
        raise Refused("No portal is running here. Start one with make run, and run make demo in another terminal.")
    walk = Walk(holder["address"])
    done = walk.main()
    sys.stdout.write(walk.table() + "\n")
    if not done:
        sys.stderr.write(f"It ended at this step: {walk.steps[-1].name}: {walk.steps[-1].result}\n")
    return 0 if done else 1
