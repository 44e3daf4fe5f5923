"""The budget table, and remarks on unequal budgets."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from narrowing import of_kind

from ipgl.evaluation import StudyResults
from ipgl.evaluation.study_summary import MethodBudget, MethodSummary, SearchedSetting
from ipgl.report import markdown_report, report_tables, write_tables
from ipgl.report.budget import budget_notes, budget_table
from ipgl.report.html import render_report

if TYPE_CHECKING:
    from tests.report.conftest import Build


STRENGTH = SearchedSetting(name="strength", range="{log_uniform: [0.1, 100]}", width=3.0, unit="decades")
UPDATE = SearchedSetting(name="update", range="{choice: [sequential, additive]}", width=2, unit="values")
DECAY = SearchedSetting(
    name="training.optimiser.weight_decay", range="{log_uniform: [1e-06, 0.01]}", width=4.0, unit="decades"
)


def budget(**changes: object) -> MethodBudget:
    fields = {
        "trials": 12,
        "ended": {"completed": 8, "stopped": 3, "failed": 1},
        "epochs": 15,
        "steps": 12345,
        "searched": (DECAY,),
        "fixed": {},
        "starts": 0,
        "training_pairs": 0,
        "held_out_pairs": 500,
        "training_labels": ("class labels",),
        "selection_reads": ("class labels", "held-out pairs"),
    }
    return MethodBudget(**(fields | changes))


ERM = budget()
IPG = budget(
    searched=(UPDATE, STRENGTH, DECAY),
    fixed={"adaptivity": "off", "augment.shift_pixels": 1, "password": "hunter2"},
    training_pairs=1500,
)


@pytest.fixture
def study(build: type[Build]) -> Callable[..., StudyResults]:
    def study(
        fingerprints: dict[tuple[str, int], str] | None = None, **budgets: MethodBudget | None
    ) -> StudyResults:
        """Two final runs of each method, of seeds 1 and 2; fingerprints by label and seed."""
        methods = [build.method(label, build.erm, budget=given) for label, given in budgets.items()]
        runs = [
            build.run(
                label,
                10 * place + seed,
                phase="final",
                seed=seed,
                trial=f"{label}-f{seed}",
                data_fingerprint=(fingerprints or {}).get((label, seed), "same"),
            )
            for place, label in enumerate(budgets)
            for seed in (1, 2)
        ]
        return build.results(build.summary(*methods), *runs)

    return study


def test_the_table_holds_everything_that_a_method_was_given(study: Callable[..., StudyResults]) -> None:
    table = budget_table(study(erm=ERM, ipg=IPG))
    erm, ipg = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    trials = "12 planned: 8 completed, 3 stopped, 1 failed"
    decay = "training.optimiser.weight_decay {log_uniform: [1e-06, 0.01]} (4 decades)"
    assert erm == {
        "Method": "erm",
        "Trials": trials,
        "Epochs of a trial": "15",
        "Steps of all trials": "12,345",
        "Searched, with the width of the range": decay,
        "Set by hand": "nothing",
        "Known points": "0",
        "Pairs to train": "0",
        "Training labels": "class labels",
        "Selection reads": "class labels, 500 held-out pairs",
    }
    assert ipg["Searched, with the width of the range"] == (
        "update {choice: [sequential, additive]} (2 values); strength {log_uniform: [0.1, 100]} (3 decades); "
        + decay
    )
    by_hand = of_kind(ipg["Set by hand"], str)
    assert by_hand.startswith("adaptivity off; augment.shift_pixels 1; password ")
    assert "hunter2" not in by_hand
    assert ipg["Pairs to train"] == "1,500"


def test_what_no_number_is_known_of_is_said(study: Callable[..., StudyResults]) -> None:
    unknown = budget(epochs=None, training_pairs=None, held_out_pairs=None, searched=(), ended={})
    [row] = budget_table(study(ipg=unknown)).rows
    assert row[1:4] == ("12 planned", "searched", "12,345")
    assert row[4] == "nothing"
    assert row[7] == "all but the held-out"
    assert row[9] == "class labels, held-out pairs"


def test_equal_budgets_without_pairs_need_no_words(study: Callable[..., StudyResults]) -> None:
    labels = {"selection_reads": ("class labels",)}
    assert budget_notes(study(a=budget(**labels), b=budget(**labels))) == []


def test_selection_by_pairs_of_methods_that_train_without_is_said(study: Callable[..., StudyResults]) -> None:
    said = budget_notes(study(erm=ERM, mixup=ERM, ipg=IPG))
    assert said == [
        "Trained without pairs, but selected by held-out pairs: erm and mixup. Without any pairs their settings would "
        "be chosen by another rule, and may be worse."
    ]


def test_more_pairs_to_select_than_to_train_are_said(study: Callable[..., StudyResults]) -> None:
    given = {
        "ipg_50": budget(training_pairs=50),
        "ipg_500": budget(training_pairs=500),
        "all": budget(training_pairs=None),
    }
    assert budget_notes(study(**given)) == [
        "Selection reads more pairs than training may use: ipg_50 (50 and 500)."
    ]


def test_unequal_trials_and_known_points_are_said(study: Callable[..., StudyResults]) -> None:
    pairs = {"training_pairs": 500}
    given = {"erm": budget(trials=1, **pairs), "clp": budget(**pairs), "ipg": budget(starts=2, **pairs)}
    assert budget_notes(study(**given)) == [
        "Methods differ in search trials planned: 1 for erm; 12 for clp and ipg.",
        "Methods differ in known points tried first: 0 for erm and clp; 2 for ipg.",
    ]


def test_flip_rates_on_other_pairs_are_said(study: Callable[..., StudyResults]) -> None:
    other = {("ipg", 1): "x", ("ipg", 2): "x"}
    assert budget_notes(study(other, erm=None, clp=None, ipg=None)) == [
        "Flip rates and interpolation curves are measured on a method's own held-out pairs, which are the same only "
        "within each of these: erm and clp; ipg."
    ]


def test_data_drawn_anew_for_each_seed_are_the_same_for_all_methods(
    study: Callable[..., StudyResults],
) -> None:
    drawn = {(label, seed): f"data {seed}" for label in ("erm", "ipg") for seed in (1, 2)}
    found = study(drawn, erm=None, ipg=None)
    assert budget_notes(found) == []
    lacking = found.model_copy(update={"runs": found.runs[:-1]})
    assert budget_notes(lacking) == []


def test_reports_and_tables_show_it(study: Callable[..., StudyResults], tmp_path: Path) -> None:
    found = study(erm=ERM, ipg=IPG)
    html, markdown = render_report(found), markdown_report(found)
    for text in (html, markdown):
        assert "Budget of each method" in text
        assert "Trained without pairs, but selected by held-out pairs: erm." in text
        assert "(3 decades)" in text
        assert "hunter2" not in text
    tables = report_tables(found)
    row = dict(zip(tables["budgets"].columns, tables["budgets"].rows[1], strict=True))
    assert row["training_pairs"] == 1500
    assert row["trials_stopped"] == 3
    assert row["fixed/augment.shift_pixels"] == 1
    write_tables(found, tmp_path, "csv")
    ranges = list(csv.DictReader((tmp_path / "ranges.csv").open()))
    assert [(r["label"], r["setting"], float(r["width"]), r["unit"]) for r in ranges] == [
        ("erm", "training.optimiser.weight_decay", 4.0, "decades"),
        ("ipg", "update", 2.0, "values"),
        ("ipg", "strength", 3.0, "decades"),
        ("ipg", "training.optimiser.weight_decay", 4.0, "decades"),
    ]


def test_a_summary_without_budgets_is_still_read_and_shown(build: type[Build]) -> None:
    old = build.method("erm", build.erm).model_dump(mode="json")
    del old["budget"]
    found = build.results(build.summary(MethodSummary.model_validate(old)))
    assert budget_table(found).rows == ()
    for text in (render_report(found), markdown_report(found)):
        assert "Budget of each method" not in text
    assert report_tables(found)["budgets"].rows == ()
