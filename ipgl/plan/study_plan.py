"""The plan of a study: the checked study file, and complete configurations of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ipgl.config import (
    Component,
    ConfigError,
    Document,
    Phase,
    SearchSettings,
    Settings,
    Source,
    StudyConfig,
    TrackingSettings,
    TrainingSettings,
    TrialConfig,
    Violation,
    check_document,
    config_hash,
    read_document,
)
from ipgl.config.document import KeyPath
from ipgl.config.ranges import Scalar
from ipgl.core.registry import suggestion
from ipgl.data import DATASETS
from ipgl.evaluation import SELECTION_RULES
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.plan.method_plan import MethodPlan, assign, read_method, resolved_sections, value_problems
from ipgl.plan.seeds import final_draws, fixed_seed_problems, vary_problems
from ipgl.tracking import TRACKERS
from ipgl.trial.user_code import ImportFailedError, load_imports


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
        sections = resolved_sections(plan, sampled)
        for source, value in dataset_seeds.items():
            assign(sections["dataset"], DATASETS[self.config.dataset.name].seeds[source].split("."), value)
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
        raise ConfigError(document, [Violation(("imports", error.position), str(error))]) from error
    problems: list[Violation] = []
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
            problems.append(Violation(path, f"unknown {kind} {name!r}: {suggestion(name, registry)}"))
    if problems:
        raise ConfigError(document, problems)
    problems += vary_problems(config)

    plans = []
    for label, raw in config.methods.items():
        plan, found = read_method(config, label, raw)
        found += fixed_seed_problems(config, label, raw, plan.space)
        found += value_problems(document, config, plan)
        plans.append(plan)
        problems += found
    if problems:
        raise ConfigError(document, problems)
    return StudyPlan(document, config, tuple(plans))


def _complete(settings: type[Settings], name: str, values: dict[str, object]) -> Component:
    return Component.model_validate({"name": name, **settings.model_validate(values).model_dump(mode="json")})
