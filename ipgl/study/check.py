"""What a study file's check can only know by building: are data and weights there, and do they fit the methods."""

from __future__ import annotations

from ipgl.errors import IpglError
from ipgl.methods import METHODS
from ipgl.study.plan import StudyPlan
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
