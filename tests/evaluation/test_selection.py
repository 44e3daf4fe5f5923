"""Selection rules: scores from validation metrics, winners, and the audit of the rules."""

from __future__ import annotations

import math

import pytest
from narrowing import known

from ipgl.evaluation import SELECTION_RULES, RunResult
from ipgl.evaluation.selection import LOWEST_SCORE
from ipgl.evaluation.selection_audit import audit_rules, best_run


@pytest.mark.parametrize(
    ("rule", "kappa", "accuracy", "flip_rate", "expected"),
    [
        ("pair_robust", 0.6, 0.8, 0.25, 0.3375),
        ("pair_robust", 0.6, 0.8, 0.0, 0.6),
        ("pair_robust", 0.8, 0.9, 1.0, 0.0),
        ("pair_robust", 0.0, 0.5, 0.0, 0.0),
        # Flips would raise what lies below 0.
        ("pair_robust", -0.4, 0.3, 0.0, -0.4),
        ("pair_robust", -0.4, 0.3, 1.0, -0.4),
        ("pair_accuracy", 0.6, 0.8, 0.25, 0.6),
        ("pair_accuracy", 0.0, 0.5, 0.0, 0.5),
        ("pair_accuracy", 0.8, 0.9, 1.0, 0.0),
        ("average", 0.6, 0.8, 0.25, 0.8),
        ("average", 0.8, 0.9, 1.0, 0.9),
        ("worst_group", 0.8, 0.9, 1.0, 0.3),
        ("oracle_test", 0.6, 0.8, 0.25, 0.3375),
    ],
)
def test_by_hand(rule: str, kappa: float, accuracy: float, flip_rate: float, expected: float) -> None:
    validation = {"kappa": kappa, "accuracy": accuracy, "flip_rate": flip_rate, "worst_group": 0.3}
    assert SELECTION_RULES[rule].score(validation) == pytest.approx(expected)


def test_no_rule_gives_less_than_what_a_failed_trial_is_worth() -> None:
    worst = {"kappa": -1.0, "accuracy": 0.0, "flip_rate": 1.0, "worst_group": 0.0}
    assert min(rule.score(worst) for rule in SELECTION_RULES.values()) == LOWEST_SCORE


def test_the_rules_disagree_where_the_attribute_is_followed() -> None:
    follower = {"accuracy": 0.85, "kappa": 0.70, "flip_rate": 0.75}
    invariant = {"accuracy": 0.70, "kappa": 0.40, "flip_rate": 0.05}
    for rule in ("pair_robust", "pair_accuracy"):
        assert SELECTION_RULES[rule].score(follower) < SELECTION_RULES[rule].score(invariant)
    assert SELECTION_RULES["average"].score(follower) > SELECTION_RULES["average"].score(invariant)


def test_honest_training_ranks_above_a_constant() -> None:
    """The noisy digits: 50.6% of one class; plain training is right 83% of the time and flips on 70% of the pairs."""
    constant = {"accuracy": 0.506, "kappa": 0.0, "flip_rate": 0.0}
    erm = {"accuracy": 0.83, "kappa": 0.66, "flip_rate": 0.70}
    old, new = SELECTION_RULES["pair_accuracy"].score, SELECTION_RULES["pair_robust"].score
    assert (old(constant), old(erm)) == pytest.approx((0.506, 0.249))
    assert (new(constant), new(erm)) == pytest.approx((0.0, 0.0594))


@pytest.mark.parametrize(("attribute", "invariant_wins"), [(0.7, True), (0.89, True), (0.95, False)])
def test_the_invariant_model_wins_unless_the_attribute_more_than_triples_kappa(
    attribute: float, invariant_wins: bool
) -> None:
    content, shares = 0.3, [share / 100 for share in range(101)]
    scores = [
        SELECTION_RULES["pair_robust"].score({"kappa": (1 - f) * content + f * attribute, "flip_rate": f})
        for f in shares
    ]
    assert (max(scores) == scores[0]) == invariant_wins


@pytest.mark.parametrize("rule", sorted(SELECTION_RULES))
def test_what_is_unknown_stays_unknown(rule: str) -> None:
    unknown = {"kappa": math.nan, "accuracy": math.nan, "flip_rate": 0.1, "worst_group": math.nan}
    assert math.isnan(SELECTION_RULES[rule].score(unknown))


@pytest.mark.parametrize("kappa", [0.5, 0.0, -0.5])
@pytest.mark.parametrize("rule", ["pair_robust", "pair_accuracy"])
def test_without_pairs_a_rule_that_needs_them_knows_nothing(rule: str, kappa: float) -> None:
    assert math.isnan(SELECTION_RULES[rule].score({"kappa": kappa, "accuracy": 0.7, "flip_rate": math.nan}))


def run_of(
    number: int = 1, label: str = "m", shifted: float = 0.6, status: str = "completed", **validation: object
) -> RunResult:
    known = {"accuracy": 0.8, "kappa": 0.6, "flip_rate": 0.0, "worst_group": 0.5, "guessing": 0.0}
    return RunResult(
        study="s",
        label=label,
        method="m",
        phase="search",
        trial=f"{label}-{number}",
        number=number,
        seed=0,
        status=status,
        validation={k: v for k, v in (known | validation).items() if v is not None},
        metrics={"shifted_accuracy": shifted} if status == "completed" else {},
    )


