"""The look back at selection rules, and the convergence figures of methods that diagnose themselves."""

from __future__ import annotations

import math

import pytest

from ipgl.evaluation import RuleAudit, RuleChoice
from ipgl.report import markdown_report, render_report, report_tables
from ipgl.report.convergence import convergence_figure, convergence_table, diagnosed_runs
from ipgl.report.rule_tables import choices_table, rules_table, within_table

ROWS = (
    {
        "epoch": 1.0,
        "diagnostic/task_gradient_norm": 2.0,
        "diagnostic/corrective_gradient_norm": 0.5,
        "diagnostic/gradient_cosine": -0.25,
        "train/measure": 0.75,
        "train/multiplier": 10.0,
        "train/corrected": 1.0,
    },
    {
        "epoch": 2.0,
        "diagnostic/task_gradient_norm": 1.0,
        "diagnostic/corrective_gradient_norm": 0.25,
        "diagnostic/gradient_cosine": math.nan,
        "train/measure": 0.005,
        "train/multiplier": 0.0,
        "train/corrected": 0.5,
    },
)


def with_rules(results):
    choices = (
        RuleChoice(label="erm", trial="a", shifted_accuracy=0.2, regret=0.0),
        RuleChoice(label="ipg", trial="b", shifted_accuracy=0.7, regret=0.031),
    )
    audits = (
        RuleAudit(
            rule="pair_robust",
            needs_groups=False,
            oracle=False,
            trials=9,
            spearman=0.983,
            within={"erm": -0.2, "ipg": 0.6},
            choices=choices,
        ),
        RuleAudit(
            rule="oracle_test", needs_groups=False, oracle=True, trials=9, spearman=math.nan, choices=()
        ),
    )
    return results.model_copy(update={"summary": results.summary.model_copy(update={"rules": audits})})


def test_rules_in_numbers(two_methods):
    rows = {row[0]: row for row in rules_table(with_rules(two_methods)).rows}
    # Pooled; within methods (-0.2 + 0.6) / 2 and the lower of the two.
    assert rows["pair_robust"][1:] == ("pairs", "0.983", "0.200", "−0.200", "1.6 points", "3.1 points", "9")
    assert "an oracle" in rows["oracle_test"][1]
    assert rows["oracle_test"][2:5] == ("n/a", "n/a", "n/a")


def test_rankings_within_methods(two_methods):
    table = within_table(with_rules(two_methods))
    assert table.columns == ("Method", "pair_robust", "oracle_test")
    assert table.rows == (("erm", "−0.200", "n/a"), ("ipg", "0.600", "n/a"))
    assert within_table(two_methods).rows == ()
    assert "| ipg | 0.600 | n/a |" in markdown_report(with_rules(two_methods))
    exported = report_tables(with_rules(two_methods))
    assert exported["rankings"].columns == ("rule", "label", "spearman")
    assert exported["rankings"].rows == (("pair_robust", "erm", -0.2), ("pair_robust", "ipg", 0.6))
    rules = dict(zip(exported["rules"].columns, exported["rules"].rows[0], strict=True))
    assert rules["spearman"] == 0.983
    assert rules["spearman_within_mean"] == pytest.approx(0.2)
    assert rules["spearman_within_lowest"] == -0.2


def test_choices(two_methods):
    assert choices_table(with_rules(two_methods)).rows == (
        ("erm", "20.0% (a)", "n/a"),
        ("ipg", "70.0% (b)", "n/a"),
    )


def test_the_report_says_which_rule_chose(two_methods):
    page = render_report(with_rules(two_methods))
    assert "What each selection rule would have chosen" in page
    assert "0.983" in page
    assert "Spearman within each method" in page


def test_panels_hold_the_history_and_leave_gaps_out():
    traces = {trace.name: trace for trace in convergence_figure(ROWS, "How it converged").data}
    assert traces["task"].y == (2.0, 1.0)
    assert traces["corrective, unweighted"].y == (0.5, 0.25)
    assert (traces["cosine"].x, traces["cosine"].y) == ((1.0,), (-0.25,))
    assert traces["share"].y == (1.0, 0.5)
    assert convergence_table(ROWS, "run").rows[1][3] == "n/a"


def test_only_methods_that_diagnose_themselves_are_drawn(two_methods):
    assert diagnosed_runs(two_methods) == []
    (method,) = [m for m in two_methods.summary.methods if m.label == "ipg"]
    histories = {**two_methods.histories, method.final_runs[0]: ROWS}
    results = two_methods.model_copy(update={"histories": histories})
    ((found, key, rows),) = diagnosed_runs(results)
    assert (found.label, key) == ("ipg", method.final_runs[0])
    assert len(rows) == 2
    page = render_report(results)
    assert "How ipg converged" in page
    assert 'id="convergence-0-figure"' in page
