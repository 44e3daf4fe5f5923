"""How often intervals hold the truth, by simulation with known truth; `pytest -s -m slow` prints the tables.

An answer is right if `level_g + seed_sg + example_i + rest_si > 0` with normal terms: examples are hard for all runs
alike, seeds move whole groups. The expected accuracy of a group is then known in closed form.
`docs/concepts/statistics.md` holds what this printed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from ipgl.evaluation.intervals import differences, mean_interval
from ipgl.evaluation.sampling_variance import OutcomeSample, sample_outcomes
from ipgl.evaluation.worst_case import KULLBACK_LEIBLER, worst_case_kl
from ipgl.evaluation.worst_group import worst_case, worst_group

REPEATS = 2000
EXAMPLE_SPREAD = 1.5
# Standard deviation of the seeds' normal term: about 0.2 and 8 points of accuracy.
SEED_SPREADS = {"small": 0.01, "large": 0.4}
SEEDS = (3, 5, 10)
SIZES = (500, 10_000)
# Example difficulties as quantiles of a normal distribution, so that one uniform number decides an answer.
_QUANTILES = norm.ppf((np.arange(31) + 0.5) / 31)
DIFFICULTY = EXAMPLE_SPREAD * _QUANTILES / _QUANTILES.std()

TARGET = np.array([0.05, 0.45, 0.45, 0.05])  # group weights where the attribute agrees 10% of the time
ONE = np.array([0.75, 0.73, 0.71, 0.73])
OTHER = np.array([0.76, 0.70, 0.69, 0.75])


class Experiment:
    """Methods with given levels on freshly drawn test examples, each trained with freshly drawn seeds."""

    def __init__(self, size: int, seed_spread: float, groups: int, rng: np.random.Generator) -> None:
        self.spread, self.rng, self.groups = seed_spread, rng, groups
        self.group = np.repeat(np.arange(groups), size // groups)

    def draw_examples(self) -> None:
        self.hardness = self.rng.integers(len(DIFFICULTY), size=len(self.group))

    def levels(self, nominal: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = norm.ppf(nominal) * np.sqrt(1 + self.spread**2 + EXAMPLE_SPREAD**2)
        return found

    def truth(self, nominal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected accuracy of each group over seeds and examples."""
        latent = (self.levels(nominal)[:, None] + DIFFICULTY) / np.sqrt(1 + self.spread**2)
        found: NDArray[np.float64] = norm.cdf(latent).mean(axis=1)
        return found

    def sample(self, nominal: NDArray[np.float64], seeds: int) -> OutcomeSample:
        shift = self.rng.normal(0, self.spread, (seeds, self.groups))
        right = norm.cdf(self.levels(nominal)[:, None] + shift[..., None] + DIFFICULTY).astype(np.float32)
        chance = self.rng.random((seeds, len(self.group)), dtype=np.float32)
        return sample_outcomes(chance < right[:, self.group, self.hardness], self.group, self.groups, "same")


def covers(low: NDArray[np.float64], truth: float, high: NDArray[np.float64]) -> bool:
    return bool(low[0] <= truth <= high[0])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_intervals_and_tests_of_methods() -> None:
    rng = np.random.default_rng(0)
    weights = TARGET[None]
    print(
        "\nexamples, seed effect, seeds: coverage of one method, of a difference; p < 0.05 for equal methods"
    )
    for size in SIZES:
        for effect, spread in SEED_SPREADS.items():
            world = Experiment(size, spread, 4, rng)
            one, other = (weights @ world.truth(nominal) for nominal in (ONE, OTHER))
            for seeds in SEEDS:
                single, difference, found = [], [], []
                for _ in range(REPEATS):
                    world.draw_examples()
                    a, b, again = (world.sample(nominal, seeds) for nominal in (ONE, OTHER, ONE))
                    low, high = mean_interval(a.weighted(weights), 0.025)
                    single.append(covers(low, one[0], high))
                    low, high = differences(a, b, weights).interval(0.05)
                    difference.append(covers(low, one[0] - other[0], high))
                    found.append(differences(a, again, weights).p_value[0] < 0.05)
                rates = [float(np.mean(column)) for column in (single, difference, found)]
                print(
                    f"{size:6d} {effect} {seeds:2d}: {rates[0]:.3f} {rates[1]:.3f} {rates[2]:.3f}", flush=True
                )
                error = 2 * math.sqrt(0.05 * 0.95 / REPEATS)  # of the simulation itself
                assert 0.93 - error <= min(rates[:2])
                assert max(rates[:2]) <= 0.97 + error
                assert 0.03 - error <= rates[2] <= 0.07 + error


WORST_GROUPS = {
    "near ties": ONE,
    "exact ties": np.full(4, 0.72),
    "one clear": np.array([0.9, 0.85, 0.5, 0.95]),
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_intervals_of_the_worst_group() -> None:
    rng = np.random.default_rng(1)
    print("\ngroups, examples, seed effect, seeds: coverage, bias of the estimate in points")
    mix, radii = np.array([0.45, 0.05, 0.05, 0.45]), [0.0, 0.3, 1.0]
    for name, nominal in WORST_GROUPS.items():
        for size in SIZES:
            for effect, spread in SEED_SPREADS.items():
                world = Experiment(size, spread, 4, rng)
                truth = world.truth(nominal)
                cases = worst_case_kl(truth, mix, radii)
                for seeds in SEEDS:
                    held, bias, balls = [], [], []
                    for _ in range(REPEATS // 2):
                        world.draw_examples()
                        sample = world.sample(nominal, seeds)
                        found = worst_group(sample, 0.05)
                        held.append(covers(found.low, truth.min(), found.high))
                        bias.append(found.mean[0] - truth.min())
                        curve, _ = worst_case(sample, KULLBACK_LEIBLER, mix, radii, 0.05)
                        balls.append((curve.low <= cases) & (cases <= curve.high))
                    rate, of_balls = float(np.mean(held)), np.mean(balls, axis=0)
                    print(
                        f"{name} {size:6d} {effect} {seeds:2d}: {rate:.3f} {100 * np.mean(bias):+.1f}; "
                        f"Kullback-Leibler radii 0, 0.3, 1: {' '.join(f'{x:.3f}' for x in of_balls)}",
                        flush=True,
                    )
                    assert 0.915 <= rate <= 0.985
                    assert (of_balls >= 0.89).all()
