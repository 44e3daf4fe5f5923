"""What the intervals of one result's curves cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from final_runs import completed_final

from ipgl.config import EvaluationSettings
from ipgl.evaluation import GroupCount, Predictions, aggregate, run_curves
from ipgl.evaluation.aggregate import compare

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

GROUPS = [
    GroupCount(label=y, attribute=a, aligned=y == a, count=2500, correct=correct, training_count=training)
    for (y, a, correct, training) in (
        (0, 0, 2400, 21_000),
        (0, 1, 1200, 4000),
        (1, 0, 1000, 3500),
        (1, 1, 2300, 21_500),
    )
]


def predictions() -> Predictions:
    """Of 10,000 test examples, five levels of two corruptions, and 11 points along 500 pairs."""
    rng = np.random.default_rng(0)
    label, attribute = (np.repeat(values, 2500).astype(np.int32) for values in ([0, 0, 1, 1], [0, 1, 0, 1]))
    right = np.concatenate([np.arange(group.count) < group.correct for group in GROUPS])
    prediction = np.where(right, label, 1 - label).astype(np.int32)
    levels = (0.0, 0.25, 0.5, 0.75, 1.0)
    return Predictions(
        label,
        attribute,
        prediction,
        np.full((10_000, 2), 0.5, dtype=np.float32),
        corrupted={name: np.stack([prediction] * len(levels)) for name in ("hue", "saturation")},
        levels={name: levels for name in ("hue", "saturation")},
        along=np.sort(rng.integers(2, size=(11, 500), dtype=np.int32), axis=0),
    )


def test_curves_of_one_result(
    timed: Callable[..., dict[str, float]], keep: Callable[[dict[str, float]], None]
) -> None:
    settings, one = EvaluationSettings(), predictions()
    seconds = timed({"all": lambda: run_curves(GROUPS, one, settings)}, rounds=5, repeats=1)
    keep({f"{name} seconds": value for name, value in seconds.items()})
    assert seconds["all"] < 1


def test_a_comparison_of_eighteen_methods(
    timed: Callable[..., dict[str, float]], keep: Callable[[dict[str, float]], None]
) -> None:
    """Estimates, curves, differences and tests of 18 methods with five seeds each on 10,000 test examples."""
    one = predictions()

    def run(label: str, seed: int) -> aggregate.Tested:
        return aggregate.Tested(
            completed_final(label, GROUPS, seed),
            one,
        )

    runs = {f"m{n}": [run(f"m{n}", seed) for seed in range(5)] for n in range(18)}
    seconds = timed({"compare": lambda: compare(runs, EvaluationSettings())}, rounds=3, repeats=1)
    keep({f"{name} seconds": value for name, value in seconds.items()})
    assert seconds["compare"] < 30
