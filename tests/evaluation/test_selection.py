"""Selection rules: validation metrics in, one number out."""

from __future__ import annotations

import math

import pytest

from ipgl.evaluation import SELECTION_RULES


@pytest.mark.parametrize(
    ("rule", "accuracy", "flip_rate", "expected"),
    [
        ("pair_robust", 0.8, 0.25, 0.6),
        ("pair_robust", 0.8, 0.0, 0.8),
        ("pair_robust", 0.9, 1.0, 0.0),
        ("average", 0.8, 0.25, 0.8),
        ("average", 0.9, 1.0, 0.9),
    ],
)
def test_by_hand(rule, accuracy, flip_rate, expected):
    validation = {"accuracy": accuracy, "flip_rate": flip_rate, "nll": 1.0}
    assert SELECTION_RULES[rule](validation) == pytest.approx(expected)


def test_the_rules_disagree_where_the_attribute_is_followed():
    follower = {"accuracy": 0.85, "flip_rate": 0.75}
    invariant = {"accuracy": 0.70, "flip_rate": 0.05}
    assert SELECTION_RULES["average"](follower) > SELECTION_RULES["average"](invariant)
    assert SELECTION_RULES["pair_robust"](follower) < SELECTION_RULES["pair_robust"](invariant)


@pytest.mark.parametrize("rule", sorted(SELECTION_RULES))
def test_what_is_unknown_stays_unknown(rule):
    assert math.isnan(SELECTION_RULES[rule]({"accuracy": math.nan, "flip_rate": 0.1}))
