"""Components of variance: against hand-worked cases, exact enumeration, and a simulation with known components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from final_runs import completed_final
from numpy.typing import NDArray

from ipgl.evaluation import GroupCount, Predictions, Tested, VarianceComponent, aggregate
from ipgl.evaluation.variance_components import (
    RedrawnRun,
    deviation_interval,
    no_effect,
    squared_difference,
    variance_components,
)

# Labels 0 and 1 with attributes 0 and 1; the attribute that equals the label is aligned.
ALIGNED = (True, False, False, True)


def a_run(correct: list[list[int]], shift: int = 0) -> aggregate.Tested:
    """A run whose examples of group g are classified as `correct[g]` says; `shift` makes other test examples."""
    label = np.concatenate([np.full(len(own), g // 2) for g, own in enumerate(correct)]).astype(np.int32)
    attribute = np.concatenate([np.full(len(own), g % 2) for g, own in enumerate(correct)]).astype(np.int32)
    right = np.concatenate([np.array(own, dtype=np.int64) for own in correct])
    prediction = np.where(right == 1, label, 1 - label).astype(np.int32)
    probability = np.full((len(label), 2), 0.5, dtype=np.float32)
    groups = tuple(
        GroupCount(label=g // 2, attribute=g % 2, aligned=ALIGNED[g], count=len(own), correct=sum(own))
        for g, own in enumerate(correct)
    )
    order = np.roll(np.arange(len(label)), shift)
    return aggregate.Tested(
        completed_final("m", groups),
        Predictions(label[order], attribute[order], prediction[order], probability[order]),
    )


# Accuracies 1, 1/2, 1/4, 3/4 and 1, 1/2, 3/4, 1/2.
A = a_run([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]])
B = a_run([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]])


class TestSquaredDifference:
    """Differences y - y' by group: 0 0 0 0; 1 1 -1 -1; 0 -1 -1 0; 0 0 1 0. Sample variances: 0, 4/3, 1/3, 1/4."""

    def test_average(self) -> None:
        square, noise = squared_difference(A, B, "average", 0.9)
        assert square == pytest.approx(((2.5 - 2.75) / 4) ** 2)
        assert noise == pytest.approx((4 / 3 + 1 / 3 + 1 / 4) / 4 / 16)

    def test_shifted_accuracy(self) -> None:
        # Both classes have half of the examples; at severity 0.9 the groups weigh 0.05, 0.45, 0.45, 0.05.
        square, noise = squared_difference(A, B, "shifted_accuracy", 0.9)
        assert square == pytest.approx((0.45 * (1 / 4 - 3 / 4) + 0.05 * (3 / 4 - 1 / 2)) ** 2)
        assert noise == pytest.approx((0.45**2 * (4 / 3 + 1 / 3) + 0.05**2 / 4) / 4)

    def test_worst_groups_that_differ_are_independent_samples(self) -> None:
        # A's worst is group 2 (1/4), B's group 1 (1/2, before group 3, which has the same).
        square, noise = squared_difference(A, B, "worst_group", 0.9)
        assert square == pytest.approx((1 / 4 - 1 / 2) ** 2)
        assert noise == pytest.approx((1 / 4 + 1 / 3) / 4)  # sample variances of 1 0 0 0 and of 0 0 1 1

    def test_on_other_examples_nothing_is_known_of_the_noise(self) -> None:
        other = a_run([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]], shift=2)
        assert squared_difference(A, other, "average", 0.9) == pytest.approx(((0.25 / 4) ** 2, 0.0))

    def test_equal_runs_differ_in_nothing(self) -> None:
        assert squared_difference(A, A, "worst_group", 0.9) == (0.0, 0.0)

    def test_an_empty_group_counts_only_where_it_has_weight(self) -> None:
        a = a_run([[1, 1], [], [1, 0], [1, 1]])
        assert all(map(math.isnan, squared_difference(a, a, "worst_group", 0.9)))
        assert squared_difference(a, a, "average", 0.9) == (0.0, 0.0)

    def test_one_example_says_nothing_of_its_groups_noise(self) -> None:
        a, b = a_run([[1, 1], [1], [1, 0], [1, 1]]), a_run([[1, 1], [0], [1, 0], [1, 1]])
        square, noise = squared_difference(a, b, "average", 0.9)
        assert square == pytest.approx((1 / 7) ** 2)
        assert math.isnan(noise)

    def test_square_less_noise_is_unbiased_over_every_sample_of_a_population(self) -> None:
        """Two examples a group, drawn in all ways from three whose answers are known."""
        first = [[1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]]
        second = [[1, 0, 0], [0, 1, 0], [1, 1, 1], [1, 0, 1]]
        weights = (0.05, 0.45, 0.45, 0.05)
        true = sum(w * (sum(a) - sum(b)) / 3 for w, a, b in zip(weights, first, second, strict=True))
        # Groups are drawn independently and the estimate is quadratic: it needs all samples of two groups at once,
        # so the others stay at their first two examples, whose share is taken out of the expectation.
        draws = list(product(range(3), repeat=2))
        found = []
        for of_one, of_two in product(draws, draws):
            chosen = [of_one, of_two, of_one[::-1], of_two[::-1]]
            a, b = (
                a_run([[own[i] for i in index] for own, index in zip(answers, chosen, strict=True)])
                for answers in (first, second)
            )
            square, noise = squared_difference(a, b, "shifted_accuracy", 0.9)
            found.append(square - noise)
        # Groups 0 and 2, and 1 and 3, share their draws here: their covariance is added to the truth.
        d = [np.array(a) - np.array(b) for a, b in zip(first, second, strict=True)]
        shared = sum(
            2 * weights[g] * weights[h] * float(np.cov(d[g], d[h], bias=True)[0, 1]) / 2
            for g, h in ((0, 2), (1, 3))
        )
        assert np.mean(found) == pytest.approx(true**2 + shared)


