"""The API reference, out of the OpenAPI document as it is served: operations by tag, and the shapes they speak of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator

PREFIX = "#/components/schemas/"
TITLES = {"inference": "Inference", "files": "Files", "batches": "Batches"}
ERROR = "Error"

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of a type's description; with `shape` it links there."""

    text: str
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: list[Words]
    required: bool
    description: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    media_type: str
    type: list[Words]
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    type: list[Words]
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Field]
    bodies: list[Body]
    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Shape:
    name: str
    description: str
    type: list[Words]  # where it has no fields
    fields: list[Field]


@dataclass(slots=True)
class Chapter:
    """What one tag has."""

    slug: str
    operations: list[Operation] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)

    @property
    def title(self) -> str:
        return TITLES.get(self.slug, self.slug.capitalize())

    @property
    def url(self) -> str:
        return reverse("portal:docs-reference", args=[self.slug])


@cache
def schema() -> Schema:
    """Made once for a process: it takes about a second, and changes only with the code."""
    made: Schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return made


@cache
def chapters() -> dict[str, Chapter]:
    found: dict[str, Chapter] = {}
    shapes: dict[str, dict[str, None]] = {}
    for path, methods in schema()["paths"].items():
        for method, described in methods.items():
            slug = described["tags"][0]
            chapter = found.setdefault(slug, Chapter(slug))
            chapter.operations.append(operation(method, path, described))
            for name in reachable(described):
                shapes.setdefault(slug, {})[name] = None
    for slug, names in shapes.items():
        found[slug].shapes = [shape(name) for name in names]
    return found


def operation(method: str, path: str, described: Schema) -> Operation:
    bodies = described.get("requestBody", {}).get("content", {})
    return Operation(
        id=described["operationId"],
        method=method.upper(),
        path=path,
        summary=described.get("summary", ""),
        description=described.get("description", ""),
        parameters=[
            Field(
                each["name"], type_of(each["schema"]), bool(each.get("required")), each.get("description", "")
            )
            for each in described.get("parameters", [])
        ],
        bodies=[Body(media, type_of(each["schema"]), fields(resolved(each["schema"]))) for media, each in bodies.items()],
        answers=[
            Answer(status, answer_type(answer), answer.get("description", ""))
            for status, answer in described["responses"].items()
            if status.startswith("2")
        ],
    )  # fmt: skip


def answer_type(answer: Schema) -> list[Words]:
    return next((type_of(each["schema"]) for each in answer.get("content", {}).values()), [])


def shape(name: str) -> Shape:
    described = named(name)
    found = fields(described)
    return Shape(name, described.get("description", ""), [] if found else type_of(described), found)


def named(name: str) -> Schema:
    described: Schema = schema()["components"]["schemas"][name]
    return described


def resolved(described: Schema) -> Schema:
    while "$ref" in described:
        described = named(described["$ref"].removeprefix(PREFIX))
    return described


def fields(described: Schema) -> list[Field]:
    required = set(described.get("required", []))
    return [
        Field(name, type_of(each), name in required, each.get("description", ""))
        for name, each in described.get("properties", {}).items()
    ]


def type_of(described: Any) -> list[Words]:
    """A schema in words: `integer, 1 to 128 or null`."""
    if not isinstance(described, dict) or not described:
        return [Words("anything")]
    if "$ref" in described:
        name = described["$ref"].removeprefix(PREFIX)
        return [Words(name, name)]
    several = next((described[each] for each in ("oneOf", "anyOf", "allOf") if each in described), None)
    if several is None and isinstance(described.get("type"), list):
        several = [{**described, "type": each} for each in described["type"]]
    if several is not None:
        return joined([type_of(each) for each in several], " or ")
    if described.get("type") == "array":
        return [Words("list of "), *type_of(described.get("items", {}))]
    return [Words(", ".join(values(described)) or f"{described.get('type', 'anything')}{bounds(described)}")]


def values(described: Schema) -> list[str]:
    """The values it may have, where they are listed, as JSON has them."""
    listed = described["enum"] if "enum" in described else [described["const"]] if "const" in described else []
    return [json.dumps(each, ensure_ascii=False) for each in listed]


def bounds(described: Schema) -> str:
    low = described.get("minimum", described.get("minLength"))
    high = described.get("maximum", described.get("maxLength"))
    unit = " characters" if "maxLength" in described or "minLength" in described else ""
    if low is not None and high is not None:
        return f", {low} to {high}{unit}"
    if high is not None:
        return f", up to {high}{unit}"
    return f", {low} or more{unit}" if low is not None else ""


def joined(several: list[list[Words]], between: str) -> list[Words]:
    found = list[Words]()
    for each in several:
        found += [Words(between), *each] if found else each
    return found


def reachable(described: Any) -> Iterator[str]:
    """Names of the shapes that an operation or a schema speaks of, each once, nearest first; refusals have one of their own."""
    seen: set[str] = {ERROR}
    waiting: list[Any] = [described]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, dict):
            name = str(each.get("$ref", "")).removeprefix(PREFIX)
            if name and name not in seen:
                seen.add(name)
                yield name
                waiting.append(named(name))
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
