"""Search ranges as Optuna distributions, and the seeded samplers that draw from them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from ipgl.config import Choice, Int, LogInt, LogUniform, Range


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """Optuna distributions of a search space, by the same dotted keys."""
    return {key: _distribution(found) for key, found in space.items()}


def _distribution(found: Range) -> BaseDistribution:
    if isinstance(found, Choice):
        return CategoricalDistribution(found.values)
    if isinstance(found, Int):
        return IntDistribution(found.low, found.high, log=isinstance(found, LogInt))
    return FloatDistribution(found.low, found.high, log=isinstance(found, LogUniform))


def make_sampler(name: Literal["tpe", "random"], seed: int, startup_trials: int) -> BaseSampler:
    """An Optuna sampler that draws the same values for the same seed and history.

    Args:
        name: `tpe` (Bergstra et al. 2011; its `constant_liar` keeps concurrent trials apart) or `random`.
        seed: Seed of the draws.
        startup_trials: Number of trials that `tpe` draws at random before it uses its model.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if name == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=startup_trials, constant_liar=True, multivariate=True)