class TestInterval:
    def test_by_hand(self) -> None:
        # 5% and 95% points of chi-squared with 3 degrees of freedom: 0.351846 and 7.814728.
        low, high = deviation_interval(0.01, 0.002, 3, 0.9)
        assert low == pytest.approx(math.sqrt(0.03 / 7.814728 - 0.002), rel=1e-5)
        assert high == pytest.approx(math.sqrt(0.03 / 0.351846 - 0.002), rel=1e-5)

    def test_ends_below_nothing_are_nothing(self) -> None:
        assert deviation_interval(0.01, 0.004, 3, 0.9)[0] == 0.0

    def test_nothing_known_gives_nothing(self) -> None:
        assert all(map(math.isnan, deviation_interval(math.nan, 0.0, 3, 0.9)))


class TestComponents:
    def find(
        self,
        source: str,
        metric: str,
        finals: tuple[Tested, ...] = (A, B),
        redrawn: Sequence[RedrawnRun] | None = None,
    ) -> VarianceComponent:
        redrawn = [RedrawnRun("pairs", A, B), RedrawnRun("pairs", A, A)] if redrawn is None else redrawn
        (found,) = [
            one
            for one in variance_components(finals, redrawn, 0.9, 0.95)
            if (one.source, one.metric) == (source, metric)
        ]
        return found

    def test_half_the_mean_square_less_half_the_mean_noise(self) -> None:
        found = self.find("pairs", "average")
        noise = (4 / 3 + 1 / 3 + 1 / 4) / 64 / 4
        assert found.noise == pytest.approx(noise)
        assert found.variance == pytest.approx((0.25 / 4) ** 2 / 4 - noise)
        assert found.variance < 0
        assert (found.deviation, found.runs, found.same_examples) == (0.0, 2, True)

    def test_all_together_is_the_sample_variance_of_the_final_runs(self) -> None:
        third = a_run([[1, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 0]])
        found = self.find("all", "average", finals=(A, B, third))
        averages = [10 / 16, 11 / 16, 12 / 16]
        assert found.variance + found.noise == pytest.approx(np.var(averages, ddof=1))
        noises = [squared_difference(*two, "average", 0.9)[1] for two in ((A, B), (A, third), (B, third))]
        assert found.noise == pytest.approx(sum(noises) / 6)
        assert found.runs == 3

    def test_test_examples_that_differ_are_told(self) -> None:
        other = a_run([[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]], shift=2)
        found = self.find("data", "average", redrawn=[RedrawnRun("data", A, other), RedrawnRun("data", A, B)])
        assert not found.same_examples

    def test_other_draws_in_the_same_order_of_groups_are_other_examples(self) -> None:
        """Equal labels and attributes do not make a data seed's examples those of another."""
        drawn = [
            aggregate.Tested(
                one.run.model_copy(update={"config": {"dataset": {"seed": seed}}}), one.predictions
            )
            for one, seed in ((A, 0), (B, 1), (B, 0))
        ]
        assert drawn[0].predictions.examples == drawn[1].predictions.examples
        assert squared_difference(drawn[0], drawn[1], "average", 0.9)[1] == 0.0
        assert squared_difference(drawn[0], drawn[2], "average", 0.9)[1] > 0
        # A seed that is not stated is the data sets' default.
        assert drawn[0].examples == A.examples != drawn[1].examples

    def test_a_source_without_pairs_of_runs_is_left_out(self) -> None:
        assert variance_components([A], [], 0.9, 0.95) == ()

    def test_no_effect_is_zero_without_a_run(self) -> None:
        assert [(one.source, one.deviation, one.high, one.runs) for one in no_effect("pairs")] == [
            ("pairs", 0.0, 0.0, 0)
        ] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "own", "least"),
    # Where runs share almost all that makes an example hard, and examples are few, the runs' noises go together,
    # and 95% intervals cover about 93%.
    [(100, 0.5, 0.925), (30, 0.1, 0.905)],
    ids=["400 examples", "120 examples, nearly nested runs"],
)
def test_known_components_are_found_without_bias_and_covered(size: int, own: float, least: float) -> None:
    """Accuracy is 0.6 + a_weights + b_pairs + c_(weights, pairs) in each of the four groups.

    The standard deviations of a, b and c are 0.03, 0.05 and 0.02. An example has a hardness that all runs share, of
    which each run moves a part `own`.
    """
    rng = np.random.default_rng(0)
    studies, finals = 800, 5
    truth = {
        "weights": 0.03**2 + 0.02**2,
        "pairs": 0.05**2 + 0.02**2,
        "all": 0.03**2 + 0.05**2 + 0.02**2,
    }
    found: dict[str, list[VarianceComponent]] = {source: [] for source in truth}
    for _ in range(studies):
        hardness = rng.random((4, size))

        def run(accuracy: float, hardness: NDArray[np.float64] = hardness) -> aggregate.Tested:
            moved = (hardness + own * rng.random(hardness.shape)) % 1  # still uniform
            return a_run((moved < accuracy).astype(int).tolist())

        originals, redrawn = [], []
        for _ in range(finals):
            (w, w2), (p, p2), (c, cw, cp) = (
                deviation * rng.standard_normal(n) for deviation, n in ((0.03, 2), (0.05, 2), (0.02, 3))
            )
            original = run(0.6 + w + p + c)
            originals.append(original)
            redrawn.append(RedrawnRun("weights", original, run(0.6 + w2 + p + cw)))
            redrawn.append(RedrawnRun("pairs", original, run(0.6 + w + p2 + cp)))
        for one in variance_components(originals, redrawn, 0.9, 0.95):
            if one.metric == "average":
                found[one.source].append(one)
    for source, true in truth.items():
        variances = np.array([one.variance for one in found[source]])
        raw = variances + np.array([one.noise for one in found[source]])
        error = variances.std(ddof=1) / math.sqrt(studies)
        covered = np.mean([one.low**2 <= true <= one.high**2 for one in found[source]])
        print(
            f"{source}: true {true:.6f}, mean {variances.mean():.6f} (error {error:.6f}), "
            f"without subtraction {raw.mean():.6f}, coverage {covered:.3f}"
        )
        assert abs(variances.mean() - true) < 3 * error
        assert raw.mean() - true > 3 * error, "test examples must matter here, or the test shows nothing"
        assert least <= covered <= 0.975
