"""Seeds of the final runs and of the component runs, which repeat a final run with one source of randomness redrawn.

The seeds of all sources in `search.vary` are derived in the same way; other sources keep the study file's seeds. All
methods share the seeds of a final run, so that run 2 of each uses the same data and the same held-out pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

from ipgl.config import SearchSettings, Source, StudyConfig, Violation
from ipgl.config.document import KeyPath
from ipgl.data import DATASETS, derive_seed


@dataclass(frozen=True)
class Draw:
    """The seeds of one final or component run.

    Attributes:
        number: The final run's number, from 0; a component run has that of the final run which it repeats.
        weights: Seed of the initial weights, the batch order and the method's own randomness.
        dataset: Seeds of the varied sources that belong to the data set.
        again: The source that a component run redraws; None for a final run.
    """

    number: int
    weights: int
    dataset: Mapping[Source, int] = field(default_factory=dict)
    again: Source | None = None


def final_draws(search: SearchSettings) -> list[Draw]:
    """One draw per final run, by number.

    The seed of the weights is the search's seed plus 1, 2, ...; where weights are not varied, it is the first of these
    for all runs. No search trial uses them. Other seeds are derived, and are below 2**32, as numpy requires.
    """
    return [
        Draw(
            number,
            search.seed + 1 + (number if "weights" in search.vary else 0),
            {source: _derived(search, source, number) for source in search.vary if source != "weights"},
        )
        for number in range(search.final_seeds)
    ]


def component_draws(search: SearchSettings) -> list[Draw]:
    """One draw for each final run and each varied source: that run's seeds with the source's seed replaced.

    This is pick-freeze sampling (Jansen 1999; Saltelli et al. 2010, table 2 (f)): half the mean squared difference
    between a run and its repetition is the source's total effect. Empty if a single source is varied: its effect
    is then the variance of the final runs.
    """
    if len(search.vary) < 2:
        return []
    return [_again(search, draw, source) for draw in final_draws(search) for source in search.vary]


def _again(search: SearchSettings, draw: Draw, source: Source) -> Draw:
    seed = _derived(search, source, draw.number, "again")
    if source == "weights":
        return Draw(draw.number, seed, draw.dataset, source)
    dataset = {**draw.dataset, source: seed}
    return Draw(draw.number, draw.weights, cast("Mapping[Source, int]", dataset), source)


def _derived(search: SearchSettings, source: Source, number: int, *more: str) -> int:
    return derive_seed(search.seed, "vary", source, number, *more) % 2**32


def vary_problems(config: StudyConfig) -> list[Violation]:
    """Violations of `search.vary`: sources for which the data set has no seed."""
    known = ["weights", *DATASETS[config.dataset.name].seeds]
    return [
        Violation(
            ("search", "vary", place),
            f"the data set {config.dataset.name} has no seed for {source!r}, so that it is the same in every run; "
            f"leave it out of search.vary. Choices: {', '.join(known)}.",
        )
        for place, source in enumerate(config.search.vary)
        if source not in known
    ]


def fixed_seed_problems(
    config: StudyConfig, label: str, raw: Mapping[str, object], space: Collection[str]
) -> list[Violation]:
    """Violations of a method's entry: seeds that it fixes or searches although `search.vary` draws them for all.

    Args:
        config: The study.
        label: The method's name in it.
        raw: The method's entry in the study file.
        space: Dotted keys of its search space.
    """
    seeds = DATASETS[config.dataset.name].seeds
    found = []
    for source in config.search.vary:
        keys = ("dataset", *seeds[source].split(".")) if source in seeds else ()
        if keys and (".".join(keys) in space or _has(raw, keys)):
            message = (
                f"search.vary draws {source!r} for each final run, alike for all methods; leave this key out, or "
                f"leave {source!r} out of search.vary"
            )
            found.append(Violation(("methods", label, *keys), message))
    return found


def _has(data: object, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True
