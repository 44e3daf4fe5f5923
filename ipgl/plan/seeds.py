"""Which seeds the final runs get, and the component runs that repeat them with one source of randomness drawn again.

One derivation serves every source that `search.vary` names; what it does not name stays as the study file has it. All
methods share the seeds of a final run, so that run 2 of each sees the same data and is measured on the same pairs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

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
        again: The source that a component run draws again; None for the final run itself.
    """

    number: int
    weights: int
    dataset: Mapping[Source, int] = field(default_factory=dict)
    again: Source | None = None


def final_draws(search: SearchSettings) -> list[Draw]:
    """One draw per final run, by number.

    Seeds of weights follow the search's own by 1, 2, ...; where weights are not varied all runs have the first of
    these, which no search trial has used. Other seeds are derived, and fit the 32 bits that numpy allows.
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
    """For each final run and each varied source the same draw with that source's seed replaced.

    This is pick-freeze sampling (Jansen 1999; Saltelli et al. 2010, table 2 (f)): half the mean squared difference
    between a run and its repetition is the source's total effect. Empty where one source alone is varied: the
    final runs' own spread is its effect then.
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
    """Sources of `search.vary` that the data set has no seed for."""
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
    config: StudyConfig, label: str, raw: Mapping[str, Any], space: Collection[str]
) -> list[Violation]:
    """Seeds that a method fixes or searches for itself, although `search.vary` draws them alike for all methods.

    Args:
        config: The study.
        label: The method's name in it.
        raw: The method's own entry.
        space: Dotted keys that it searches.
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


def _has(data: Any, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True