def test_only_the_oracle_reads_the_test_split() -> None:
    # Two runs that differ in nothing but their test accuracy.
    lower, higher = run_of(1, shifted=0.1), run_of(2, shifted=0.9)
    for name, rule in SELECTION_RULES.items():
        assert known(best_run([lower, higher], rule)).trial == ("m-2" if rule.oracle else "m-1"), name
    assert [name for name, rule in SELECTION_RULES.items() if rule.oracle] == ["oracle_test"]
    assert [name for name, rule in SELECTION_RULES.items() if rule.needs_groups] == ["worst_group"]


def test_a_stopped_or_unranked_run_never_wins() -> None:
    stopped = run_of(1, accuracy=0.99, kappa=0.98, status="stopped")
    unknown = run_of(2, worst_group=math.nan)
    assert best_run([stopped, unknown], SELECTION_RULES["worst_group"]) is None
    assert known(best_run([stopped, unknown], SELECTION_RULES["pair_robust"])).trial == "m-2"


@pytest.mark.parametrize("rule", sorted(SELECTION_RULES))
def test_a_guessing_run_wins_only_among_its_like(rule: str) -> None:
    # The guesser has the better value under every rule.
    guesser = run_of(1, accuracy=0.9, kappa=0.9, worst_group=0.9, shifted=0.9, guessing=1.0)
    worse = run_of(2, accuracy=0.2, kappa=0.2, worst_group=0.2, shifted=0.2, guessing=1.0)
    skilled = run_of(3, accuracy=0.6, kappa=0.3, flip_rate=0.5, worst_group=0.1, shifted=0.1)
    assert known(best_run([guesser, worse, skilled], SELECTION_RULES[rule])).trial == "m-3"
    assert known(best_run([worse, guesser], SELECTION_RULES[rule])).trial == "m-1"


def test_results_without_kappa_can_be_read() -> None:
    """As written before kappa was recorded: the default rule knows nothing of them, all others do."""
    collapsed = run_of(1, accuracy=0.9, kappa=None, guessing=None, collapsed=1.0, shifted=0.5)
    sound = run_of(2, accuracy=0.7, kappa=None, guessing=None, collapsed=0.0, shifted=0.7)
    third = run_of(3, accuracy=0.6, kappa=None, guessing=None, collapsed=0.0, shifted=0.4)
    runs = [collapsed, sound, third]
    audits = {audit.rule: audit for audit in audit_rules(runs, ["m"])}
    assert audits["pair_robust"].choices == ()
    assert math.isnan(audits["pair_robust"].spearman)
    assert math.isnan(audits["pair_robust"].within["m"])
    for rule in ("pair_accuracy", "average", "oracle_test"):
        assert audits[rule].choices[0].trial == "m-2", rule  # one class for all is a guess under any name
    assert best_run(runs, SELECTION_RULES["pair_robust"]) is None


def test_audit_by_hand() -> None:
    runs = [
        run_of(1, accuracy=0.9, kappa=0.8, flip_rate=0.9, worst_group=0.2, shifted=0.20),
        run_of(2, accuracy=0.7, kappa=0.4, flip_rate=0.0, worst_group=0.6, shifted=0.65),
        run_of(3, accuracy=0.8, kappa=0.6, flip_rate=0.4, worst_group=0.7, shifted=0.70),
        run_of(4, status="stopped"),
    ]
    audits = {audit.rule: audit for audit in audit_rules(runs, ["m"])}
    # Ranks of the shifted accuracy are 1 2 3. pair_robust gives 0.008, 0.40, 0.216 and pair_accuracy 0.09, 0.70,
    # 0.48, ranks 1 3 2 both: 1 - 6 * (0 + 1 + 1) / (3 * 8) = 0.5.
    assert audits["pair_robust"].spearman == pytest.approx(0.5)
    assert audits["pair_accuracy"].spearman == pytest.approx(0.5)
    # average ranks 3 1 2: squared differences 4, 1, 1.
    assert audits["average"].spearman == pytest.approx(-0.5)
    assert audits["worst_group"].spearman == pytest.approx(1.0)
    assert {audit.trials for audit in audits.values()} == {3}
    chosen = {
        rule: (audit.choices[0].trial, round(audit.choices[0].regret, 12)) for rule, audit in audits.items()
    }
    assert chosen == {
        "pair_robust": ("m-2", 0.05),
        "pair_accuracy": ("m-2", 0.05),
        "average": ("m-1", 0.5),
        "worst_group": ("m-3", 0.0),
        "oracle_test": ("m-3", 0.0),
    }


def test_pooled_methods_flatter_a_rule_that_ranks_none_of_them() -> None:
    # Within each method the ranks are reversed, -1; but b lies above a in both numbers.
    runs = [run_of(n, "a", kappa=0.1 + n / 100, shifted=0.3 - n / 100) for n in range(3)]
    runs += [run_of(n, "b", kappa=0.5 + n / 100, shifted=0.7 - n / 100) for n in range(3)]
    runs.append(run_of(0, "c", kappa=0.9, shifted=0.9))
    audit = audit_rules(runs, ["a", "b", "c"])[0]
    assert audit.rule == "pair_robust"
    assert audit.within == {
        "a": pytest.approx(-1),
        "b": pytest.approx(-1),
        "c": pytest.approx(math.nan, nan_ok=True),
    }
    # Ranks 1..7 against 3 2 1 6 5 4 7: squared differences 4 0 4 4 0 4 0, 1 - 6 * 16 / (7 * 48).
    assert audit.spearman == pytest.approx(1 - 96 / 336)


def test_too_few_trials_have_no_correlation() -> None:
    audits = audit_rules([run_of(1), run_of(2)], ["m"])
    assert all(math.isnan(audit.spearman) and math.isnan(audit.within["m"]) for audit in audits)
