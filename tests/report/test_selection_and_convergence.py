"""The audit of selection rules, and the convergence figures of methods with diagnostics."""

from __future__ import annotations

import math
from typing import cast

import pytest
from plotly.graph_objs import Figure

from ipgl.evaluation import RuleAudit, RuleChoice, StudyResults
from ipgl.evaluation.study_summary import MethodSummary
from ipgl.report import markdown_report, render_report, report_tables
from ipgl.report.convergence import DiagnosedRun, convergence_figure, convergence_table, diagnosed_runs
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


METHOD = cast(MethodSummary, None)  # the figures do not ask for it
RUN = DiagnosedRun(METHOD, "run", ROWS)
# Two spans of steps: violated in all of the first, in a quarter of the second.
TRACE = (
    {"step": 10.0, "epoch": 1.0, "loss": 0.7, "measure": 0.5, "corrected": 1.0, "multiplier": 12.0}
    | {"task_length": 2.0, "corrective_length": 0.25},
    {"step": 20.0, "epoch": 2.0, "loss": 0.6, "measure": 0.002, "corrected": 0.25, "multiplier": 1.5}
    | {"task_length": 1.0, "corrective_length": 0.0625},
)


def with_rules(results: StudyResults) -> StudyResults:
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


def test_rules_in_numbers(two_methods: StudyResults) -> None:
    rows = {row[0]: row for row in rules_table(with_rules(two_methods)).rows}
    # Pooled; within methods (-0.2 + 0.6) / 2 and the lower of the two.
    assert rows["pair_robust"][1:] == ("pairs", "0.983", "0.200", "−0.200", "1.6 points", "3.1 points", "9")
    assert "an oracle" in str(rows["oracle_test"][1])
    assert rows["oracle_test"][2:5] == ("n/a", "n/a", "n/a")


def test_rankings_within_methods(two_methods: StudyResults) -> None:
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


def test_choices(two_methods: StudyResults) -> None:
    assert choices_table(with_rules(two_methods)).rows == (
        ("erm", "20.0% (a)", "n/a"),
        ("ipg", "70.0% (b)", "n/a"),
    )


def test_the_report_says_which_rule_chose(two_methods: StudyResults) -> None:
    page = render_report(with_rules(two_methods))
    assert "What each selection rule would have chosen" in page
    assert "0.983" in page
    assert "Spearman within each method" in page


def test_panels_hold_the_history_and_leave_gaps_out() -> None:
    traces = {trace.name: trace for trace in convergence_figure(RUN, "How it converged").data}
    assert traces["task"].y == (2.0, 1.0)
    assert traces["corrective, unweighted"].y == (0.5, 0.25)
    assert (traces["cosine"].x, traces["cosine"].y) == ((1.0,), (-0.25,))
    assert traces["share"].y == (1.0, 0.5)
    table = convergence_table(RUN)
    assert table.rows[1][table.columns.index("cosine")] == "n/a"


def drawn(figure: Figure) -> dict[tuple[str, str], tuple[tuple[float, ...], tuple[float, ...]]]:
    """Lines by panel title and name."""
    titles = [note.text for note in figure.layout.annotations]
    return {
        (titles[int((line.yaxis or "y")[1:] or 1) - 1], line.name): (line.x, line.y) for line in figure.data
    }


def test_the_balanced_update_s_lengths_come_from_its_steps() -> None:
    history = tuple({"step": 10.0 * (i + 1), **row} for i, row in enumerate(ROWS))
    settings = {"task_share": 2 / 3, "invariance_threshold": 0.003}
    figure = convergence_figure(DiagnosedRun(METHOD, "run", history, TRACE, settings), "How it converged")
    found = drawn(figure)
    lengths = "Length of the gradients"
    assert found[lengths, "task"] == ((1.0, 2.0), (2.0, 1.0))
    # Means over the steps in which there was a correction: 0.25 / 1 and 0.0625 / 0.25.
    assert found[lengths, "corrective"] == ((1.0, 2.0), (0.25, 0.25))
    assert found[lengths, "corrective, balanced"] == ((1.0, 2.0), (3.0, 1.5))
    (share,) = {title for title, name in found if name == "as the step is taken"}
    assert found[share, "before balancing"][1] == (8.0, 4.0)
    assert found[share, "as the step is taken"][1] == (0.66667, 0.66667)
    assert found["Share of steps in which the condition is violated", "share"][1] == (1.0, 0.25)
    # The diagnoses of the evaluations are among them, and the settings are drawn as levels.
    assert found["Cosine of the two gradients", "cosine"] == ((1.0,), (-0.25,))
    assert [round(shape.y0, 3) for shape in figure.layout.shapes] == [0.667, 0.003]


def test_only_methods_that_diagnose_themselves_are_drawn(two_methods: StudyResults) -> None:
    assert diagnosed_runs(two_methods) == []
    (method,) = [m for m in two_methods.summary.methods if m.label == "ipg"]
    histories = {**two_methods.histories, method.final_runs[0]: ROWS}
    results = two_methods.model_copy(update={"histories": histories})
    (found,) = diagnosed_runs(results)
    assert (found.method.label, found.key) == ("ipg", method.final_runs[0])
    assert len(found.history) == 2
    page = render_report(results)
    assert "How ipg converged" in page
    assert 'id="convergence-0-figure"' in page
