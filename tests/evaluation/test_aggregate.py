"""Comparing methods over seeds, on cases small enough to be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Unpack

import numpy as np
import pytest
from final_runs import MorePredictions, completed_final
from numpy.typing import NDArray
from scipy.stats import ttest_rel

from ipgl.config import EvaluationSettings
from ipgl.evaluation import CurvePoint, GroupCount, Predictions, Tested, aggregate, run_curves, worst_case_kl
from ipgl.evaluation.aggregate import Comparison, compare

SETTINGS = EvaluationSettings(
    severities=(0.0, 0.5, 1.0),
    kl_radii=(0.0, 2.0),
    tv_radii=(0.0, 0.8),
    permutations=2000,
    confidence=0.9,
)
# Four groups of four: label 0 with attribute 0 (aligned) and 1, label 1 with attribute 0 and 1 (aligned).
LABEL = np.repeat([0, 0, 1, 1], 4).astype(np.int32)
ATTRIBUTE = np.repeat([0, 1, 0, 1], 4).astype(np.int32)


TRAINING = (40, 10, 10, 40)


def predictions_of(
    prediction: NDArray[np.int32],
    label_of: NDArray[np.int32],
    attribute_of: NDArray[np.int32],
    corrupted: dict[str, NDArray[np.int32]],
    **more: Unpack[MorePredictions],
) -> Predictions:
    probability = np.full((len(label_of), 2), 0.5, dtype=np.float32)
    return Predictions(label_of, attribute_of, prediction, probability, corrupted, **more)


def final_run(
    label: str,
    hits: tuple[int, int, int, int] | NDArray[np.int64],
    seed: int = 0,
    label_of: NDArray[np.int32] = LABEL,
    attribute_of: NDArray[np.int32] = ATTRIBUTE,
    training: tuple[int, int, int, int] = TRAINING,
    metrics: dict[str, float] | None = None,
    corrupted: dict[str, list[tuple[int, int, int, int]]] | None = None,
    **more: Unpack[MorePredictions],
) -> Tested:
    """A run that classifies the first `hits[g]` examples of each group correctly, also of corrupted ones."""
    members_of = [np.flatnonzero(label_of * 2 + attribute_of == number) for number in range(4)]

    def answers(hits: tuple[int, int, int, int] | NDArray[np.int64]) -> NDArray[np.int32]:
        prediction = label_of.copy()
        for members, right in zip(members_of, hits, strict=True):
            prediction[members[right:]] = 1 - label_of[members[right:]]
        return prediction

    prediction = answers(hits)
    groups = []
    for number, members in enumerate(members_of):
        groups.append(
            GroupCount(
                label=number // 2,
                attribute=number % 2,
                aligned=number // 2 == number % 2,
                count=len(members),
                correct=int((prediction == label_of)[members].sum()),
                training_count=training[number],
            )
        )
    run = completed_final(label, groups, seed, metrics=metrics or {})
    rows = {name: np.stack([answers(at) for at in levels]) for name, levels in (corrupted or {}).items()}
    return aggregate.Tested(run, predictions_of(prediction, label_of, attribute_of, rows, **more))


def bounds(points: tuple[CurvePoint, ...]) -> list[tuple[float, float]]:
    return [(point.low, point.high) for point in points]


def accuracies(points: tuple[CurvePoint, ...]) -> list[float]:
    return [point.accuracy for point in points]


def test_all_right_and_all_wrong_by_hand() -> None:
    # Right where the attribute agrees and wrong elsewhere: the mixture falls from 1 to 0, its area is 1/2.
    found = compare(
        {"follower": [final_run("follower", (4, 0, 0, 4))], "oracle": [final_run("oracle", (4, 4, 4, 4))]},
        SETTINGS,
    )
    follower, oracle = found.estimates["follower"], found.estimates["oracle"]
    expected = {
        "average": 0.5,
        "adjusted_average": 0.8,  # four fifths of the training examples are aligned
        "class_balanced": 0.5,
        "group_mean": 0.5,
        "shifted_accuracy": 0.1,
        "worst_group": 0.0,
        "worst_group_of_runs": 0.0,
        "area_mixture": 0.5,
        # From 0.8 at radius 0 to 0 at log 5 nats, or where four fifths have moved.
        "area_worst_case_kl": 0.4,
        "area_worst_case_tv": 0.4,
    }
    assert list(follower) == list(expected)
    for name, value in expected.items():
        assert follower[name].mean == pytest.approx(value)
        assert oracle[name].mean == pytest.approx(1.0)
        if name != "worst_group_of_runs":
            # Four examples of a kind that are all right leave room for others that are not.
            assert 0 <= follower[name].low <= value <= follower[name].high <= 1
            assert 0.2 < oracle[name].low < 0.95
            assert oracle[name].high == 1.0
    assert accuracies(found.curves["follower"]["mixture"]) == [1.0, 0.5, 0.0]
    assert list(found.differences) == ["oracle - follower"]  # the later label minus the earlier
    assert accuracies(found.differences["oracle - follower"]) == [0.0, 0.5, 1.0]
    # Where both are right about everything nothing tells them apart; where one is wrong about everything it is.
    assert bounds(found.differences["oracle - follower"])[0] == (0.0, 0.0)
    low, high = bounds(found.differences["oracle - follower"])[2]
    assert 0.5 < low < high == 1.0


def test_means_over_seeds_by_hand() -> None:
    # Group accuracies (1, 1/4, 1/2, 3/4) and (1/2, 1/2, 1/4, 3/4).
    runs = [final_run("m", (4, 1, 2, 3), seed=1), final_run("m", (2, 2, 1, 3), seed=2)]
    found = compare({"m": runs}, SETTINGS)
    estimates = found.estimates["m"]
    assert estimates["average"].mean == pytest.approx((10 / 16 + 8 / 16) / 2)
    assert estimates["group_mean"].mean == pytest.approx((10 / 16 + 8 / 16) / 2)
    # The groups' means are 0.75, 0.375, 0.375, 0.75; each run's own lowest is a quarter.
    assert estimates["worst_group"].mean == pytest.approx(0.375)
    assert estimates.pop("worst_group_of_runs").mean == pytest.approx(0.25)
    # Aligned: (1 + 3/4) / 2 and (1/2 + 3/4) / 2; conflicting: (1/4 + 1/2) / 2 and (1/2 + 1/4) / 2.
    assert accuracies(found.curves["m"]["mixture"]) == pytest.approx([0.75, 0.5625, 0.375])
    assert estimates["area_mixture"].mean == pytest.approx(0.5625)
    for estimate in estimates.values():
        assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
        assert estimate.low < estimate.high
    assert found.differences == {}


def test_groups_of_unlike_size_weigh_in_the_average_by_their_size() -> None:
    label = np.repeat([0, 0, 1, 1], [6, 2, 4, 4]).astype(np.int32)
    attribute = np.repeat([0, 1, 0, 1], [6, 2, 4, 4]).astype(np.int32)
    found = compare({"m": [final_run("m", (6, 0, 4, 0), label_of=label, attribute_of=attribute)]}, SETTINGS)
    assert found.estimates["m"]["average"].mean == pytest.approx(10 / 16)
    assert found.estimates["m"]["group_mean"].mean == pytest.approx(0.5)


def test_the_sign_turns_with_the_order_of_the_labels() -> None:
    a, b = [final_run("a", (4, 1, 2, 3))], [final_run("b", (2, 2, 4, 4))]
    forth = compare({"a": a, "b": b}, SETTINGS).differences["b - a"]
    back = compare({"b": b, "a": a}, SETTINGS).differences["a - b"]
    # b - a: aligned (1/2 + 1 - 1 - 3/4) / 2, conflicting (1/2 + 1 - 1/4 - 1/2) / 2.
    assert accuracies(forth) == pytest.approx([-0.125, 0.125, 0.375])
    assert accuracies(back) == pytest.approx([0.125, -0.125, -0.375])
    for there, here in zip(forth, back, strict=True):
        assert (-here.high, -here.low) == pytest.approx((there.low, there.high))


def test_identical_methods_differ_by_nothing() -> None:
    hits = (3, 1, 2, 3)
    found = compare({"a": [final_run("a", hits)], "b": [final_run("b", hits)]}, SETTINGS)
    for point in found.differences["b - a"]:
        assert (point.accuracy, point.low, point.high) == (0.0, 0.0, 0.0)
    # The curves themselves do have a width, so that it is the shared examples that cancel.
    assert all(point.low < point.high for point in found.curves["a"]["mixture"])
    for mine, theirs in zip(found.curves["a"]["mixture"], found.curves["b"]["mixture"], strict=True):
        assert mine == theirs


def test_differences_of_several_labels() -> None:
    found = compare({name: [final_run(name, (4, 0, 0, 4))] for name in ("a", "b", "c")}, SETTINGS)
    assert list(found.differences) == ["c - b", "c - a", "b - a"]


def test_an_empty_group_is_unknown_and_leaves_the_rest_alone() -> None:
    keep = LABEL * 2 + ATTRIBUTE != 1  # no example of label 0 with attribute 1
    label, attribute = LABEL[keep], ATTRIBUTE[keep]
    found = compare({"m": [final_run("m", (4, 0, 2, 3), label_of=label, attribute_of=attribute)]}, SETTINGS)
    estimates = found.estimates["m"]
    assert estimates["average"].mean == pytest.approx(9 / 12)
    assert estimates["average"].low < estimates["average"].high
    for name in ("group_mean", "worst_group", "area_mixture"):
        assert all(math.isnan(v) for v in (estimates[name].mean, estimates[name].low, estimates[name].high))
    # Class 0 has a third of the examples: 1/3 * 1 + 2/3 * 3/4 where all are aligned; unknown elsewhere.
    assert accuracies(found.curves["m"]["mixture"])[0] == pytest.approx(1 / 3 + 0.5)
    assert all(math.isnan(point.accuracy) for point in found.curves["m"]["mixture"][1:])


def test_labels_without_runs_are_left_out() -> None:
    assert compare({}, SETTINGS) == Comparison({}, {}, {}, {}, ())
    assert compare({"a": []}, SETTINGS) == Comparison({}, {}, {}, {}, ())
    found = compare({"a": [], "b": [final_run("b", (4, 4, 4, 4))], "c": []}, SETTINGS)
    assert list(found.estimates) == list(found.curves) == list(found.groups) == ["b"]
    assert found.differences == {}
    assert found.tests == ()


def test_the_same_runs_give_the_same_intervals() -> None:
    runs = {"a": [final_run("a", (4, 1, 2, 3))], "b": [final_run("b", (2, 2, 4, 4))]}
    assert repr(compare(runs, SETTINGS)) == repr(compare(runs, SETTINGS))  # NaN is not equal to itself


def test_the_area_takes_severities_in_any_order() -> None:
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    shuffled = SETTINGS.model_copy(update={"severities": (1.0, 0.0, 0.5)})
    sorted_area = compare(runs, SETTINGS).estimates["m"]["area_mixture"]
    found = compare(runs, shuffled)
    assert found.estimates["m"]["area_mixture"].mean == pytest.approx(sorted_area.mean)
    assert [point.severity for point in found.curves["m"]["mixture"]] == [1.0, 0.0, 0.5]


def test_the_area_is_a_mean_over_the_range_of_severities() -> None:
    # From severity 1/2 to 1 the curve falls from 0.625 to 0.375.
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    found = compare(runs, SETTINGS.model_copy(update={"severities": (0.5, 1.0)}))
    assert accuracies(found.curves["m"]["mixture"]) == pytest.approx([0.625, 0.375])
    assert found.estimates["m"]["area_mixture"].mean == pytest.approx(0.5)


def test_the_target_severity_has_an_accuracy_of_its_own() -> None:
    # Aligned 0.875, conflicting 0.375: 0.2 * 0.875 + 0.8 * 0.375, though no curve has a point there.
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    found = compare(runs, SETTINGS.model_copy(update={"target_severity": 0.8})).estimates["m"]
    assert found["shifted_accuracy"].mean == pytest.approx(0.475)
    assert found["shifted_accuracy"].low < 0.475 < found["shifted_accuracy"].high


def test_one_severity_is_its_own_area() -> None:
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    found = compare(runs, SETTINGS.model_copy(update={"severities": (1.0,)}))
    assert found.estimates["m"]["area_mixture"].mean == pytest.approx(0.375)


# --- every kind of curve ---

# Four pairs each: of the first run 4, 3, 2 are classified as at the start, of the second 4, 1, 0.
FIRST_WAY = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=np.int32)
SECOND_WAY = np.array([[0, 0, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]], dtype=np.int32)
LEVELS = {"hue": (0.0, 1.0), "fog": (0.5,)}
FOG = [(0, 0, 0, 0)]


def full_runs() -> list[Tested]:
    """Two runs with everything that a final run may have."""
    return [
        final_run(
            "m",
            (4, 1, 2, 3),
            seed=1,
            metrics={"auroc": 0.8, "ece": 0.1, "rho": 0.3, "average": 0.0},
            corrupted={"hue": [(4, 0, 0, 4), (4, 4, 4, 4)], "fog": FOG},
            levels=LEVELS,
            along=FIRST_WAY,
        ),
        final_run(
            "m",
            (2, 2, 1, 3),
            seed=2,
            metrics={"auroc": 0.6, "ece": 0.3},
            corrupted={"hue": [(2, 0, 0, 2), (0, 0, 0, 0)], "fog": FOG},
            levels=LEVELS,
            along=SECOND_WAY,
        ),
    ]


def test_curves_of_every_kind_by_hand() -> None:
    found = compare({"m": full_runs()}, SETTINGS)
    curves = {name: accuracies(points) for name, points in found.curves["m"].items()}
    assert list(curves) == [
        "mixture",
        "worst_case_kl",
        "worst_case_tv",
        "interpolation",
        "corruption_hue",
        "corruption_fog",
    ]
    # On the training mix (0.4, 0.1, 0.1, 0.4) the runs have 0.775 and 0.575, their worst groups are a quarter each.
    assert curves["worst_case_kl"][0] == pytest.approx(0.675)
    mix = [0.4, 0.1, 0.1, 0.4]
    # Of the groups' means over runs, 0.75, 0.375, 0.375, 0.75: one mix for all runs.
    assert curves["worst_case_kl"][1] == pytest.approx(
        worst_case_kl([0.75, 0.375, 0.375, 0.75], mix, [2.0])[0]
    )
    # All of the aligned groups' 0.8 moves to a conflicting one.
    assert curves["worst_case_tv"] == pytest.approx([0.675, 0.375])
    assert curves["interpolation"] == pytest.approx([1.0, (0.75 + 0.25) / 2, (0.5 + 0) / 2])
    assert curves["corruption_hue"] == pytest.approx([(0.8 + 0.4) / 2, 0.5])
    assert curves["corruption_fog"] == [0.0]
    axes = {name: [point.severity for point in points] for name, points in found.curves["m"].items()}
    assert axes["worst_case_kl"] == [0.0, 2.0]
    assert axes["worst_case_tv"] == [0.0, 0.8]
    assert axes["interpolation"] == [0.0, 0.5, 1.0]
    assert axes["corruption_hue"] == [0.0, 1.0]
    assert [point.agreement for point in found.curves["m"]["mixture"]] == [1.0, 0.5, 0.0]
    for name in list(curves)[1:]:
        assert all(math.isnan(point.agreement) for point in found.curves["m"][name])


def test_areas_and_flip_rate_by_hand() -> None:
    estimates = compare({"m": full_runs()}, SETTINGS).estimates["m"]
    assert estimates["area_interpolation"].mean == pytest.approx(0.5625)  # of 1, 0.5, 0.25
    assert estimates["area_corruption_hue"].mean == pytest.approx(0.55)
    assert estimates["area_corruption_fog"].mean == 0.0
    assert estimates["area_worst_case_tv"].mean == pytest.approx((0.675 + 0.375) / 2)
    flip_rate = estimates["flip_rate"]
    assert flip_rate.mean == pytest.approx(0.75)
    assert 0 <= flip_rate.low < 0.75 < flip_rate.high <= 1
    assert estimates["adjusted_average"].mean == pytest.approx(0.675)
    assert estimates["class_balanced"].mean == estimates["average"].mean == pytest.approx(9 / 16)


def test_metrics_that_are_no_means_have_no_interval() -> None:
    estimates = compare({"m": full_runs()}, SETTINGS).estimates["m"]
    for name, mean in {"auroc": 0.7, "ece": 0.2, "rho": 0.3}.items():
        assert estimates[name].mean == pytest.approx(mean)
        assert math.isnan(estimates[name].low)
        assert math.isnan(estimates[name].high)
    assert not estimates.keys() & {"nll", "brier"}  # no run has them


def test_only_what_all_runs_have_becomes_a_curve() -> None:
    first, _ = full_runs()
    found = compare({"m": [first, final_run("m", (2, 2, 1, 3), seed=2)]}, SETTINGS)
    assert list(found.curves["m"]) == ["mixture", "worst_case_kl", "worst_case_tv"]
    assert not any(name.startswith(("flip", "area_i", "area_c")) for name in found.estimates["m"])


def test_one_run_s_curves_are_its_own() -> None:
    run, _ = full_runs()
    many = replace(run.predictions, along=np.tile(FIRST_WAY, (1, 50)))  # of four pairs quantiles would jump
    run = aggregate.Tested(run.run, many)
    expected = run_curves(run.run.groups, run.predictions, SETTINGS)
    found = compare({"m": [run]}, SETTINGS).curves["m"]
    assert found.keys() == expected.keys()
    for name, points in found.items():
        assert accuracies(points) == pytest.approx(accuracies(expected[name]))
        assert np.array(bounds(points)) == pytest.approx(np.array(bounds(expected[name])))


def test_seeds_that_answer_alike_do_not_narrow_an_interval() -> None:
    # Half of 400 pairs flip, in both runs the same ones: as wide as one run's binomial.
    along = np.stack([np.zeros(400), np.arange(400) < 200]).astype(np.int32)
    runs = [final_run("m", (4, 1, 2, 3), seed=seed, along=along) for seed in range(2)]
    point = compare({"m": runs}, SETTINGS).curves["m"]["interpolation"][1]
    assert (point.high - point.low) / 2 == pytest.approx(1.645 * math.sqrt(0.25 / 400), rel=0.1)


def test_groups_by_hand() -> None:
    groups = compare({"m": full_runs()}, SETTINGS).groups["m"]
    assert [(g.label, g.attribute, g.aligned) for g in groups] == [
        (0, 0, True),
        (0, 1, False),
        (1, 0, False),
        (1, 1, True),
    ]
    assert [g.count for g in groups] == [4] * 4
    assert tuple(g.training_count for g in groups) == TRAINING
    assert [g.accuracy.mean for g in groups] == pytest.approx([0.75, 0.375, 0.375, 0.75])
    assert all(0 <= g.accuracy.low < g.accuracy.mean < g.accuracy.high <= 1 for g in groups)


def test_an_empty_group_among_groups_curves_and_tests() -> None:
    keep = LABEL * 2 + ATTRIBUTE != 1
    label, attribute = LABEL[keep], ATTRIBUTE[keep]

    def found_with(training: tuple[int, int, int, int]) -> Comparison:
        runs = {
            name: [final_run(name, (4, 0, 2, 3), label_of=label, attribute_of=attribute, training=training)]
            for name in ("a", "b")
        }
        return compare(runs, SETTINGS)

    found = found_with((40, 0, 20, 40))
    assert math.isnan(found.groups["a"][1].accuracy.mean)
    assert found.groups["a"][1].count == 0
    # Training never sees the group either: Kullback-Leibler balls leave it out, others reach it.
    assert found.estimates["a"]["adjusted_average"].mean == pytest.approx((40 + 20 * 0.5 + 40 * 0.75) / 100)
    assert not math.isnan(found.curves["a"]["worst_case_kl"][1].accuracy)
    assert not math.isnan(found.curves["a"]["worst_case_tv"][0].accuracy)
    assert math.isnan(found.curves["a"]["worst_case_tv"][1].accuracy)
    assert math.isnan(found.tests[0].p_value)  # the shifted mix needs it
    found = found_with(TRAINING)
    assert math.isnan(found.estimates["a"]["adjusted_average"].mean)
    assert math.isnan(found.curves["a"]["worst_case_kl"][0].accuracy)


@pytest.mark.filterwarnings("error")
def test_a_class_without_test_examples() -> None:
    keep = LABEL == 0
    run = final_run("m", (4, 2, 0, 0), label_of=LABEL[keep], attribute_of=ATTRIBUTE[keep])
    estimates = compare({"m": [run]}, SETTINGS).estimates["m"]
    assert math.isnan(estimates["class_balanced"].mean)
    assert estimates["average"].mean == pytest.approx(0.75)


def test_without_training_counts() -> None:
    found = compare({"m": [final_run("m", (4, 1, 2, 3), training=(0,) * 4)]}, SETTINGS)
    assert math.isnan(found.estimates["m"]["adjusted_average"].mean)
    assert found.curves["m"]["worst_case_tv"][0].accuracy == pytest.approx(10 / 16)  # around the test mix


# --- method against method ---


def test_single_runs_are_not_tested_as_methods() -> None:
    runs = {
        "follower": [final_run("follower", (4, 0, 0, 4))],
        "oracle": [final_run("oracle", (4, 4, 4, 4))],
    }
    (test,) = compare(runs, SETTINGS.model_copy(update={"permutations": 20_000})).tests
    assert (test.a, test.b) == ("oracle", "follower")
    assert test.difference.mean == pytest.approx(0.9)
    assert all(map(math.isnan, (test.p_value, test.corrected_p_value, test.degrees_of_freedom)))
    # Eight examples tell the models apart, all in one direction and of one weight: two of 2^8 orders are as extreme.
    assert test.p_value_of_trained_models == pytest.approx(2 / 2**8, abs=0.0025)


def test_the_difference_of_a_test_is_that_of_the_shifted_accuracies() -> None:
    runs = {
        "a": [final_run("a", (4, 1, 2, 3), 1), final_run("a", (2, 2, 1, 3), 2)],
        "b": [final_run("b", (2, 2, 4, 4), 1), final_run("b", (2, 3, 4, 3), 2)],
    }
    found = compare(runs, SETTINGS)
    (test,) = found.tests
    means = {name: found.estimates[name]["shifted_accuracy"].mean for name in "ab"}
    assert test.difference.mean == pytest.approx(means["b"] - means["a"])
    assert test.difference.low < test.difference.mean < test.difference.high
    assert test.corrected == test.difference  # one pair needs no correction
    assert test.corrected_p_value == test.p_value < 1
    severities = (0.0, SETTINGS.target_severity)
    point = compare(runs, SETTINGS.model_copy(update={"severities": severities})).differences["b - a"][1]
    assert (point.accuracy, point.low, point.high) == pytest.approx(
        (test.difference.mean, test.difference.low, test.difference.high)
    )


def test_no_interval_says_what_its_p_value_denies() -> None:
    """Twelve methods with five seeds each, some alike: 66 pairs at every place between clear and unclear."""
    rng = np.random.default_rng(0)
    runs = {
        f"m{number}": [
            final_run(f"m{number}", rng.binomial(4, 0.3 + 0.05 * number, size=4), seed=seed)
            for seed in range(5)
        ]
        for number in range(12)
    }
    found = compare(runs, SETTINGS)
    assert len(found.tests) == 66
    said = set()
    for test in found.tests:
        for interval, p in ((test.difference, test.p_value), (test.corrected, test.corrected_p_value)):
            excludes = interval.low > 0 or interval.high < 0
            assert excludes == (p < 0.1)
            said.add(excludes)
        assert test.corrected.low <= test.difference.low < test.difference.high <= test.corrected.high
        assert test.corrected_p_value >= test.p_value
    assert said == {True, False}


def half_right(name: str, reverse: bool = False) -> Tested:
    """A run on fifty examples of each group, half of them right; or the same ones in reverse order."""
    label, attribute = np.repeat(LABEL, 13)[:: -1 if reverse else 1], np.repeat(ATTRIBUTE, 13)
    attribute = attribute[::-1] if reverse else attribute
    return final_run(name, (26,) * 4, label_of=label.copy(), attribute_of=attribute.copy())


def test_methods_that_were_tested_on_other_examples_are_not_paired() -> None:
    shared = compare({"a": [half_right("a")], "b": [half_right("b")]}, SETTINGS)
    apart = compare({"a": [half_right("a")], "b": [half_right("b", reverse=True)]}, SETTINGS)
    assert shared.tests[0].p_value_of_trained_models == 1.0
    assert math.isnan(apart.tests[0].p_value_of_trained_models)
    for point in shared.differences["b - a"]:
        assert (point.low, point.accuracy, point.high) == (0.0, 0.0, 0.0)
    for index, point in enumerate(apart.differences["b - a"]):
        assert point.accuracy == 0.0
        own = apart.curves["a"]["mixture"][index]
        # Of independent draws the variances add up.
        assert point.high - point.low == pytest.approx(math.sqrt(2) * (own.high - own.low), rel=0.02)
    difference = apart.tests[0].difference
    assert difference.low < 0 < difference.high


def test_methods_that_share_examples_stay_paired_beside_others() -> None:
    runs = {"a": [half_right("a")], "b": [half_right("b", reverse=True)], "c": [half_right("c")]}
    found = compare(runs, SETTINGS)
    assert [(test.a, test.b) for test in found.tests] == [("c", "b"), ("c", "a"), ("b", "a")]
    assert [math.isnan(test.p_value_of_trained_models) for test in found.tests] == [True, False, True]
    assert found.tests[1].p_value_of_trained_models == 1.0
    assert {(point.low, point.high) for point in found.differences["c - a"]} == {(0.0, 0.0)}
    assert list(found.estimates) == ["a", "b", "c"]
    alone = compare({"a": runs["a"], "c": runs["c"]}, SETTINGS)
    assert found.curves["a"] == alone.curves["a"]


def test_runs_with_test_examples_of_their_own() -> None:
    """As `search.vary: [data]` gives them: examples are part of what differs between runs, and runs pair by them."""

    def run(label: str, hits: tuple[int, int, int, int], seed: int) -> Tested:
        size = 8 + seed  # other test sets
        label_of, attribute_of = (
            np.repeat(np.asarray(v, dtype=np.int32), size) for v in ([0, 0, 1, 1], [0, 1, 0, 1])
        )
        return final_run(label, hits, seed, label_of=label_of, attribute_of=attribute_of)

    hits = {"a": (2, 4, 6), "b": (4, 6, 8)}
    runs = {name: [run(name, (n,) * 4, seed) for seed, n in enumerate(own)] for name, own in hits.items()}
    found = compare(runs, SETTINGS)
    of_runs = {name: np.array(own) / (8, 9, 10) for name, own in hits.items()}
    assert found.estimates["a"]["average"].mean == pytest.approx(of_runs["a"].mean())
    (test,) = found.tests
    expected = ttest_rel(of_runs["b"], of_runs["a"])
    assert test.p_value == pytest.approx(expected.pvalue)
    assert (test.difference.low, test.difference.high) == pytest.approx(
        tuple(expected.confidence_interval(0.9))
    )
    assert math.isnan(test.p_value_of_trained_models)
    backwards = compare({"a": runs["a"], "b": runs["b"][::-1]}, SETTINGS)
    assert backwards.tests[0].p_value == pytest.approx(expected.pvalue)  # paired by examples, not by order
