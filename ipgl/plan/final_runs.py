"""The final and component runs of a label's winner, and the components of variance estimated from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipgl.config import Phase, Source, TrialConfig
from ipgl.config.ranges import Scalar
from ipgl.data import DATASETS
from ipgl.evaluation import Tested, VarianceComponent
from ipgl.evaluation.variance_components import RedrawnRun, no_effect, variance_components
from ipgl.methods import METHODS
from ipgl.plan.seeds import Draw, component_draws, final_draws
from ipgl.plan.study_plan import StudyPlan


@dataclass(frozen=True)
class ComponentTrial:
    """A component run, which repeats a final run with one source of randomness drawn again.

    Attributes:
        number: Number of the final run, from 0.
        source: The source that is drawn again; all others are equal.
        original: Configuration of the final run.
        config: Configuration of the component run.
    """

    number: int
    source: Source
    original: TrialConfig
    config: TrialConfig


def final_trials(plan: StudyPlan, label: str, sampled: Mapping[str, Scalar]) -> list[TrialConfig]:
    """Configurations of the final runs of a label's winner, by number.

    Args:
        plan: The study.
        label: The method's name in it.
        sampled: The winner's hyperparameters.
    """
    return [_drawn(plan, label, sampled, draw) for draw in final_draws(plan.config.search)]


def component_trials(plan: StudyPlan, label: str, sampled: Mapping[str, Scalar]) -> list[ComponentTrial]:
    """The component runs of a label's winner, in the order of the final runs that they repeat."""
    originals = final_trials(plan, label, sampled)
    return [
        ComponentTrial(draw.number, source, originals[draw.number], _drawn(plan, label, sampled, draw))
        for source, draw in _component_draws(plan, label)
    ]


def component_runs(plan: StudyPlan, label: str) -> int:
    """The number of component runs of a label that has a winner."""
    return len(_component_draws(plan, label))


def affected(plan: StudyPlan, label: str, source: Source) -> bool:
    """Whether the trained models of a label depend on a source of randomness.

    A method that uses no pairs trains the same model whichever pairs are drawn, so its runs are not repeated for them;
    only its flip rate depends on the held-out pairs.
    """
    return source != "pairs" or METHODS[plan.method(label).method].needs.pairs


def draw_of(plan: StudyPlan, config: TrialConfig) -> Draw | None:
    """The seeds of a final or component run; None for a search trial, or for a configuration of another study."""
    if config.phase == "search":
        return None
    draws = final_draws if config.phase == "final" else component_draws
    known: dict[Source, object] = {"weights": config.seed}
    for source, key in DATASETS[config.dataset.name].seeds.items():
        value: Any = config.dataset.settings
        for part in key.split("."):
            value = value[part]
        known[source] = value
    return next(
        (
            draw
            for draw in draws(plan.config.search)
            if draw.weights == known["weights"]
            and all(known[source] == seed for source, seed in draw.dataset.items())
        ),
        None,
    )


def run_title(plan: StudyPlan, config: TrialConfig) -> str:
    """A title that distinguishes a label's final and component runs: `seed 3`, `run 2`, `seed 3, other pairs`."""
    draw = draw_of(plan, config)
    if draw is None:
        return ""
    search = plan.config.search
    by_seed = "weights" in search.vary
    title = f"seed {final_draws(search)[draw.number].weights}" if by_seed else f"run {draw.number + 1}"
    return f"{title}, other {draw.again}" if draw.again else title


def components_of(
    plan: StudyPlan,
    label: str,
    sampled: Mapping[str, Scalar],
    finals: Sequence[Tested],
    repeated: Mapping[str, Tested],
) -> tuple[VarianceComponent, ...]:
    """A label's components of variance; empty if the study varies a single source, or has no repeated run yet.

    Args:
        plan: The study.
        label: The method's name in it.
        sampled: The winner's hyperparameters.
        finals: The label's completed final runs.
        repeated: The completed component runs by key.
    """
    if len(plan.config.search.vary) < 2:
        return ()
    originals = {tested.run.trial: tested for tested in finals}
    pairs = [
        RedrawnRun(trial.source, originals[trial.original.key], repeated[trial.config.key])
        for trial in component_trials(plan, label, sampled)
        if trial.original.key in originals and trial.config.key in repeated
    ]
    settings = plan.config.evaluation
    found = variance_components(finals, pairs, settings.target_severity, settings.confidence)
    if not found:
        return ()
    unaffected = [source for source in plan.config.search.vary if not affected(plan, label, source)]
    found += tuple(component for source in unaffected for component in no_effect(source))
    order = (*plan.config.search.vary, "all")
    return tuple(sorted(found, key=lambda component: order.index(component.source)))


def _component_draws(plan: StudyPlan, label: str) -> list[tuple[Source, Draw]]:
    return [
        (draw.again, draw)
        for draw in component_draws(plan.config.search)
        if draw.again is not None and affected(plan, label, draw.again)
    ]


def _drawn(plan: StudyPlan, label: str, sampled: Mapping[str, Scalar], draw: Draw) -> TrialConfig:
    phase: Phase = "component" if draw.again else "final"
    return plan.trial(label, sampled, phase, draw.weights, draw.dataset)
