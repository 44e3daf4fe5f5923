"""Search ranges as Optuna distributions, and reproducible samplers."""

from __future__ import annotations

import warnings
from typing import Literal

import optuna
import pytest
from narrowing import Keywords
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ipgl.config import Choice, Int, LogInt, LogUniform, Range, Uniform
from ipgl.search import distributions, make_sampler


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Uniform(-1.0, 2.0), FloatDistribution(-1.0, 2.0)),
        (LogUniform(1e-4, 10.0), FloatDistribution(1e-4, 10.0, log=True)),
        (Int(-3, 5), IntDistribution(-3, 5)),
        (LogInt(1, 256), IntDistribution(1, 256, log=True)),
        (Choice(("a", 2, 0.5, None, True)), CategoricalDistribution(("a", 2, 0.5, None, True))),
        (Uniform(0.5, 0.5), FloatDistribution(0.5, 0.5)),
    ],
)
def test_each_range_has_its_distribution(found: Uniform | Int | Choice, expected: BaseDistribution) -> None:
    assert distributions({"method.key": found}) == {"method.key": expected}


def test_keys_and_their_order_are_kept() -> None:
    space: dict[str, Range] = {
        "training.optimiser.lr": LogUniform(1e-4, 1.0),
        "strength": Uniform(0, 1),
        "update": Choice(("a",)),
    }
    assert list(distributions(space)) == list(space)
    assert distributions({}) == {}


SPACE = distributions(
    {
        "lr": LogUniform(1e-4, 1.0),
        "strength": Uniform(0.0, 10.0),
        "width": LogInt(8, 256),
        "depth": Int(1, 4),
        "update": Choice(("sequential", "additive")),
    }
)


def draw(
    name: Literal["tpe", "random"], seed: int, trials: int = 14, startup_trials: int = 4
) -> list[Keywords]:
    """What a sampler draws when the score of each trial follows from its values."""
    study = optuna.create_study(
        direction="maximize", sampler=make_sampler(name, seed, startup_trials=startup_trials)
    )
    drawn = []
    for _ in range(trials):
        trial = study.ask(SPACE)
        drawn.append(dict(trial.params))
        study.tell(trial, -abs(trial.params["strength"] - 7) + trial.params["depth"])
    return drawn


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_equal_seeds_draw_equally(name: Literal["tpe", "random"]) -> None:
    first = draw(name, 5)
    assert first == draw(name, 5)
    assert first != draw(name, 6)
    assert first[0] != draw(name, 6)[0]


def test_values_lie_in_their_ranges() -> None:
    for values in draw("random", 0, trials=50):
        assert 1e-4 <= values["lr"] <= 1.0
        assert 0 <= values["strength"] <= 10
        assert 8 <= values["width"] <= 256
        assert values["depth"] in (1, 2, 3, 4)
        assert values["update"] in ("sequential", "additive")


def test_tpe_learns_after_its_startup_trials() -> None:
    def late_mean(name: Literal["tpe", "random"], startup_trials: int) -> float:
        late = draw(name, 1, trials=30, startup_trials=startup_trials)[15:]
        return float(sum(abs(values["strength"] - 7) for values in late) / len(late))

    assert late_mean("tpe", 5) < 0.7 * late_mean("random", 5)
    # With 30 of them every trial is at random.
    assert late_mean("tpe", 30) > 1.4 * late_mean("tpe", 5)


def test_making_a_sampler_is_quiet() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_sampler("tpe", 0, 5)
        make_sampler("random", 0, 5)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
