"""Accuracies per group and invariance on pairs, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from ipgl.data import Alignment
from ipgl.evaluation import (
    GroupCount,
    group_metrics,
    group_results,
    pair_metrics,
    prediction_metrics,
    wilson_interval,
)


def group(
    label: int, attribute: int, count: int, correct: int, aligned: bool = False, training_count: int = 0
) -> GroupCount:
    return GroupCount(
        label=label,
        attribute=attribute,
        aligned=aligned,
        count=count,
        correct=correct,
        training_count=training_count,
    )


def test_group_results() -> None:
    # (label, attribute): (0, 0) twice, once right; (0, 1) once, wrong; (1, 1) three times, twice right; (1, 0) never.
    prediction = torch.tensor([0, 1, 1, 1, 0, 1])
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    attribute = torch.tensor([0, 0, 1, 1, 1, 1])
    assert group_results(prediction, y, attribute, Alignment((0, 1)), num_classes=2, num_attributes=2) == (
        group(0, 0, 2, 1, aligned=True),
        group(0, 1, 1, 0),
        group(1, 0, 0, 0),
        group(1, 1, 3, 2, aligned=True),
    )


def test_groups_are_listed_by_label_then_attribute_with_those_that_nothing_is_in() -> None:
    found = group_results(
        torch.tensor([2]), torch.tensor([2]), torch.tensor([1]), Alignment((2, 0, 1)), 3, num_attributes=3
    )
    assert [(g.label, g.attribute) for g in found] == [(y, a) for y in range(3) for a in range(3)]
    assert [g.count for g in found] == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert [g.correct for g in found] == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert [(g.label, g.attribute) for g in found if g.aligned] == [(0, 2), (1, 0), (2, 1)]


def test_training_counts_stand_beside_the_test_counts() -> None:
    found = group_results(
        torch.tensor([0, 1]),
        torch.tensor([0, 1]),
        torch.tensor([0, 0]),
        Alignment((0, 1)),
        num_classes=2,
        num_attributes=2,
        training_counts=torch.tensor([[5, 0], [2, 9]]),
    )
    assert [g.training_count for g in found] == [5, 0, 2, 9]
    assert [g.count for g in found] == [1, 0, 1, 0]


def test_without_an_alignment_no_group_has_a_role() -> None:
    both = torch.tensor([0, 1])
    found = group_results(both, both, both, Alignment(None), 2, num_attributes=2)
    assert [g.aligned for g in found] == [None] * 4


def test_group_metrics() -> None:
    # Accuracies 1/2, 1, 1/4, 3/4; correct in all: 1 + 4 + 2 + 3 of 18; of class 0 five of 6, of class 1 five of 12.
    groups = [
        group(0, 0, 2, 1, training_count=70),
        group(0, 1, 4, 4, training_count=10),
        group(1, 0, 8, 2, training_count=20),
        group(1, 1, 4, 3, training_count=100),
    ]
    assert group_metrics(groups) == {
        "average": pytest.approx(10 / 18),
        "adjusted_average": pytest.approx((70 * 0.5 + 10 * 1 + 20 * 0.25 + 100 * 0.75) / 200),
        "class_balanced": pytest.approx((5 / 6 + 5 / 12) / 2),
        "group_mean": pytest.approx(0.625),
        "worst_group": 0.25,
        "worst_nonempty_group": 0.25,
    }


def test_an_empty_group_is_not_zero_but_unknown() -> None:
    found = group_metrics([group(0, 0, 2, 1), group(0, 1, 4, 4), group(1, 0, 0, 0), group(1, 1, 4, 1)])
    assert found["average"] == pytest.approx(0.6)
    assert math.isnan(found["group_mean"])
    assert math.isnan(found["worst_group"])
    assert found["worst_nonempty_group"] == 0.25
    assert math.isnan(group(1, 0, 0, 0).accuracy)


def test_adjusted_average_with_empty_groups() -> None:
    # A group that training never sees weighs nothing, even where it is unknown on the test split.
    unseen = [group(0, 0, 4, 1, training_count=30), group(0, 1, 4, 3), group(1, 0, 2, 1, training_count=10)]
    assert group_metrics(unseen)["adjusted_average"] == pytest.approx((30 * 0.25 + 10 * 0.5) / 40)
    untested = [group(0, 0, 4, 1, training_count=30), group(0, 1, 0, 0)]
    assert group_metrics(untested)["adjusted_average"] == pytest.approx(0.25)
    # One that training does see is needed.
    needed = [group(0, 0, 4, 1, training_count=30), group(0, 1, 0, 0, training_count=1)]
    assert math.isnan(group_metrics(needed)["adjusted_average"])


def test_without_training_counts_there_is_no_adjusted_average() -> None:
    assert math.isnan(group_metrics([group(0, 0, 4, 1), group(1, 0, 4, 4)])["adjusted_average"])


@pytest.mark.parametrize("classes", [2, 5])
def test_class_balanced_against_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    y = rng.choice(classes, size=300, p=rng.dirichlet(np.ones(classes)) * 0.5 + 0.5 / classes)
    attribute = rng.integers(3, size=300)
    prediction = np.where(rng.random(300) < 0.6, y, rng.integers(classes, size=300))
    groups = group_results(
        torch.from_numpy(prediction),
        torch.from_numpy(y),
        torch.from_numpy(attribute),
        Alignment((0,) * classes),
        num_classes=classes,
        num_attributes=3,
    )
    assert group_metrics(groups)["class_balanced"] == pytest.approx(balanced_accuracy_score(y, prediction))


def test_a_class_without_examples_is_unknown() -> None:
    assert math.isnan(group_metrics([group(0, 0, 4, 1), group(1, 0, 0, 0)])["class_balanced"])


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize(("correct", "count"), [(0, 5), (1, 1), (3, 10), (97, 100), (5000, 10_000)])
def test_wilson_interval_against_its_formula(correct: int, count: int, confidence: float) -> None:
    z = {0.8: 1.2815515655446004, 0.95: 1.959963984540054}[confidence]
    share = correct / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    found = wilson_interval(correct, count, confidence)
    assert found == pytest.approx((max(0, centre - half), min(1, centre + half)), abs=1e-9)


def test_wilson_interval_of_an_empty_group() -> None:
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0, 0.95))


def test_without_any_example_everything_is_unknown() -> None:
    assert all(math.isnan(value) for value in group_metrics([group(0, 0, 0, 0)]).values())


def test_a_group_that_is_all_wrong_is_zero() -> None:
    assert group_metrics([group(0, 0, 2, 0), group(1, 0, 2, 2)])["worst_group"] == 0.0


def test_pair_metrics() -> None:
    # One of four pairs changes its class. Centred logits are (x, -x): its members are 2 apart in x, so the
    # within-pair variance is 2 * 2^2 / 2 / 4 = 1. Over the eight members sum x = 10 and sum x^2 = 20, so their
    # variance is 2 * (20 - 100 / 8) / 7 = 15 / 7.
    a = torch.tensor([[1.0, -1.0], [2.0, -2.0], [1.0, -1.0], [2.0, -2.0]])
    b = torch.tensor([[1.0, -1.0], [2.0, -2.0], [-1.0, 1.0], [2.0, -2.0]])
    found = pair_metrics(a, b)
    assert found["flip_rate"] == 0.25
    assert found["rho"] == pytest.approx(7 / 15, rel=1e-12)


def test_pairs_treated_alike() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert pair_metrics(a, a.clone()) == {"flip_rate": 0.0, "rho": 0.0}


def test_pairs_always_told_apart() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert pair_metrics(a, a.flip(1))["flip_rate"] == 1.0


def test_prediction_metrics() -> None:
    # Probabilities of the true classes: 3/4, 3/4 and 1/4.
    three = math.log(3)
    logits = torch.tensor([[three, 0.0], [0.0, three], [0.0, three]])
    found = prediction_metrics(logits, torch.tensor([0, 1, 0]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["nll"] == pytest.approx(-(2 * math.log(3 / 4) + math.log(1 / 4)) / 3, rel=1e-6)
    assert found["collapsed"] == 0.0
    # Labels 2 to 1, predictions 1 to 2: p_e = 2/3 x 1/3 + 1/3 x 2/3 = 4/9, kappa = (6/9 - 4/9) / (5/9).
    assert found["kappa"] == pytest.approx(0.4)
    assert found["guessing"] == 1.0  # three examples show nothing


def test_one_class_for_all_is_a_collapse() -> None:
    logits = torch.tensor([[0.0, 5.0], [0.0, 0.1]])
    assert prediction_metrics(logits, torch.tensor([0, 1]))["collapsed"] == 1.0
