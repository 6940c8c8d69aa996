"""What a template reads within an operator of `{% if %}`, where Django takes whatever fails for False."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cached_property
from inspect import getattr_static, getsource
from textwrap import dedent
from typing import Any

from django.template.base import FilterExpression, Node, NodeList, Variable
from django.template.defaulttags import IfNode, TemplateLiteral
from django.template.engine import Engine
from django.template.loader_tags import IncludeNode

from apps.portal.templatetags.parts import PartNode


def readings(source: str) -> set[str]:
    """Names of a context that are read where a template asks: `"name": cache(…)`."""
    return {
        key.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Call) and getattr(value.func, "id", "") == "cache"
    }


def properties(page: type) -> set[str]:
    """Names of the cached properties of a page's class, and of the properties that ask one of those."""
    known = {name: getattr_static(page, name) for name in dir(page)}
    found = {name for name, value in known.items() if isinstance(value, cached_property)}
    asks = {
        name: {
            node.attr
            for node in ast.walk(ast.parse(dedent(getsource(value.fget))))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        for name, value in known.items()
        if isinstance(value, property) and value.fget is not None
    }
    while more := {name for name, asked in asks.items() if name not in found and asked & found}:
        found |= more
    return found


class Reader:
    """Walks the parts of a template in order. `late` are the paths that read ("plans", "page.files"); `found` are those that an operator asks first."""

    def __init__(self, engine: Engine, late: set[str], chosen: dict[str, list[str]]) -> None:
        self.engine = engine
        self.late = late
        self.chosen = chosen  # the templates that `{% include name %}` may be
        self.found: list[str] = []

    def parts(self, nodelist: NodeList) -> list[str]:
        for part in nodelist.get_nodes_by_type(PartNode):
            self.walk(part.nodelist, {part.name})  # type: ignore[attr-defined]
        return self.found

    def walk(self, nodelist: Iterable[Node], read: set[str]) -> None:
        """`read` are the paths that were read plainly before."""
        for node in nodelist:
            if isinstance(node, IfNode):
                self.branches(node, read)
                continue
            read |= {prefix for path in paths(node) for prefix in prefixes(path)}
            if isinstance(node, IncludeNode):
                given = set(node.extra_context)
                inner = {path for path in read if path.partition(".")[0] not in given}
                for name in self.included(node):
                    self.walk(self.engine.get_template(name).nodelist, set(inner))
            for attribute in node.child_nodelists:
                self.walk(getattr(node, attribute, None) or (), set(read))

    def branches(self, node: IfNode, read: set[str]) -> None:
        asked = read
        for condition, nodelist in node.conditions_nodelists:
            if isinstance(condition, TemplateLiteral):
                asked |= {prefix for path in paths(condition.value) for prefix in prefixes(path)}
            elif condition is not None:
                self.found += [
                    path
                    for path in operands(condition)
                    if any(each in self.late and each not in asked for each in prefixes(path))
                ]
            asked = set(asked)  # what a later branch asks is not asked after the first
            self.walk(nodelist, set(asked))

    def included(self, node: IncludeNode) -> list[str]:
        name = node.template.var
        return self.chosen[name.var] if isinstance(name, Variable) else [str(name)]


def operands(condition: Any) -> Iterator[str]:
    if isinstance(condition, TemplateLiteral):
        yield from paths(condition.value)
    elif condition is not None:
        yield from operands(condition.first)
        yield from operands(condition.second)


def paths(thing: Any) -> Iterator[str]:
    """Of all variables that a node asks for by itself, not by the nodes within."""
    if isinstance(thing, Variable):
        if thing.lookups:
            yield ".".join(thing.lookups)
    elif isinstance(thing, FilterExpression):
        yield from paths(thing.var)
        for _, arguments in thing.filters:
            yield from paths([value for is_variable, value in arguments if is_variable])
    elif isinstance(thing, Node):
        yield from paths(
            [value for name, value in vars(thing).items() if not isinstance(value, Node) and name != "nodelist"]
        )
    elif isinstance(thing, dict):
        yield from paths(list(thing.values()))
    elif isinstance(thing, list | tuple) and not isinstance(thing, NodeList):
        for each in thing:
            yield from paths(each) if not isinstance(each, Node) else ()


def prefixes(path: str) -> list[str]:
    bits = path.split(".")
    return [".".join(bits[: n + 1]) for n in range(len(bits))]
