"""The plan of a study: the checked study file, and complete configurations of its trials."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from ipgl.config import (
    Component,
    ConfigError,
    Document,
    Phase,
    Problem,
    Range,
    RangeError,
    SearchSettings,
    Settings,
    Source,
    StudyConfig,
    TrackingSettings,
    TrainingSettings,
    TrialConfig,
    check_document,
    config_hash,
    parse_range,
    problems_of,
    read_document,
)
from ipgl.config.document import KeyPath
from ipgl.config.ranges import Scalar, contains
from ipgl.core.registry import nearest, suggestion
from ipgl.data import DATASETS
from ipgl.evaluation import SELECTION_RULES
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.plan.seeds import final_draws, fixed_seed_problems, vary_problems
from ipgl.tracking import TRACKERS
from ipgl.trial.user_code import ImportFailedError, load_imports

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
    sections: dict[str, dict[str, Any]]
    space: dict[str, Range]
    start: tuple[dict[str, Scalar], ...]


@dataclass(frozen=True)
class StudyPlan:
    """A study file after all checks that need no data.

    Attributes:
        document: The parsed study file with its line numbers.
        config: The validated study file.
        methods: The plan of each label, in the order of the file.
    """

    document: Document
    config: StudyConfig
    methods: tuple[MethodPlan, ...]

    @property
    def hash(self) -> str:
        """Hash of the configuration, without settings that do not influence results (storage, tracking, packing)."""
        search = {"pack"}
        if self.config.search.vary == SearchSettings().vary:
            search.add("vary")  # keeps the hash of studies that were started before this setting existed
        excluded: dict[str, bool | set[str]] = dict.fromkeys(("tracking", "storage", "question"), True)
        excluded["search"] = search
        return config_hash(self.config.model_dump(mode="json", exclude=excluded))

    def for_trials(self) -> StudyPlan:
        """The plan without the text of the file and the tracker's address, which may contain a password.

        Ray stores objects that are sent to its workers, also in files.
        """
        config = self.config.model_copy(update={"tracking": TrackingSettings(name="none")})
        return StudyPlan(replace(self.document, text="", data={}), config, self.methods)

    def method(self, label: str) -> MethodPlan:
        """The plan of one label."""
        return next(plan for plan in self.methods if plan.label == label)

    def trial(
        self,
        label: str,
        sampled: Mapping[str, Scalar],
        phase: Phase,
        seed: int,
        dataset_seeds: Mapping[Source, int] = MappingProxyType({}),
    ) -> TrialConfig:
        """The complete configuration of one trial.

        Args:
            label: The method's name in the study file.
            sampled: A value for every key of the label's search space.
            phase: The phase of the study to which the trial belongs.
            seed: Seed of the initial weights, the batch order and the method's own randomness.
            dataset_seeds: Seeds of the data set that replace those of the study file, by source.
        """
        plan = self.method(label)
        sections = _with_values(plan, sampled)
        for source, value in dataset_seeds.items():
            _assign(sections["dataset"], DATASETS[self.config.dataset.name].seeds[source].split("."), value)
        return TrialConfig(
            study=self.config.name,
            label=label,
            phase=phase,
            seed=seed,
            hyperparameters=dict(sampled),
            dataset=_complete(
                DATASETS[self.config.dataset.name].settings, self.config.dataset.name, sections["dataset"]
            ),
            model=_complete(
                MODELS[self.config.model.name].settings, self.config.model.name, sections["model"]
            ),
            method=_complete(METHODS[plan.method].settings, plan.method, sections["method"]),
            training=TrainingSettings.model_validate(sections["training"]),
            evaluation=self.config.evaluation,
            resources=self.config.resources,
            selection=self.config.search.selection,
        )

    def search_trials(self, label: str) -> int:
        """Number of search trials of a label: one if its search space is empty."""
        return self.config.search.trials if self.method(label).space else 1

    def final_seeds(self) -> list[int]:
        """Seeds of the weights in the final runs; no search trial uses them."""
        return [draw.weights for draw in final_draws(self.config.search)]


def load_plan(path: Path, skip_bad: bool = False, storage: str | None = None) -> StudyPlan:
    """Read and check a study file.

    Args:
        path: The file.
        skip_bad: Set the data set's `skip_bad`, so that faulty rows are left out.
        storage: Folder or URI that replaces the file's `storage`.

    Raises:
        IpglError: The file cannot be read or breaks a rule; the message names file, line, key, rule and value.
    """
    document = read_document(path)
    plan = make_plan(skipping_bad(document) if skip_bad else document)
    if storage is None:
        return plan
    return replace(plan, config=plan.config.model_copy(update={"storage": storage}))


def skipping_bad(document: Document) -> Document:
    """The same document with `dataset.skip_bad: true`."""
    dataset = document.data.get("dataset") if isinstance(document.data, dict) else None
    if not isinstance(dataset, dict):
        return document
    return replace(document, data={**document.data, "dataset": {**dataset, "skip_bad": True}})


def make_plan(document: Document) -> StudyPlan:
    """Check a document against the schema and the registries.

    Raises:
        ConfigError: One or more rules are broken; the message holds all of them.
    """
    config = check_document(document)
    try:
        load_imports(config.imports, Path(document.source).parent)
    except ImportFailedError as error:
        raise ConfigError(document, [Problem(("imports", error.position), str(error))]) from error
    problems: list[Problem] = []
    named: list[tuple[KeyPath, str, str, Mapping[str, object]]] = [
        (("dataset", "name"), "dataset", config.dataset.name, DATASETS),
        (("model", "name"), "model", config.model.name, MODELS),
        (("search", "selection"), "selection rule", config.search.selection, SELECTION_RULES),
        (("tracking", "name"), "tracker", config.tracking.name, TRACKERS),
    ]
    for label, raw in config.methods.items():
        key: KeyPath = ("methods", label, "method") if "method" in raw else ("methods", label)
        named.append((key, "method", str(raw.get("method", label)), METHODS))
    for path, kind, name, registry in named:
        if name not in registry:
            problems.append(Problem(path, f"unknown {kind} {name!r}: {suggestion(name, registry)}"))
    if problems:
        raise ConfigError(document, problems)
    problems += vary_problems(config)

    plans = []
    for label, raw in config.methods.items():
        plan, found = _method_plan(config, label, raw)
        found += fixed_seed_problems(config, label, raw, plan.space)
        found += _check_values(document, config, plan)
        plans.append(plan)
        problems += found
    if problems:
        raise ConfigError(document, problems)
    return StudyPlan(document, config, tuple(plans))


def _method_plan(config: StudyConfig, label: str, raw: dict[str, Any]) -> tuple[MethodPlan, list[Problem]]:
    path: KeyPath = ("methods", label)
    problems: list[Problem] = []
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
            problems.append(Problem((*path, name), f"this section is a mapping, but got {tree!r}"))
            continue
        fixed: dict[str, Any] = {}
        for keys, value in _leaves(tree):
            if any("." in key for key in keys):
                message = "a key has no dot in it; write nested keys as nested mappings"
                problems.append(Problem((*path, *prefix, *keys), message))
                continue
            try:
                found = parse_range(value)
            except RangeError as error:
                problems.append(Problem((*path, *prefix, *keys, next(iter(value))), str(error)))
                continue
            if found is None:
                _assign(fixed, keys, value)
            else:
                space[".".join((*prefix, *keys))] = found
        sections[name] = fixed if name == "method" else _merged(sections[name], fixed)
    start, found_problems = _start_points((*path, "start"), raw.get("start", []), space)
    method = str(raw.get("method", label))
    return MethodPlan(label, method, sections, space, tuple(start)), problems + found_problems


def _start_points(
    path: KeyPath, raw: Any, space: dict[str, Range]
) -> tuple[list[dict[str, Scalar]], list[Problem]]:
    if not isinstance(raw, list) or not all(isinstance(point, dict) for point in raw):
        return [], [
            Problem(path, f"start is a list of mappings from searched keys to values, but got {raw!r}")
        ]
    problems = []
    for number, point in enumerate(raw):
        for key, value in point.items():
            if key not in space:
                problems.append(
                    Problem((*path, number, key), f"{key!r} is not searched: {suggestion(key, space)}")
                )
            elif not contains(space[key], value):
                problems.append(Problem((*path, number, key), f"must lie in {space[key]}, but got {value!r}"))
        if missing := sorted(space.keys() - point.keys()):
            problems.append(
                Problem((*path, number), f"needs a value for every range; missing: {', '.join(missing)}")
            )
    return [dict(point) for point in raw], problems


def _check_values(document: Document, config: StudyConfig, plan: MethodPlan) -> list[Problem]:
    """Problems of a method's sections, checked with each probe value of each search range."""
    first: dict[str, Scalar] = {key: found.probes[0] for key, found in plan.space.items()}
    candidates: list[tuple[str | None, int, dict[str, Scalar]]] = [(None, 0, first)]
    candidates += [
        (key, number, first | {key: probe})
        for key, found in plan.space.items()
        for number, probe in enumerate(found.probes)
    ]
    problems: dict[KeyPath, Problem] = {}
    for varied, number, sampled in candidates:
        for problem in _section_problems(document, config, plan, _with_values(plan, sampled)):
            path = problem.path
            key = ".".join(map(str, path[2:]))
            if key in plan.space and not problem.message.startswith("unknown key"):
                if key != varied:
                    continue  # reported with its own probe
                bounds = (*path, next(iter(_value_at(document.data, path))))
                path = (*bounds, number)
                if path not in document.lines:  # a probe between the bounds
                    if any(known[:-1] == bounds for known in problems):
                        continue
                    path = bounds
            problems.setdefault(path, Problem(path, problem.message))
    return list(problems.values())


