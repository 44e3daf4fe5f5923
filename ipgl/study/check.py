"""What a study file's check can only know by building: are data and weights there, and do they fit the methods."""

from __future__ import annotations

import torch

from ipgl.data import Dataset, group_counts
from ipgl.errors import IpglError
from ipgl.evaluation import SELECTION_RULES
from ipgl.methods import METHODS
from ipgl.study.plan import MethodPlan, StudyPlan
from ipgl.study.trial import build_dataset, build_model


def check_by_building(plan: StudyPlan) -> None:
    """Build data and model of every method once, so that what is wrong with them is known before Ray starts.

    Raises:
        IpglError: Data or weights are missing or damaged, or a method's needs are not met.
    """
    for method in plan.methods:
        sampled = {key: found.probes[0] for key, found in method.space.items()}
        config = plan.trial(method.label, sampled, "search", plan.config.search.seed)
        dataset = build_dataset(config.dataset)
        _check_needs(plan, method, dataset)
        if METHODS[method.method].needs.pairs and not len(dataset.pairs):
            raise IpglError(
                f"{plan.document.source}:{plan.document.line_of(('methods', method.label))}: methods.{method.label}: "
                f"{method.method} needs invariance pairs, but dataset.pairs gives none for training; "
                "set dataset.pairs.train to 2 or more"
            )
        try:
            build_model(config.model, dataset, config.seed)
        except ValueError as error:
            line = plan.document.line_of(("model", "name"))
            raise IpglError(f"{plan.document.source}:{line}: model: {error}") from None


def _check_needs(plan: StudyPlan, method: MethodPlan, dataset: Dataset) -> None:
    """Refuse a method whose groups or environments the training data does not have, and a rule without its groups."""
    needs, place = METHODS[method.method].needs, f"methods.{method.label}: {method.method}"
    line = plan.document.line_of(("methods", method.label))
    where = f"{plan.document.source}:{line}: {place}"
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
    rule = plan.config.search.selection
    validation = dataset.validation
    counts = group_counts(validation.y, validation.attribute, dataset.num_classes, dataset.num_attributes)
    if SELECTION_RULES[rule].needs_groups and not counts.min():
        empty = [divmod(int(i), dataset.num_attributes) for i in (counts.flatten() == 0).nonzero()]
        line = plan.document.line_of(("search", "selection"))
        raise IpglError(
            f"{plan.document.source}:{line}: search.selection: {rule} needs validation examples of every group, but "
            f"(label, attribute) {', '.join(map(str, empty))} has none; use pair_robust, which needs no groups"
        )
