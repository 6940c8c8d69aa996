"""What the portal and a runner say to each other: orders, stream entries, reports, heartbeats.

Orders travel on the Celery queue `pool.<pool>` as the one argument of the task `runner.run`. Stream entries go to the
Redis stream `out:<pool>:<job>:<attempt>`. Reports and heartbeats go by HTTPS to `/agent/v1/…`. Times are Unix seconds,
energy is integer millijoules, ids are UUID texts.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TASK = "runner.run"
INLINE_BYTES = 64 * 1024  # a larger request body travels as a signed URL
TEXT_UNITS = 20_000  # of a row in progress that is shown

Kind = Literal["chat", "completion", "embeddings", "rerank", "ocr"]
WRITES = ("chat", "completion")  # kinds whose answer is a text that comes in chunks
Quality = Literal["counter", "integrated", "modelled", "nameplate"]


def queue(pool: str) -> str:
    return f"pool.{pool}"


def stream_prefix(pool: str) -> str:
    return f"out:{pool}:"


def stream(pool: str, job: str, attempt: int) -> str:
    return f"{stream_prefix(pool)}{job}:{attempt}"


def control(claimant: str) -> str:
    """The stream on which a runner process hears `Control` messages at once; heartbeat replies repeat them."""
    return f"ctl:{claimant}"


def watching(claimant: str) -> str:
    """The stream on which a runner process hears which of its shards somebody looks at (`Watch`)."""
    return f"{control(claimant)}:watch"


def rows(pool: str, job: str, attempt: int) -> str:
    """The stream to which a shard that is watched says how its rows are written (`Writing`)."""
    return f"{stream(pool, job, attempt)}:rows"


def claimant_prefix(node: str) -> str:
    """How an enrolled node's processes call themselves begins, so that its rights can name their control streams."""
    return f"{hashlib.sha256(node.encode()).hexdigest()[:12]}-"


