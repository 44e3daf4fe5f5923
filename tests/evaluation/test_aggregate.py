"""Comparing methods over seeds, on cases small enough to be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ipgl.config import EvaluationSettings
from ipgl.evaluation import GroupCount, RunResult, aggregate
from ipgl.evaluation.aggregate import Comparison, compare

SETTINGS = EvaluationSettings(severities=(0.0, 0.5, 1.0), resamples=2000, confidence=0.9)
# Four groups of four: label 0 with attribute 0 (aligned) and 1, label 1 with attribute 0 and 1 (aligned).
LABEL = np.repeat([0, 0, 1, 1], 4).astype(np.int32)
ATTRIBUTE = np.repeat([0, 1, 0, 1], 4).astype(np.int32)


def final_run(label, hits, seed=0, label_of=LABEL, attribute_of=ATTRIBUTE):
    """A run that classifies the first `hits[g]` examples of each group correctly."""
    prediction = label_of.copy()
    groups = []
    for number in range(4):
        members = np.flatnonzero(label_of * 2 + attribute_of == number)
        wrong = members[hits[number] :]
        prediction[wrong] = 1 - label_of[wrong]
        groups.append(
            GroupCount(
                label=number // 2,
                attribute=number % 2,
                aligned=number // 2 == number % 2,
                count=len(members),
                correct=len(members) - len(wrong),
            )
        )
    run = RunResult(
        study="s",
        label=label,
        method=label,
        phase="final",
        trial=f"{label}-{seed}",
        seed=seed,
        status="completed",
        groups=tuple(groups),
    )
    return aggregate.Tested(run, prediction, label_of, attribute_of)


def bounds(points):
    return [(point.low, point.high) for point in points]


def accuracies(points):
    return [point.accuracy for point in points]


def test_all_right_and_all_wrong_have_intervals_without_width():
    # Right where the attribute agrees and wrong elsewhere: the mixture falls from 1 to 0, its area is 1/2.
    found = compare(
        {"follower": [final_run("follower", (4, 0, 0, 4))], "oracle": [final_run("oracle", (4, 4, 4, 4))]},
        SETTINGS,
    )
    follower, oracle = found.estimates["follower"], found.estimates["oracle"]
    expected = {
        "average": 0.5,
        "group_mean": 0.5,
        "worst_group": 0.0,
        "area_mixture": 0.5,
        "shifted_accuracy": 0.1,
    }
    for name, value in expected.items():
        assert (follower[name].mean, follower[name].low, follower[name].high) == pytest.approx((value,) * 3)
        assert (oracle[name].mean, oracle[name].low, oracle[name].high) == pytest.approx((1.0,) * 3)
    assert follower.keys() == expected.keys()
    assert accuracies(found.curves["follower"]) == [1.0, 0.5, 0.0]
    assert bounds(found.curves["follower"]) == [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)]
    assert list(found.differences) == ["oracle - follower"]  # the later label minus the earlier
    assert accuracies(found.differences["oracle - follower"]) == [0.0, 0.5, 1.0]
    assert bounds(found.differences["oracle - follower"]) == [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)]


def test_means_over_seeds_by_hand():
    # Group accuracies (1, 1/4, 1/2, 3/4) and (1/2, 1/2, 1/4, 3/4).
    runs = [final_run("m", (4, 1, 2, 3), seed=1), final_run("m", (2, 2, 1, 3), seed=2)]
    found = compare({"m": runs}, SETTINGS)
    estimates = found.estimates["m"]
    assert estimates["average"].mean == pytest.approx((10 / 16 + 8 / 16) / 2)
    assert estimates["group_mean"].mean == pytest.approx((10 / 16 + 8 / 16) / 2)
    assert estimates["worst_group"].mean == pytest.approx(0.25)
    # Aligned: (1 + 3/4) / 2 and (1/2 + 3/4) / 2; conflicting: (1/4 + 1/2) / 2 and (1/2 + 1/4) / 2.
    assert accuracies(found.curves["m"]) == pytest.approx([0.75, 0.5625, 0.375])
    assert estimates["area_mixture"].mean == pytest.approx(0.5625)
    for estimate in estimates.values():
        assert 0 <= estimate.low <= estimate.mean <= estimate.high <= 1
        assert estimate.low < estimate.high
    assert found.differences == {}


def test_groups_of_unlike_size_weigh_in_the_average_by_their_size():
    label = np.repeat([0, 0, 1, 1], [6, 2, 4, 4]).astype(np.int32)
    attribute = np.repeat([0, 1, 0, 1], [6, 2, 4, 4]).astype(np.int32)
    found = compare({"m": [final_run("m", (6, 0, 4, 0), label_of=label, attribute_of=attribute)]}, SETTINGS)
    assert found.estimates["m"]["average"].mean == pytest.approx(10 / 16)
    assert found.estimates["m"]["average"].low == pytest.approx(10 / 16)  # no group leaves anything to chance
    assert found.estimates["m"]["group_mean"].mean == pytest.approx(0.5)


def test_the_sign_turns_with_the_order_of_the_labels():
    a, b = [final_run("a", (4, 1, 2, 3))], [final_run("b", (2, 2, 4, 4))]
    forth = compare({"a": a, "b": b}, SETTINGS).differences["b - a"]
    back = compare({"b": b, "a": a}, SETTINGS).differences["a - b"]
    # b - a: aligned (1/2 + 1 - 1 - 3/4) / 2, conflicting (1/2 + 1 - 1/4 - 1/2) / 2.
    assert accuracies(forth) == pytest.approx([-0.125, 0.125, 0.375])
    assert accuracies(back) == pytest.approx([0.125, -0.125, -0.375])
    for there, here in zip(forth, back, strict=True):
        # The draws depend on how the runs are stacked; the ends agree up to a resample's noise.
        assert (-here.high, -here.low) == pytest.approx((there.low, there.high), abs=0.07)


def test_identical_methods_differ_by_nothing():
    hits = (3, 1, 2, 3)
    found = compare({"a": [final_run("a", hits)], "b": [final_run("b", hits)]}, SETTINGS)
    for point in found.differences["b - a"]:
        assert (point.accuracy, point.low, point.high) == (0.0, 0.0, 0.0)
    # The curves themselves do have a width, so that it is the shared examples that cancel.
    assert all(point.low < point.high for point in found.curves["a"])
    for mine, theirs in zip(found.curves["a"], found.curves["b"], strict=True):
        assert mine == theirs


def test_differences_of_several_labels():
    found = compare({name: [final_run(name, (4, 0, 0, 4))] for name in ("a", "b", "c")}, SETTINGS)
    assert list(found.differences) == ["c - b", "c - a", "b - a"]


def test_a_difference_is_narrower_than_its_parts_where_the_methods_err_alike():
    """Against a naive bootstrap that draws examples, then seeds of each method, one resample at a time."""
    rng = np.random.default_rng(3)
    label, attribute = rng.integers(2, size=(2, 200)).astype(np.int32)
    difficulty = rng.random(200)

    def run(name, level, seed):
        right = difficulty + 0.2 * rng.random(200) < level
        prediction = np.where(right, label, 1 - label).astype(np.int32)
        groups = []
        for number in range(4):
            members = label * 2 + attribute == number
            groups.append(
                GroupCount(
                    label=number // 2,
                    attribute=number % 2,
                    aligned=number in (0, 3),
                    count=int(members.sum()),
                    correct=int(right[members].sum()),
                )
            )
        base = final_run(name, (0, 0, 0, 0), seed).run
        return aggregate.Tested(
            base.model_copy(update={"groups": tuple(groups)}), prediction, label, attribute
        )

    methods = {
        "a": [run("a", level, seed) for seed, level in enumerate((0.7, 0.75))],
        "b": [run("b", level, seed) for seed, level in enumerate((0.8, 0.84, 0.9))],
    }
    settings = EvaluationSettings(severities=(0.0, 1.0), resamples=4000, confidence=0.9)
    found = compare(methods, settings)

    members = [np.flatnonzero(label * 2 + attribute == number) for number in range(4)]
    prior = np.array([(label == 0).mean(), (label == 1).mean()])

    def curve(run, drawn):
        right = run.prediction == label
        acc = [right[indices].mean() for indices in drawn]
        return np.array(
            [prior[0] * acc[0] + prior[1] * acc[3], prior[0] * acc[1] + prior[1] * acc[2]]
        )  # aligned, conflicting

    naive = []
    for _ in range(4000):
        drawn = [rng.choice(indices, size=len(indices)) for indices in members]
        means = {
            name: np.mean([curve(runs[i], drawn) for i in rng.integers(len(runs), size=len(runs))], axis=0)
            for name, runs in methods.items()
        }
        naive.append(means["b"] - means["a"])
    low, high = np.quantile(naive, [0.05, 0.95], axis=0)
    for number, point in enumerate(found.differences["b - a"]):
        assert point.low == pytest.approx(low[number], abs=0.012)
        assert point.high == pytest.approx(high[number], abs=0.012)
        assert point.low < point.accuracy < point.high
        apart = [found.curves[name][number] for name in ("a", "b")]
        width = math.hypot(*(part.high - part.low for part in apart))
        assert point.high - point.low < 0.85 * width


def test_an_empty_group_is_unknown_and_leaves_the_rest_alone():
    keep = LABEL * 2 + ATTRIBUTE != 1  # no example of label 0 with attribute 1
    label, attribute = LABEL[keep], ATTRIBUTE[keep]
    found = compare({"m": [final_run("m", (4, 0, 2, 3), label_of=label, attribute_of=attribute)]}, SETTINGS)
    estimates = found.estimates["m"]
    assert estimates["average"].mean == pytest.approx(9 / 12)
    assert estimates["average"].low < estimates["average"].high
    for name in ("group_mean", "worst_group", "area_mixture"):
        assert all(math.isnan(v) for v in (estimates[name].mean, estimates[name].low, estimates[name].high))
    # Class 0 has a third of the examples: 1/3 * 1 + 2/3 * 3/4 where all are aligned; unknown elsewhere.
    assert accuracies(found.curves["m"])[0] == pytest.approx(1 / 3 + 0.5)
    assert all(math.isnan(point.accuracy) for point in found.curves["m"][1:])


def test_labels_without_runs_are_left_out():
    assert compare({}, SETTINGS) == Comparison({}, {}, {})
    assert compare({"a": []}, SETTINGS) == Comparison({}, {}, {})
    found = compare({"a": [], "b": [final_run("b", (4, 4, 4, 4))], "c": []}, SETTINGS)
    assert list(found.estimates) == list(found.curves) == ["b"]
    assert found.differences == {}


def test_the_same_runs_give_the_same_intervals():
    runs = {"a": [final_run("a", (4, 1, 2, 3))], "b": [final_run("b", (2, 2, 4, 4))]}
    assert compare(runs, SETTINGS) == compare(runs, SETTINGS)


def test_the_area_takes_severities_in_any_order():
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    shuffled = SETTINGS.model_copy(update={"severities": (1.0, 0.0, 0.5)})
    sorted_area = compare(runs, SETTINGS).estimates["m"]["area_mixture"]
    found = compare(runs, shuffled)
    assert found.estimates["m"]["area_mixture"].mean == pytest.approx(sorted_area.mean)
    assert [point.severity for point in found.curves["m"]] == [1.0, 0.0, 0.5]


def test_the_area_is_a_mean_over_the_range_of_severities():
    # From severity 1/2 to 1 the curve falls from 0.625 to 0.375.
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    found = compare(runs, SETTINGS.model_copy(update={"severities": (0.5, 1.0)}))
    assert accuracies(found.curves["m"]) == pytest.approx([0.625, 0.375])
    assert found.estimates["m"]["area_mixture"].mean == pytest.approx(0.5)


def test_the_target_severity_has_an_accuracy_of_its_own():
    # Aligned 0.875, conflicting 0.375: 0.2 * 0.875 + 0.8 * 0.375, though no curve has a point there.
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    found = compare(runs, SETTINGS.model_copy(update={"target_severity": 0.8})).estimates["m"]
    assert found["shifted_accuracy"].mean == pytest.approx(0.475)
    assert found["shifted_accuracy"].low < 0.475 < found["shifted_accuracy"].high


def test_one_severity_is_its_own_area():
    runs = {"m": [final_run("m", (4, 1, 2, 3))]}
    found = compare(runs, SETTINGS.model_copy(update={"severities": (1.0,)}))
    assert found.estimates["m"]["area_mixture"].mean == pytest.approx(0.375)
