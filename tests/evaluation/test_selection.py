"""Selection rules: validation metrics in, one number out."""

from __future__ import annotations

import math

import pytest

from ipgl.evaluation import SELECTION_RULES, RunResult
from ipgl.evaluation.audit import audit_rules, best_run


@pytest.mark.parametrize(
    ("rule", "accuracy", "flip_rate", "expected"),
    [
        ("pair_robust", 0.8, 0.25, 0.6),
        ("pair_robust", 0.8, 0.0, 0.8),
        ("pair_robust", 0.9, 1.0, 0.0),
        ("average", 0.8, 0.25, 0.8),
        ("average", 0.9, 1.0, 0.9),
        ("worst_group", 0.9, 1.0, 0.3),
        ("oracle_test", 0.8, 0.25, 0.6),
    ],
)
def test_by_hand(rule, accuracy, flip_rate, expected):
    validation = {"accuracy": accuracy, "flip_rate": flip_rate, "nll": 1.0, "worst_group": 0.3}
    assert SELECTION_RULES[rule].score(validation) == pytest.approx(expected)


def test_the_rules_disagree_where_the_attribute_is_followed():
    follower = {"accuracy": 0.85, "flip_rate": 0.75}
    invariant = {"accuracy": 0.70, "flip_rate": 0.05}
    assert SELECTION_RULES["average"].score(follower) > SELECTION_RULES["average"].score(invariant)
    assert SELECTION_RULES["pair_robust"].score(follower) < SELECTION_RULES["pair_robust"].score(invariant)


@pytest.mark.parametrize("rule", sorted(SELECTION_RULES))
def test_what_is_unknown_stays_unknown(rule):
    assert math.isnan(
        SELECTION_RULES[rule].score({"accuracy": math.nan, "flip_rate": 0.1, "worst_group": math.nan})
    )


def run_of(number=1, accuracy=0.8, flip_rate=0.0, worst=0.5, shifted=0.6, status="completed"):
    return RunResult(
        study="s",
        label="m",
        method="m",
        phase="search",
        trial=f"m-{number}",
        number=number,
        seed=0,
        status=status,
        validation={"accuracy": accuracy, "flip_rate": flip_rate, "worst_group": worst},
        metrics={"shifted_accuracy": shifted} if status == "completed" else {},
    )


def test_only_the_oracle_reads_the_test_split():
    # Two runs that differ in nothing but their test accuracy.
    lower, higher = run_of(1, shifted=0.1), run_of(2, shifted=0.9)
    for name, rule in SELECTION_RULES.items():
        assert best_run([lower, higher], rule).trial == ("m-2" if rule.oracle else "m-1"), name
    assert [name for name, rule in SELECTION_RULES.items() if rule.oracle] == ["oracle_test"]
    assert [name for name, rule in SELECTION_RULES.items() if rule.needs_groups] == ["worst_group"]


def test_a_stopped_or_unranked_run_never_wins():
    stopped = run_of(1, accuracy=0.99, status="stopped")
    unknown = run_of(2, worst=math.nan)
    assert best_run([stopped, unknown], SELECTION_RULES["worst_group"]) is None
    assert best_run([stopped, unknown], SELECTION_RULES["pair_robust"]).trial == "m-2"


def test_audit_by_hand():
    runs = [
        run_of(1, accuracy=0.9, flip_rate=0.9, worst=0.2, shifted=0.20),  # pair_robust 0.09
        run_of(2, accuracy=0.7, flip_rate=0.0, worst=0.6, shifted=0.65),  # pair_robust 0.70
        run_of(3, accuracy=0.8, flip_rate=0.5, worst=0.7, shifted=0.70),  # pair_robust 0.40
        run_of(4, status="stopped"),
    ]
    audits = {audit.rule: audit for audit in audit_rules(runs, ["m"])}
    # Ranks of the shifted accuracy are 1 2 3; of pair_robust 1 3 2: 1 - 6 * (0 + 1 + 1) / (3 * 8) = 0.5.
    assert audits["pair_robust"].spearman == pytest.approx(0.5)
    # average ranks 3 1 2: squared differences 4, 1, 1.
    assert audits["average"].spearman == pytest.approx(-0.5)
    assert audits["worst_group"].spearman == pytest.approx(1.0)
    assert {audit.trials for audit in audits.values()} == {3}
    chosen = {
        rule: (audit.choices[0].trial, round(audit.choices[0].regret, 12)) for rule, audit in audits.items()
    }
    assert chosen == {
        "pair_robust": ("m-2", 0.05),
        "average": ("m-1", 0.5),
        "worst_group": ("m-3", 0.0),
        "oracle_test": ("m-3", 0.0),
    }


def test_too_few_trials_have_no_correlation():
    assert all(math.isnan(audit.spearman) for audit in audit_rules([run_of(1), run_of(2)], ["m"]))
