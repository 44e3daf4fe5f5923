"""Accuracies per group and invariance on pairs, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ipgl.evaluation import GroupCount, group_metrics, group_results, pair_metrics, prediction_metrics


def group(label, attribute, count, correct, aligned=False):
    return GroupCount(label=label, attribute=attribute, aligned=aligned, count=count, correct=correct)


def test_group_results():
    # (label, attribute): (0, 0) twice, once right; (0, 1) once, wrong; (1, 1) three times, twice right; (1, 0) never.
    prediction = torch.tensor([0, 1, 1, 1, 0, 1])
    y = torch.tensor([0, 0, 0, 1, 1, 1])
    attribute = torch.tensor([0, 0, 1, 1, 1, 1])
    assert group_results(prediction, y, attribute, aligned=torch.tensor([0, 1]), num_attributes=2) == (
        group(0, 0, 2, 1, aligned=True),
        group(0, 1, 1, 0),
        group(1, 0, 0, 0),
        group(1, 1, 3, 2, aligned=True),
    )


def test_groups_are_listed_by_label_then_attribute_with_those_that_nothing_is_in():
    found = group_results(
        torch.tensor([2]), torch.tensor([2]), torch.tensor([1]), torch.tensor([2, 0, 1]), num_attributes=3
    )
    assert [(g.label, g.attribute) for g in found] == [(y, a) for y in range(3) for a in range(3)]
    assert [g.count for g in found] == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert [g.correct for g in found] == [0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert [(g.label, g.attribute) for g in found if g.aligned] == [(0, 2), (1, 0), (2, 1)]


def test_group_metrics():
    # Accuracies 1/2, 1, 1/4, 3/4; correct in all: 1 + 4 + 2 + 3 of 18.
    groups = [group(0, 0, 2, 1), group(0, 1, 4, 4), group(1, 0, 8, 2), group(1, 1, 4, 3)]
    assert group_metrics(groups) == {
        "average": pytest.approx(10 / 18),
        "group_mean": pytest.approx(0.625),
        "worst_group": 0.25,
        "worst_nonempty_group": 0.25,
    }


def test_an_empty_group_is_not_zero_but_unknown():
    found = group_metrics([group(0, 0, 2, 1), group(0, 1, 4, 4), group(1, 0, 0, 0), group(1, 1, 4, 1)])
    assert found["average"] == pytest.approx(0.6)
    assert math.isnan(found["group_mean"])
    assert math.isnan(found["worst_group"])
    assert found["worst_nonempty_group"] == 0.25
    assert math.isnan(group(1, 0, 0, 0).accuracy)


def test_without_any_example_everything_is_unknown():
    assert all(math.isnan(value) for value in group_metrics([group(0, 0, 0, 0)]).values())


def test_a_group_that_is_all_wrong_is_zero():
    assert group_metrics([group(0, 0, 2, 0), group(1, 0, 2, 2)])["worst_group"] == 0.0


def test_pair_metrics():
    # One of four pairs changes its class. Centred logits are (x, -x): its members are 2 apart in x, so the
    # within-pair variance is 2 * 2^2 / 2 / 4 = 1. Over the eight members sum x = 10 and sum x^2 = 20, so their
    # variance is 2 * (20 - 100 / 8) / 7 = 15 / 7.
    a = torch.tensor([[1.0, -1.0], [2.0, -2.0], [1.0, -1.0], [2.0, -2.0]])
    b = torch.tensor([[1.0, -1.0], [2.0, -2.0], [-1.0, 1.0], [2.0, -2.0]])
    found = pair_metrics(a, b)
    assert found["flip_rate"] == 0.25
    assert found["rho"] == pytest.approx(7 / 15, rel=1e-12)


def test_pairs_treated_alike():
    a = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert pair_metrics(a, a.clone()) == {"flip_rate": 0.0, "rho": 0.0}


def test_pairs_always_told_apart():
    a = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert pair_metrics(a, a.flip(1))["flip_rate"] == 1.0


def test_prediction_metrics():
    # Probabilities of the true classes: 3/4, 3/4 and 1/4.
    three = math.log(3)
    logits = torch.tensor([[three, 0.0], [0.0, three], [0.0, three]])
    found = prediction_metrics(logits, torch.tensor([0, 1, 0]))
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["nll"] == pytest.approx(-(2 * math.log(3 / 4) + math.log(1 / 4)) / 3, rel=1e-6)
    assert found["collapsed"] == 0.0


def test_one_class_for_all_is_a_collapse():
    logits = torch.tensor([[0.0, 5.0], [0.0, 0.1]])
    assert prediction_metrics(logits, torch.tensor([0, 1]))["collapsed"] == 1.0
