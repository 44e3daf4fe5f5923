"""Validation errors: pydantic's error list as messages with file, line, key, rule, value and nearest name."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from ipgl.config.document import Document, KeyPath
from ipgl.core.errors import IpglError
from ipgl.core.registry import suggestion


@dataclass(frozen=True)
class Violation:
    """One broken rule at one place of a document."""

    path: KeyPath
    message: str


class ConfigError(IpglError):
    """A study file that breaks one or more rules; `violations` holds them all."""

    def __init__(self, document: Document, violations: Iterable[Violation]) -> None:
        self.violations = list(dict.fromkeys(violations))
        super().__init__("\n".join(_located(document, violation) for violation in self.violations))


def _located(document: Document, violation: Violation) -> str:
    where = dotted(violation.path)
    return f"{document.source}:{document.line_of(violation.path)}: {where + ': ' if where else ''}{violation.message}"


def dotted(path: Sequence[str | int]) -> str:
    """`('search', 'seeds', 0)` as `search.seeds[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def violations_of(error: ValidationError, model: type[BaseModel], prefix: KeyPath = ()) -> list[Violation]:
    """Translate a pydantic error; `prefix` is the path of `model`'s mapping in the document."""
    violations = []
    items = error.errors(include_url=False)
    for item in items:
        if item["type"] == "too_short" and any(
            len(other["loc"]) > len(item["loc"]) and other["loc"][: len(item["loc"])] == item["loc"]
            for other in items
        ):
            continue  # pydantic counts valid items only, and the faults of the others are reported already
        path = tuple(part for part in item["loc"] if not _is_union_tag(part))
        if item["type"] == "extra_forbidden":
            name, known = str(path[-1]), _fields_at(model, path[:-1])
            message = f"unknown key {name!r}: {suggestion(name, known)}"
        elif item["type"] == "missing":
            message = f"this key is required but missing; add `{path[-1]}: ...`"
        else:
            message = _value_message(item["msg"], item["input"])
        violations.append(Violation(prefix + path, message))
    return violations


def _value_message(rule: str, value: object) -> str:
    rule = rule.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if ", but got" in rule or isinstance(value, BaseModel):
        return rule
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    hint = ""
    if isinstance(value, dict) and len(value) == 1:
        from ipgl.config.ranges import RANGES

        key = str(next(iter(value)))
        hint = (
            "; this key takes one value, not a search range (ranges stand under `methods`)"
            if key in RANGES
            else f"; if this is meant as a search range, {key!r} is not one: {suggestion(key, RANGES)}"
        )
    return f"{rule[:1].lower()}{rule[1:]}, but got {shown}{hint}"


def _is_union_tag(part: str | int) -> bool:
    # Pydantic puts the tried branch of a union into the location; it is no key of the file.
    return isinstance(part, str) and (
        part in {"str", "int", "float", "bool", "none"}
        or "[" in part
        or part.startswith(("function-", "constrained-"))
    )


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the settings class at `path` below `model` knows."""
    current: object = model
    for part in path:
        candidates = [
            cls for cls in _models_in(current) if isinstance(part, str) and part in cls.model_fields
        ]
        if candidates:
            current = candidates[0].model_fields[str(part)].annotation
        else:  # a dict's value or a list's element: its model is among the annotation's arguments
            current = list(typing.get_args(current)) or current
    return [name for cls in _models_in(current) for name in cls.model_fields]


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, list):
        return [cls for item in annotation for cls in _models_in(item)]
    if inspect.isclass(annotation) and not typing.get_args(annotation):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [cls for item in typing.get_args(annotation) for cls in _models_in(item)]
