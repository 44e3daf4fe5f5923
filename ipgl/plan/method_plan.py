"""The entry of one method in a study file: its settings and search space, checked value by value."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from ipgl.config import (
    Document,
    Range,
    RangeError,
    StudyConfig,
    TrainingSettings,
    Violation,
    parse_range,
    violations_of,
)
from ipgl.config.document import KeyPath
from ipgl.config.ranges import Scalar, contains
from ipgl.core.registry import nearest, suggestion
from ipgl.data import DATASETS
from ipgl.methods import METHODS
from ipgl.models import MODELS

# Sections of the study file that a method's entry may override; its other keys are the method's own settings.
SECTIONS = ("dataset", "model", "training")


@dataclass(frozen=True)
class MethodPlan:
    """The plan of one label: a method, its settings and its search space.

    Attributes:
        label: The method's name in the study file.
        method: Name of the registry entry.
        sections: Fixed values by section; the section `method` holds the method's own settings.
        space: Search range by dotted key; keys of other sections begin with the section's name.
        start: Hyperparameters that the search tries first; each has a value for every key of `space`.
    """

    label: str
    method: str
    sections: dict[str, dict[str, object]]
    space: dict[str, Range]
    start: tuple[dict[str, Scalar], ...]


def read_method(
    config: StudyConfig, label: str, raw: dict[str, object]
) -> tuple[MethodPlan, list[Violation]]:
    """The plan of a method's entry, and the problems of its form; its values are not checked yet.

    Args:
        config: The study.
        label: The method's name in it.
        raw: The method's entry in the study file.
    """
    path: KeyPath = ("methods", label)
    problems: list[Violation] = []
    own = {key: value for key, value in raw.items() if key not in {*SECTIONS, "method", "start"}}
    sections = {
        "dataset": config.dataset.settings,
        "model": config.model.settings,
        "training": config.training.model_dump(mode="json"),
        "method": own,
    }
    space: dict[str, Range] = {}
    for name in ("method", *SECTIONS):
        prefix, tree = ((), own) if name == "method" else ((name,), raw.get(name, {}))
        if not isinstance(tree, dict):
            problems.append(Violation((*path, name), f"this section is a mapping, but got {tree!r}"))
            continue
        fixed: dict[str, object] = {}
        for keys, value in _leaves(tree):
            if any("." in key for key in keys):
                message = "a key has no dot in it; write nested keys as nested mappings"
                problems.append(Violation((*path, *prefix, *keys), message))
                continue
            try:
                found = parse_range(value)
            except RangeError as error:
                kind = next(iter(cast(dict[str, object], value)))
                problems.append(Violation((*path, *prefix, *keys, kind), str(error)))
                continue
            if found is None:
                assign(fixed, keys, value)
            else:
                space[".".join((*prefix, *keys))] = found
        sections[name] = fixed if name == "method" else _merged(sections[name], fixed)
    start, found_problems = _start_points((*path, "start"), raw.get("start", []), space)
    method = str(raw.get("method", label))
    return MethodPlan(label, method, sections, space, tuple(start)), problems + found_problems


def _start_points(
    path: KeyPath, raw: object, space: dict[str, Range]
) -> tuple[list[dict[str, Scalar]], list[Violation]]:
    if not isinstance(raw, list) or not all(isinstance(point, dict) for point in raw):
        return [], [
            Violation(path, f"start is a list of mappings from searched keys to values, but got {raw!r}")
        ]
    problems = []
    for number, point in enumerate(raw):
        for key, value in point.items():
            if key not in space:
                problems.append(
                    Violation((*path, number, key), f"{key!r} is not searched: {suggestion(key, space)}")
                )
            elif not contains(space[key], value):
                problems.append(
                    Violation((*path, number, key), f"must lie in {space[key]}, but got {value!r}")
                )
        if missing := sorted(space.keys() - point.keys()):
            problems.append(
                Violation((*path, number), f"needs a value for every range; missing: {', '.join(missing)}")
            )
    return [dict(point) for point in raw], problems


def value_problems(document: Document, config: StudyConfig, plan: MethodPlan) -> list[Violation]:
    """The problems of a method's values, checked with each probe value of each search range."""
    first: dict[str, Scalar] = {key: found.probes[0] for key, found in plan.space.items()}
    candidates: list[tuple[str | None, int, dict[str, Scalar]]] = [(None, 0, first)]
    candidates += [
        (key, number, first | {key: probe})
        for key, found in plan.space.items()
        for number, probe in enumerate(found.probes)
    ]
    problems: dict[KeyPath, Violation] = {}
    for varied, number, sampled in candidates:
        for problem in _section_problems(document, config, plan, resolved_sections(plan, sampled)):
            path = problem.path
            key = ".".join(map(str, path[2:]))
            if key in plan.space and not problem.message.startswith("unknown key"):
                if key != varied:
                    continue  # reported with its own probe
                bounds = (*path, _range_kind(document, path))
                path = (*bounds, number)
                if path not in document.lines:  # a probe between the bounds
                    if any(known[:-1] == bounds for known in problems):
                        continue
                    path = bounds
            problems.setdefault(path, Violation(path, problem.message))
    return list(problems.values())