def _section_problems(
    document: Document, config: StudyConfig, plan: MethodPlan, sections: dict[str, dict[str, Any]]
) -> Iterator[Problem]:
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
            for problem in problems_of(error, settings, prefix):
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
                yield Problem(problem.path[2:] if inherited else problem.path, message)
            continue
        if name == "training":
            batch = cast(TrainingSettings, checked).batch_size
            if batch % config.resources.workers:
                yield Problem(
                    (*prefix, "batch_size"),
                    f"must be a multiple of resources.workers={config.resources.workers}, but got {batch}",
                )


def _with_values(plan: MethodPlan, sampled: Mapping[str, Scalar]) -> dict[str, dict[str, Any]]:
    sections = copy.deepcopy(plan.sections)
    for key, value in sampled.items():
        head, *rest = key.split(".")
        section, keys = (head, rest) if rest and head in SECTIONS else ("method", [head, *rest])
        _assign(sections[section], keys, value)
    return sections


def _complete(settings: type[Settings], name: str, values: dict[str, Any]) -> Component:
    return Component.model_validate({"name": name, **settings.model_validate(values).model_dump(mode="json")})


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
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


def _assign(tree: dict[str, Any], keys: tuple[str, ...] | list[str], value: object) -> None:
    *parents, last = keys
    for key in parents:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[last] = value


def _merged(base: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(base)
    for key, value in override.items():
        inherited = merged.get(key)
        merged[key] = (
            _merged(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
        )
    return merged


def _value_at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data
