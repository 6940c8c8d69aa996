"""The runner's configuration file, TOML. Every error names the field and what to do."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from apps.runner.protocol import Kind


class BadConfiguration(Exception):
    """The file cannot be used; the message says which field and why."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pool(Section):
    """One pool this node serves: its queue is `pool.<code>`, its engine computes `slots` requests at a time."""

    code: Annotated[
        str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="The pool's code in the portal, such as tx1-llama")
    ]
    kind: Annotated[Kind, Field(description="What the model does: chat, embeddings, rerank or ocr")]
    slots: Annotated[int, Field(ge=1, le=4096, description="Requests that its engine computes at a time")] = 1
    engine: Annotated[
        Literal["llama", "url", "rapidocr"],
        Field(description="url: a server you run, by its `url`; llama, rapidocr: embedded ones"),
    ]
    model: Annotated[str, Field(description="What the engine calls its model")] = ""
    gguf: Annotated[
        str,
        Field(
            description="llama: the model file; a relative path lies below models_dir. Empty: the portal names weights"
        ),
    ] = ""
    context: (
        Annotated[int, Field(ge=128, description="llama: tokens of one slot; 0: 4096, or 512 for embeddings")]
        | Literal[0]
    ) = 0
    url: Annotated[str, Field(description="url: where /chat/completions begins, such as http://127.0.0.1:8000/v1")] = ""
    command: Annotated[
        list[str],
        Field(
            description='url: the runner starts this and keeps it, such as ["vllm", "serve", "{weights}", "--port", "8000"]'
        ),
    ] = []
    key: str = ""
    dimensions: Annotated[bool, Field(description="url: the engine shortens embeddings itself when asked")] = False
    gpus: Annotated[
        list[str], Field(description="UUIDs of the GPUs this pool's engine runs on; empty: all of the node")
    ] = []
    idle_w: Annotated[
        float, Field(ge=0, description="What those GPUs draw with the model loaded and nothing to do")
    ] = 0.0
    fixed_w: Annotated[
        float | None, Field(ge=0, description="What they draw as soon as anything runs; unknown: 70 %")
    ] = None

    @model_validator(mode="after")
    def _engine_has_what_it_needs(self) -> Pool:
        if self.command and self.engine != "url":
            raise ValueError('`command` goes with an engine "url"')
        if self.engine == "url" and not self.url.startswith(("http://", "https://")):
            raise ValueError('an engine "url" needs `url`, such as http://127.0.0.1:8000/v1')
        if self.kind == "completion":
            raise ValueError('kind "chat" does completions too')
        if self.kind == "rerank" and self.engine != "url":
            raise ValueError('kind "rerank" needs engine "url"; a pool of kind "embeddings" ranks by its vectors')
        if (self.engine == "rapidocr") != (self.kind == "ocr"):
            raise ValueError('kind "ocr" and engine "rapidocr" go together')
        return self


class Configuration(Section):
    portal_url: Annotated[str, Field(description="Where the portal is, such as https://portal.example.com")]
    redis_url: Annotated[str, Field(description="An enrolled node may leave both out: the portal gives it its own")] = (
        ""
    )
    broker_url: str = ""
    node_token: Annotated[str, Field(description="A fixed token; an enrolled node has an identity instead")] = ""
    identity: Annotated[Path | None, Field(description="The file that `enroll` wrote")] = None
    nvml_command: Annotated[
        list[str],
        Field(description="What is asked for readings in place of this node's own driver, as `nvml.main` answers"),
    ] = []
    spool: Annotated[
        Path, Field(description="A directory of this runner's own, such as /var/lib/cango/spool: reports wait there")
    ]
    models_dir: Path = Path("models")
    pools: Annotated[list[Pool], Field(min_length=1, description="One section [[pools]] for each pool of this node")]

    @field_validator("portal_url")
    @classmethod
    def _http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value.rstrip("/")

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: str) -> str:
        """kombu's name for a unix socket is `redis+socket://`; redis-py's own is understood too."""
        return value.replace("unix://", "redis+socket://", 1) if value.startswith("unix://") else value

    @model_validator(mode="after")
    def _one_way_in(self) -> Configuration:
        if bool(self.node_token) == bool(self.identity):
            raise ValueError("needs `identity`, the file that `enroll` wrote, or a `node_token`, and not both")
        if not (self.identity or (self.redis_url and self.broker_url)):
            raise ValueError("needs `redis_url` and `broker_url`")
        return self

    @model_validator(mode="after")
    def _codes_differ(self) -> Configuration:
        codes = [pool.code for pool in self.pools]
        if len(set(codes)) < len(codes):
            raise ValueError("two pools have the same `code`")
        return self

    def gguf(self, pool: Pool) -> Path | None:
        return self.models_dir / pool.gguf if pool.gguf else None  # an absolute path stays itself


def load(path: Path) -> Configuration:
    """Read a file; relative paths in it start at its directory. Raises BadConfiguration."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read: {error.strerror}.") from error
    except tomllib.TOMLDecodeError as error:
        raise BadConfiguration(f"{path} is not TOML: {error}.") from error
    try:
        configuration = Configuration.model_validate(given)
    except ValidationError as error:
        lines = [told(item, given) for item in error.errors()]
        raise BadConfiguration(f"{path} has {len(lines)} wrong:\n  " + "\n  ".join(lines)) from error
    base = path.resolve().parent
    return configuration.model_copy(
        update={
            "spool": base / configuration.spool,
            "models_dir": base / configuration.models_dir,
            "identity": base / configuration.identity if configuration.identity else None,
        }
    )


def told(item: ErrorDetails, given: dict[str, Any]) -> str:
    """One fault: where, what, and what to do."""
    *above, name = item["loc"] or ("the file",)
    section: type[Section] = Pool if above[:1] == ["pools"] else Configuration
    where = place(item["loc"], given)
    field = section.model_fields.get(str(name))
    match item["type"]:
        case "missing":
            return f"{where}: is missing. {hint(field) or 'Add it'}"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(name), section.model_fields, n=1)
            meant = f"Did you mean `{near[0]}`?" if near else f"There are: {', '.join(section.model_fields)}"
            return f"{where}: is no field here. {meant}"
        case "value_error":
            return f"{where}: {item['msg'].removeprefix('Value error, ')}"
    more = hint(field)
    return f"{where}: {item['msg']}, not {item['input']!r}{f'. {more}' if more else ''}"


def hint(field: FieldInfo | None) -> str:
    return (field.description or "") if field else ""


def place(loc: tuple[int | str, ...], given: dict[str, Any]) -> str:
    """`pools.0.slots (pool tx1-llama)`: the number for the file's order, the code for people."""
    dotted = ".".join(map(str, loc)) or "the file"
    match loc:
        case ("pools", int() as number, *_) if isinstance(given.get("pools"), list):
            pool = given["pools"][number]
            code = pool.get("code") if isinstance(pool, dict) else None
            return f"{dotted} (pool {code})" if code else dotted
    return dotted
