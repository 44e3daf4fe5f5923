"""Kappa and its test against guessing: by hand, against scikit-learn, and on a simulated panel of predictors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score

from ipgl.evaluation.kappa import kappa_metrics
from ipgl.evaluation.selection import pair_robust


def of_table(table: list[list[int]]) -> dict[str, float]:
    """Metrics of a confusion matrix, rows by label."""
    labels, predicted = np.indices(np.shape(table)).reshape(2, -1)
    counts = np.ravel(table)
    y, prediction = (torch.from_numpy(np.repeat(values, counts)) for values in (labels, predicted))
    return kappa_metrics(prediction, y, len(table))


@pytest.mark.parametrize(
    ("table", "kappa", "guessing"),
    [
        ([[5, 0], [0, 5]], 1.0, 0.0),
        ([[0, 5], [5, 0]], -1.0, 1.0),  # p_o 0, p_e 1/2
        ([[890, 60], [10, 40]], 0.5, 0.0),  # p_o 0.93, p_e 0.95 x 0.9 + 0.05 x 0.1 = 0.86
        ([[95, 0], [5, 0]], 0.0, 1.0),  # a constant
        ([[0, 95], [0, 5]], 0.0, 1.0),
        ([[10, 10], [0, 0]], 0.0, 1.0),  # labels of one class: nothing to know
        ([[7, 0], [0, 0]], 0.0, 1.0),  # undefined
        # Balanced both ways: kappa is 2 x accuracy - 1 and its standard error under independence 1 / sqrt(N),
        # 0.1 here, so that the bound is 0.1645.
        ([[29, 21], [21, 29]], 0.16, 1.0),
        ([[30, 20], [20, 30]], 0.2, 0.0),
    ],
)
def test_by_hand(table: list[list[int]], kappa: float, guessing: float) -> None:
    found = of_table(table)
    assert found["kappa"] == pytest.approx(kappa, abs=1e-12)
    assert found["guessing"] == guessing


def test_no_skill_is_exactly_0() -> None:
    # 3 x 7 examples in the proportions of independence, which fractions of 21 would round.
    assert of_table([[2, 4], [5, 10]])["kappa"] == 0.0


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_kappa_is_scikit_learn_s(classes: int) -> None:
    random = np.random.default_rng(classes)
    y, prediction = random.integers(0, classes, (2, 400))
    prediction = np.where(random.random(400) < 0.4, y, prediction)
    found = kappa_metrics(torch.from_numpy(prediction), torch.from_numpy(y), classes)["kappa"]
    assert found == pytest.approx(cohen_kappa_score(y, prediction), rel=1e-12)


# --- a simulated panel ---

EXAMPLES, REPEATS = 400, 400
BALANCES = {
    "2 even": [0.5, 0.5],
    "2, 95 to 5": [0.95, 0.05],
    "3 even": [1 / 3] * 3,
    "3, 95 to 5": [0.95, 0.03, 0.02],
    "10 even": [0.1] * 10,
    "10, 55 to 5": [0.55, *[0.05] * 9],
}


def drawn(random: np.random.Generator, shares: list[float]) -> NDArray[np.int64]:
    return random.choice(len(shares), size=EXAMPLES, p=shares)


def constant(random: np.random.Generator, y: NDArray[np.int64], shares: list[float]) -> NDArray[np.int64]:
    return np.full(EXAMPLES, random.integers(len(shares)))


def uniform(random: np.random.Generator, y: NDArray[np.int64], shares: list[float]) -> NDArray[np.int64]:
    return random.integers(0, len(shares), EXAMPLES)


def by_shares(random: np.random.Generator, y: NDArray[np.int64], shares: list[float]) -> NDArray[np.int64]:
    return drawn(random, shares)


def noisy_majority(
    random: np.random.Generator, y: NDArray[np.int64], shares: list[float]
) -> NDArray[np.int64]:
    return np.where(random.random(EXAMPLES) < 0.9, np.argmax(shares), uniform(random, y, shares))


def informed(random: np.random.Generator, y: NDArray[np.int64], shares: list[float]) -> NDArray[np.int64]:
    """Right about three examples in ten beyond guessing."""
    return np.where(random.random(EXAMPLES) < 0.3, y, drawn(random, shares))


def majority_informed(
    random: np.random.Generator, y: NDArray[np.int64], shares: list[float]
) -> NDArray[np.int64]:
    """The most frequent class nearly always, and right where it says anything else."""
    return np.where(random.random(EXAMPLES) < 0.5, y, np.argmax(shares))


def panel(
    predictor: Callable[..., NDArray[np.int64]], shares: list[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kappa and guessing over repeated draws of labels and predictions, `[REPEATS]` each."""
    random = np.random.default_rng(7)
    found = []
    for _ in range(REPEATS):
        y = drawn(random, shares)
        prediction = predictor(random, y, shares)
        found.append(kappa_metrics(torch.from_numpy(prediction), torch.from_numpy(y), len(shares)))
    return np.array([f["kappa"] for f in found]), np.array([f["guessing"] for f in found])


@pytest.mark.parametrize("shares", BALANCES.values(), ids=BALANCES)
@pytest.mark.parametrize("predictor", [constant, uniform, by_shares, noisy_majority])
def test_what_does_not_look_at_the_label_earns_nothing(
    predictor: Callable[..., NDArray[np.int64]], shares: list[float]
) -> None:
    kappa, guessing = panel(predictor, shares)
    assert abs(kappa.mean()) <= 4 * kappa.std() / math.sqrt(REPEATS)
    assert abs(kappa.mean()) < 0.01
    # One in twenty passes by chance; the bound leaves room for the normal approximation, which is skewed where a class
    # is rare, and for the error of this simulation.
    assert 1 - guessing.mean() < 0.1
    if predictor is constant:
        assert (guessing == 1).all()
        assert (kappa == 0).all()
    for flip_rate in (0.0, 0.3, 1.0):
        scores = [pair_robust({"kappa": k, "flip_rate": flip_rate}) for k in kappa]
        assert np.mean(scores) < 0.01  # at most 0: flips take from what is above 0 alone


@pytest.mark.parametrize("shares", BALANCES.values(), ids=BALANCES)
@pytest.mark.parametrize("predictor", [informed, majority_informed])
def test_what_knows_something_earns_something(
    predictor: Callable[..., NDArray[np.int64]], shares: list[float]
) -> None:
    kappa, guessing = panel(predictor, shares)
    assert np.quantile(kappa, 0.05) > 0
    assert guessing.mean() < 0.05
    assert pair_robust({"kappa": float(kappa.mean()), "flip_rate": 0.5}) == pytest.approx(kappa.mean() / 4)


def test_the_level_of_the_test_is_its_name_s() -> None:
    _, guessing = panel(uniform, [0.5, 0.5])
    assert 1 - guessing.mean() == pytest.approx(0.05, abs=0.03)