class Message(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Order(Message):
    """One attempt of one job. Exactly one of `body` and `body_url` is set; `file_url` goes with `ocr`.

    A `shard` is many rows of one batch: at its `body_url` lies a line of JSON (`Task`) for each row still to do.
    """

    job: str
    attempt: int
    fence: str
    pool: str
    kind: Kind
    model: str = Field(description="What the engine is asked for")
    body: dict[str, Any] | None = Field(description="The OpenAI request body, without `model` and `stream`")
    body_url: str | None = None
    file_url: str | None = None
    file_type: str | None = None
    max_completion_tokens: int = 0
    shard: bool = False
    expires_at: float = Field(description="Unclaimed then: do not start")
    deadline_at: float = Field(description="Still running then: stop and report `failed`")


class Usage(Message):
    """Cumulative counts of one attempt. The cached ones are part of `prompt_tokens`: the engine had them from before."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    pages: int = 0


class Energy(Message):
    gpu_energy_mj: int
    quality: Quality


class Failure(Message):
    """Why an attempt failed. `status` is the HTTP status the customer gets; `retryable`: another attempt may succeed."""

    code: str
    message: str
    status: int = 500
    param: str | None = None
    retryable: bool = False


class Entry(Message):
    """One entry of a job's stream, as JSON in the field `e`.

    `chunks` are the `choices` arrays of the engine's chunks, in order, those of a completion in the shape of chat's
    (`delta.content`, and `logprobs` in the legacy shape); `seq` is the number of chunks before this entry,
    so a reader cuts an overlap and sees a gap. The first entry an attempt writes has `seq` 0 and no chunks: it is the
    claim. After the stream was lost the runner writes everything again from `seq` 0. `usage` is cumulative.
    The last entry has `end`, and carries usage and energy.
    """

    claimant: str
    fence: str
    seq: int = 0
    chunks: list[list[dict[str, Any]]] = []
    usage: Usage = Usage()
    done: int | None = None
    total: int | None = None
    end: End | None = None


class End(Message):
    state: Literal["succeeded", "failed", "cancelled"]
    failure: Failure | None = None
    energy: Energy | None = None
    result: dict[str, Any] | None = Field(
        default=None,
        description="embeddings: {data: [{index, embedding: base64 of little-endian float32}]}; "
        "rerank: {results: [{index, relevance_score}]}, the best first; "
        "ocr: {pages: [{page, text, lines: [{text, confidence, box}]}]}; chat and completion: none, the chunks are it",
    )


class Task(Message):
    """One row of a shard, named by the number of its line in the customer's file. `body` is as in an order."""

    line: int
    body: dict[str, Any]
    max_completion_tokens: int = 0


class RowResult(Message):
    """How one row ended. What it used is final; a row that could be tried again elsewhere is not reported.

    `gpu_energy_mj` is its part of what the shard used; the parts of a shard's rows sum to it exactly.
    """

    line: int
    failure: Failure | None = None
    usage: Usage = Usage()
    gpu_energy_mj: int | None = None
    choices: list[dict[str, Any]] | None = Field(
        default=None, description="chat: one chunk that holds the whole answer, as in `Entry`"
    )
    result: dict[str, Any] | None = Field(default=None, description="embeddings: as in `End`")


class Report(Message):
    """News of one attempt, kept on the runner's disk until the portal answered 200.

    `started` is sent soon after the claim, unless the attempt has ended before; `finished` then says when it began.
    `finished` carries everything settlement needs, so the stream is never needed for money.
    A shard also sends `rows`, numbered by `part`, as they are done; its `finished` carries the last ones.
    """

    kind: Literal["started", "rows", "finished"]
    job: str
    attempt: int
    fence: str
    claimant: str
    at: float
    state: Literal["succeeded", "failed", "cancelled"] | None = None
    failure: Failure | None = None
    usage: Usage = Usage()
    energy: Energy | None = None
    started_at: float | None = Field(default=None, description="When the attempt was claimed")
    first_token_at: float | None = None
    finish_reason: str = ""
    text: str = Field(default="", description="The text of choice 0 (chat, completion), or of all pages (ocr)")
    result: dict[str, Any] | None = Field(
        default=None,
        description="As in `End`; for chat and completion the other choices and tool calls: {choices: [message, …]}",
    )
    streamed: bool = Field(default=False, description="Some chunk was written to the stream")
    shard: bool = False
    part: int = 0
    rows: list[RowResult] = []
    quality: Quality | None = Field(default=None, description="How the energy of `rows` was read")


class Reports(Message):
    reports: list[Report] = Field(max_length=500)


class ReportAnswer(Message):
    """`accepted` False: the attempt is not this runner's any more. Either way the report is done with; drop it."""

    job: str
    attempt: int
    accepted: bool


class ReportsAnswer(Message):
    answers: list[ReportAnswer]


class Lease(Message):
    """An attempt this runner process is working on."""

    job: str
    attempt: int
    fence: str
    done: int | None = None
    total: int | None = None


class Weights(Message):
    """One file that an engine loads. Its name on the node is its SHA-256, so what lies there is never another one."""

    url: str = Field(max_length=2000)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


Wish = Literal["ready", "parked", "absent"]
ModelState = Literal["absent", "fetching", "on-disk", "loading", "ready", "parked", "error"]


class Golden(Message):
    """A prompt whose answer is known: a text that it contains (chat), a vector (embeddings), the best document (rerank)."""

    body: dict[str, Any]
    contains: str = ""
    vector: list[float] | None = None
    best: int | None = None
    max_completion_tokens: int = Field(default=16, ge=1, le=4096)


class Desired(Message):
    """What is to become of one pool's model on its node.

    `parked`: unloaded, its files stay, no work; `absent`: no files either. One that is to be `ready` is unloaded after
    `park_after_seconds` without work, and loaded again with the next; null: never. `test` is the burn-in that it is to
    undergo, while its result is awaited.
    """

    pool: str
    state: Wish = "ready"
    weights: Weights | None = None
    park_after_seconds: float | None = None
    golden: list[Golden] = []
    test: int | None = None


class Finding(Message):
    good: bool
    text: str = Field(max_length=400)


class Level(Message):
    """What a pool did with so many requests at a time. Tokens: completion tokens, of vectors and rankings those read."""

    concurrency: int = Field(ge=1, le=4096)
    seconds: float = Field(gt=0, lt=1e6)
    requests: int = Field(ge=1)
    tokens_per_second: float = Field(ge=0, lt=1e9)
    first_token_seconds: float | None = Field(default=None, ge=0, lt=1e6)
    power_w: float | None = Field(default=None, ge=0, lt=1e7)


class BurnInResult(Message):
    """What became of one pool's `test`. It passed where every finding is good."""

    pool: str
    test: int
    passed: bool
    findings: list[Finding] = Field(max_length=200)
    seconds: float = Field(ge=0, lt=1e7)
    gpu: str = Field(default="", max_length=80)
    driver: str = Field(default="", max_length=40)
    idle_w: float | None = Field(default=None, ge=0, lt=1e7)
    quality: Quality | None = None
    levels: list[Level] = Field(default=[], max_length=16)


class BurnInAnswer(Message):
    """`accepted` False: another test is asked for by now, or it was known already. Either way it is done with."""

    accepted: bool


class Wanted(Message):
    """All pools of a node, and the name of this version of it."""

    version: str
    pools: list[Desired]


class PoolHealth(Message):
    """`ready`: it takes work, though a parked model is loaded first. The seconds are those of the last fetch and load."""

    pool: str
    ready: bool
    reason: str = ""
    running: int = 0
    state: ModelState | None = None
    fetch_seconds: float | None = None
    load_seconds: float | None = None


class GPUReading(Message):
    """What one GPU said at one moment. Null is no reading, never zero.

    `energy_mj` is its counter since its driver was loaded; ratios are 0..1.
    """

    uuid: str = Field(max_length=80)
    power_w: float | None = Field(default=None, description="Of the moment", ge=0, lt=1e6)
    power_average_w: float | None = Field(default=None, description="Over the last second", ge=0, lt=1e6)
    energy_mj: int | None = Field(default=None, ge=0, lt=2**63)
    utilization: float | None = Field(default=None, ge=0, le=1)
    memory_used_mib: int | None = Field(default=None, ge=0, lt=2**31)
    memory_total_mib: int | None = Field(default=None, ge=0, lt=2**31)
    temperature_c: float | None = Field(default=None, gt=-100, lt=1000)
    clocks_event_reasons: list[Annotated[str, Field(max_length=20)]] | None = Field(default=None, max_length=16)


class Reading(Message):
    """One look at a node's GPUs; `seq` counts the looks of its process from 1."""

    seq: int = Field(ge=1, lt=2**63)
    at: float = Field(description="Unix seconds by the node's clock", ge=0, lt=1e11)
    gpus: list[GPUReading] = Field(max_length=64)


class Telemetry(Message):
    """Looks of one process (`boot` is its claimant) in their order. 200 means counted, once, however often it is sent."""

    boot: str = Field(max_length=40)
    readings: list[Reading] = Field(max_length=500)


class TelemetryAnswer(Message):
    """`seq`: up to there nothing of this process is awaited any more."""

    seq: int


class Heartbeat(Message):
    """Every 2 s. The reply arrives within about a second. `reading` is the newest look, where there is a new one."""

    claimant: str
    leases: list[Lease] = []
    pools: list[PoolHealth] = []
    power_w: float | None = None
    reading: Reading | None = None
    wanted: str | None = Field(
        default=None, description="The version of `Wanted` that it works towards; null: it asks for none"
    )


class Attempt(Message):
    job: str
    attempt: int


class HeartbeatAnswer(Message):
    """`stop`: not yours any more, end it without a word. `cancel`: end it and report `cancelled` with the usage so far."""

    stop: list[Attempt] = []
    cancel: list[Attempt] = []
    wanted: Wanted | None = Field(default=None, description="Where the beat named another version")


class Control(Message):
    """One message on the control stream, as JSON in the field `e`."""

    kind: Literal["cancel", "stop"]
    job: str
    attempt: int


class Watch(Message):
    """Somebody looks at a shard for so long: said again while they do, as JSON in the field `e`.

    `text`: the rows of this one are shown; of the others only how many are in progress.
    """

    job: str
    attempt: int
    text: bool = False
    seconds: float = Field(gt=0, le=60)


class Writing(Message):
    """What a watched shard says of its rows in progress, as JSON in the field `e`, when it changes and every five seconds.

    `running` counts them. `line` is the one whose text is shown, until it has ended; `number` is that of the text: a row that
    is begun anew has another, larger one. `text` is what was written since the last entry, and begins at `off` (UTF-16 code
    units), so a reader cuts an overlap; the first entry of a text takes the place of all before it. Of an answer that is very
    long the text stops (`TEXT_UNITS`) and the counts go on. Nothing of it counts for money.
    """

    running: int = Field(ge=0, lt=2**31)
    line: int | None = Field(default=None, ge=0, lt=2**31)
    number: int = Field(default=0, ge=0, lt=2**53)
    off: int = Field(default=0, ge=0, lt=2**31)
    text: str = Field(default="", max_length=4 * TEXT_UNITS)
    tokens: int = Field(default=0, ge=0, lt=2**31)
    seconds: float = Field(default=0, ge=0, lt=1e9, description="Since its first token")
    ended: bool = False


class GPU(Message):
    uuid: str = Field(pattern=r"^GPU-[0-9A-Za-z-]{1,70}$")
    name: str = Field(default="", max_length=80)
    memory_mib: int | None = Field(default=None, ge=0, lt=2**31)
    serial: str = Field(default="", max_length=40)


class Inventory(Message):
    """What a machine is, as it says itself when it is enrolled."""

    hostname: str = Field(default="", max_length=255)
    driver: str = Field(default="", max_length=40)
    cpus: int | None = None
    memory_mib: int | None = None
    gpus: list[GPU] = Field(default=[], max_length=64)


class Enrolment(Message):
    """A machine takes the place that staff made for it. `proof` signs `enrolment_text` with the private key, which stays there."""

    token: str
    public_key: str = Field(description="Ed25519, 32 bytes, base64", max_length=64)
    inventory: Inventory
    proof: str = Field(description="base64", max_length=128)


class Enrolled(Message):
    """`reason` says why a node is quarantined; its token is refused until staff have looked."""

    node: str
    site: str
    state: str
    reason: str = ""
    pools: list[str] = []


class Renewal(Message):
    """A node asks for its next token. `proof` signs `renewal_text`; a second one with the same or an earlier `at` is refused."""

    node: str
    at: float = Field(description="Unix seconds by the node's clock")
    proof: str = Field(description="base64", max_length=128)


class Renewed(Message):
    """Where the portal gives out rights in Redis, `redis_url` and `broker_url` hold the node's user and password there."""

    token: str
    seconds: float = Field(description="From now; ask again before")
    redis_url: str = ""
    broker_url: str = ""


class DrainWish(Message):
    """Who stands at the machine wants it taken out of work. Asked of a node that is draining already, it changes nothing."""

    reason: str = Field(min_length=1, max_length=160)
    seconds: float = Field(ge=0, le=86_400, description="What still runs then is taken from the node")


class DrainTold(Message):
    purpose: str
    reason: str
    left_seconds: float = Field(description="Until its deadline; negative after it")
    drained: bool = Field(description="Nothing runs there any more")


class NodeTold(Message):
    """How the portal sees a node: what it may do, and how many attempts it has by the portal's books."""

    node: str
    site: str
    state: str
    running: int
    silent_seconds: float | None = None
    drain: DrainTold | None = None


def enrolment_text(token: str, public_key: str, inventory: Inventory) -> bytes:
    return "\n".join(["enrol", token, public_key, *(gpu.uuid for gpu in inventory.gpus)]).encode()


def renewal_text(node: str, at: float) -> bytes:
    return f"renew\n{node}\n{at!r}".encode()


Entry.model_rebuild()