def _section_problems(
    document: Document, config: StudyConfig, plan: MethodPlan, sections: dict[str, dict[str, object]]
) -> Iterator[Violation]:
    own: KeyPath = ("methods", plan.label)
    classes: dict[str, tuple[type[BaseModel], KeyPath]] = {
        "method": (METHODS[plan.method].settings, own),
        "dataset": (DATASETS[config.dataset.name].settings, (*own, "dataset")),
        "model": (MODELS[config.model.name].settings, (*own, "model")),
        "training": (TrainingSettings, (*own, "training")),
    }
    for name, (settings, prefix) in classes.items():
        try:
            checked = settings.model_validate(sections[name])
        except ValidationError as error:
            for problem in violations_of(error, settings, prefix):
                message = problem.message
                if (
                    name == "method"
                    and message.startswith("unknown key")
                    and not nearest(str(problem.path[-1]), settings.model_fields)
                ):
                    message += (
                        f" The sections {', '.join(SECTIONS)} and the keys method, start may stand here too."
                    )
                # A value that the entry does not override is in the section of the whole study.
                inherited = name != "method" and problem.path not in document.lines
                yield Violation(problem.path[2:] if inherited else problem.path, message)
            continue
        if name == "training":
            batch = cast(TrainingSettings, checked).batch_size
            if batch % config.resources.workers:
                yield Violation(
                    (*prefix, "batch_size"),
                    f"must be a multiple of resources.workers={config.resources.workers}, but got {batch}",
                )


def resolved_sections(plan: MethodPlan, sampled: Mapping[str, Scalar]) -> dict[str, dict[str, object]]:
    """The sections of a method's plan with the sampled hyperparameters, which are given by dotted keys."""
    sections = copy.deepcopy(plan.sections)
    for key, value in sampled.items():
        head, *rest = key.split(".")
        section, keys = (head, rest) if rest and head in SECTIONS else ("method", [head, *rest])
        assign(sections[section], keys, value)
    return sections


def _leaves(tree: dict[str, object], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """The values of a nested mapping with their keys; search ranges and empty mappings are values."""
    for key, value in tree.items():
        if isinstance(value, dict) and value and not _is_range(value):
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _is_range(value: object) -> bool:
    try:
        return parse_range(value) is not None
    except RangeError:
        return True


def _merged(base: dict[str, object], override: dict[str, object]) -> dict[str, object]:
    merged = copy.deepcopy(base)
    for key, value in override.items():
        inherited = merged.get(key)
        merged[key] = (
            _merged(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
        )
    return merged


def _range_kind(document: Document, path: KeyPath) -> str:
    """The key of the search range that the document has at `path`."""
    data: Any = document.data
    for part in path:
        data = data[part]
    return str(next(iter(data)))


def assign(tree: dict[str, object], keys: tuple[str, ...] | list[str], value: object) -> None:
    """Set a value in a nested mapping, of which missing levels are made."""
    *parents, last = keys
    for key in parents:
        below = tree.get(key)
        if not isinstance(below, dict):
            tree[key] = below = {}
        tree = below
    tree[last] = value
