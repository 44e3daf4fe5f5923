"""Importance of hyperparameters, for scores that depend on them in a known way."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest

from ipgl.config import Choice, Int, LogInt, LogUniform, Range, Uniform
from ipgl.search import importances

SPACE: dict[str, Range] = {
    "training.optimiser.lr": LogUniform(1e-4, 1.0),
    "strength": Uniform(0.0, 10.0),
    "width": LogInt(8, 256),
    "depth": Int(1, 4),
    "update": Choice(("sequential", "additive", None, 3)),
}


Values = dict[str, Any]  # of one trial's hyperparameters
Score = Callable[[Values], float]


def draw(count: int, score: Score, seed: int = 0) -> list[tuple[Values, float]]:
    """Settings drawn at random, with the score that each gets."""
    rng = np.random.default_rng(seed)
    trials = []
    for _ in range(count):
        values: Values = {
            "training.optimiser.lr": float(10 ** rng.uniform(-4, 0)),
            "strength": float(rng.uniform(0, 10)),
            "width": int(2 ** rng.uniform(3, 8)),
            "depth": int(rng.integers(1, 5)),
            "update": ("sequential", "additive", None, 3)[rng.integers(4)],
        }
        trials.append((values, score(values)))
    return trials


@pytest.mark.parametrize(
    ("key", "score"),
    [
        ("training.optimiser.lr", lambda values: math.log10(values["training.optimiser.lr"])),
        ("strength", lambda values: -abs(values["strength"] - 7)),
        ("width", lambda values: math.log2(values["width"])),
        ("depth", lambda values: abs(values["depth"] - 1.8)),
        ("update", lambda values: {"sequential": 0.2, "additive": 0.9, None: 0.5, 3: 0.1}[values["update"]]),
    ],
)
def test_the_one_that_decides_has_most_of_it(key: str, score: Score) -> None:
    found = importances(draw(60, score), SPACE)
    assert found[key] > 0.8
    assert next(iter(found)) == key  # the largest first
    assert found.keys() == SPACE.keys()
    assert sum(found.values()) == pytest.approx(1.0)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_two_that_decide_share_it() -> None:
    found = importances(draw(80, lambda values: values["strength"] / 10 + (values["depth"] - 1) / 3), SPACE)
    assert found["strength"] > 0.25
    assert found["depth"] > 0.25
    assert found["strength"] + found["depth"] > 0.8


def by_strength(values: Values) -> float:
    return float(values["strength"])


def test_too_few_trials_tell_nothing() -> None:
    assert importances([], SPACE) == {}
    assert importances(draw(5, by_strength), SPACE) == {}
    assert importances(draw(6, by_strength), SPACE) != {}


def test_scores_that_are_no_numbers_are_left_out() -> None:
    good = draw(20, by_strength)
    unknown = draw(10, lambda values: math.nan, seed=1) + draw(2, lambda values: -math.inf, seed=2)
    assert importances([*unknown, *good], SPACE) == importances(good, SPACE)
    assert importances([*unknown, *good[:5]], SPACE) == {}


def test_equal_scores_tell_nothing() -> None:
    assert importances(draw(20, lambda values: 0.5), SPACE) == {}


def test_without_ranges_there_is_nothing_to_tell() -> None:
    assert importances([({}, float(number)) for number in range(10)], {}) == {}


def test_trials_that_lack_a_setting_are_left_out() -> None:
    good = draw(20, by_strength)
    lacking = [({"strength": 3.0}, 100.0)] * 5
    assert importances([*good, *lacking], SPACE) == importances(good, SPACE)


def test_other_hyperparameters_do_not_matter() -> None:
    good = draw(20, by_strength)
    more = [(values | {"method": "ipg"}, score) for values, score in good]
    assert importances(more, SPACE) == importances(good, SPACE)


def test_a_setting_that_never_varied_has_no_share() -> None:
    space = SPACE | {"fixed": Uniform(0.5, 0.5)}
    trials = [(values | {"fixed": 0.5}, score) for values, score in draw(20, by_strength)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = importances(trials, space)
    assert found["fixed"] == 0.0
    assert found["strength"] > 0.5


def test_settings_of_which_none_varied_have_no_shares() -> None:
    trials = [({"fixed": 0.5, "depth": 2}, float(number)) for number in range(10)]
    assert importances(trials, {"fixed": Uniform(0.5, 0.5)}) == {}
    assert importances(trials, {"fixed": Uniform(0.5, 0.5), "depth": Int(1, 4)}) == {}


def test_the_same_trials_give_the_same_shares_and_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    trials = draw(20, by_strength)
    assert importances(trials, SPACE) == importances(trials, SPACE)
    assert capsys.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING
