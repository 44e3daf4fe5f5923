"""Checks before a study starts: builds data and models to find missing files and unmet needs of methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ipgl.config import TrialConfig, dotted
from ipgl.config.document import KeyPath
from ipgl.core.errors import DataError, IpglError
from ipgl.data import Alignment, Dataset, group_counts
from ipgl.evaluation import SELECTION_RULES, group_results, mixture_remarks
from ipgl.methods import METHODS, Needs
from ipgl.plan.method_plan import MethodPlan
from ipgl.plan.study_plan import StudyPlan
from ipgl.trial.build import build_model
from ipgl.trial.datasets import cached_dataset, training_counts, trial_alignment, trial_dataset


@dataclass(frozen=True)
class PreflightResult:
    """Result of `check_by_building`.

    Attributes:
        fingerprint: Fingerprint of the first method's data set.
        notes: Remarks about the data for the user, one sentence each.
    """

    fingerprint: str
    notes: tuple[str, ...]


def check_by_building(plan: StudyPlan) -> PreflightResult:
    """Build data and model of every method once, so that errors in them are raised before Ray starts.

    Raises:
        IpglError: Data or weights are missing or damaged, or a method's needs are not met.
    """
    datasets = []
    for method in plan.methods:
        first = {key: found.probes[0] for key, found in method.space.items()}
        # Data sets are built with every probe of their ranges; models and methods were checked by their settings.
        varied = [
            first | {key: probe}
            for key, found in method.space.items()
            if key.startswith("dataset.")
            for probe in found.probes
        ]
        for sampled in varied or [first]:
            config = plan.trial(method.label, sampled, "search", plan.config.search.seed)
            datasets.append(_build(plan, method, config))
    if "pairs" in plan.config.search.vary and not any(len(d.held_out_pairs) for d in datasets):
        raise IpglError(
            f"{_place(plan, ('search', 'vary'))}: the data set has no pairs to draw; set dataset.pairs, or leave "
            "'pairs' out of search.vary"
        )
    notes = tuple(
        dict.fromkeys(
            note for dataset in datasets for note in (*dataset.notes, *_mixture_notes(plan, dataset))
        )
    )
    return PreflightResult(datasets[0].fingerprint, notes)


def study_alignment(plan: StudyPlan, dataset: Dataset) -> Alignment:
    """Which attribute value agrees with each class, as stated in the study file or inferred from the training counts.

    Raises:
        DataError: The stated alignment does not fit the data set; the message names its place in the file.
    """
    try:
        return trial_alignment(plan.config.evaluation, dataset)
    except DataError as error:
        raise DataError(f"{_place(plan, ('evaluation', 'alignment'))}: {error}") from None


def _mixture_notes(plan: StudyPlan, dataset: Dataset) -> tuple[str, ...]:
    alignment, test = study_alignment(plan, dataset), dataset.test
    groups = group_results(
        test.y,
        test.y,
        test.attribute,
        alignment,
        dataset.num_classes,
        dataset.num_attributes,
        training_counts(dataset),
    )
    return mixture_remarks(alignment, groups)


def _build(plan: StudyPlan, method: MethodPlan, config: TrialConfig) -> Dataset:
    path: KeyPath = ("methods", method.label, "dataset")
    path = path if path in plan.document.lines else ("dataset",)
    try:
        dataset = cached_dataset(config.dataset.model_dump_json())
    except DataError as error:
        raise DataError(f"{_place(plan, path)}: {error}") from None
    _check_needs(plan, method, dataset)
    try:
        build_model(config.model, trial_dataset(config), config.seed)
    except ValueError as error:
        raise IpglError(f"{_place(plan, ('model',))}: {error}") from None
    return dataset


def _place(plan: StudyPlan, path: KeyPath) -> str:
    return f"{plan.document.source}:{plan.document.line_of(path)}: {dotted(path)}"


def require_needs(needs: Needs, dataset: Dataset, where: str) -> None:
    """Check that a data set has what a method needs.

    Args:
        needs: The needs of the method.
        dataset: The data.
        where: Place and name of the method, for the beginning of the message.

    Raises:
        IpglError: The data set lacks training pairs, a second attribute value, or a second training environment.
    """
    if needs.pairs and not len(dataset.pairs):
        raise IpglError(
            f"{where} needs invariance pairs, but dataset.pairs gives none for training; "
            "set dataset.pairs.train to 2 or more"
        )
    if needs.groups and dataset.num_attributes < 2:
        raise IpglError(
            f"{where} needs group labels, but the data set has one attribute value; leave the method out"
        )
    environments = len(torch.unique(dataset.train.environment))
    if needs.environments and environments < 2:
        raise IpglError(
            f"{where} needs at least 2 training environments, but the data set has {environments}; "
            "leave the method out"
        )


def _check_needs(plan: StudyPlan, method: MethodPlan, dataset: Dataset) -> None:
    """Check the data for a method's needs, and for the pairs or groups that the selection rule uses."""
    where = f"{_place(plan, ('methods', method.label))}: {method.method}"
    require_needs(METHODS[method.method].needs, dataset, where)
    rule = plan.config.search.selection
    if SELECTION_RULES[rule].needs_pairs and not len(dataset.held_out_pairs):
        raise IpglError(
            f"{_place(plan, ('search', 'selection'))}: {rule} needs held-out pairs, but the data set has none; "
            "set dataset.pairs, or search.selection: average"
        )
    validation = dataset.validation
    counts = group_counts(validation.y, validation.attribute, dataset.num_classes, dataset.num_attributes)
    if SELECTION_RULES[rule].needs_groups and not counts.min():
        empty = [divmod(int(i), dataset.num_attributes) for i in (counts.flatten() == 0).nonzero()]
        raise IpglError(
            f"{_place(plan, ('search', 'selection'))}: {rule} needs validation examples of every group, but "
            f"(label, attribute) {', '.join(map(str, empty))} has none; use pair_robust, which needs no groups"
        )
