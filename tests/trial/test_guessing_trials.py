"""Trials no better than guessing: their scores, the choice of winners, and the summary."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from small_study import finished_study

from ipgl.execution.trial_function import SCORE, finite_score, last_row
from ipgl.plan.study_plan import StudyPlan
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.results import choose_winners, read_runs, summarise


@pytest.fixture
def study(tmp_path: Path) -> tuple[StudyPlan, StudyFolder]:
    return finished_study(tmp_path / "runs")


def judged(folder: StudyFolder, label: str, guesses: bool, finals: int = 0) -> None:
    """Let the label's search trials guess or not, and so many of its final runs."""
    left = finals
    for trial, run in read_runs(folder):
        if run.label == label:
            value = guesses if run.phase == "search" else left > 0
            left -= run.phase == "final"
            trial.write_result(
                run.model_copy(update={"validation": run.validation | {"guessing": float(value)}})
            )


def test_a_trial_that_guesses_is_passed_over(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    judged(folder, "erm", guesses=False)
    run = next(r for _, r in read_runs(folder) if r.label == "erm" and r.phase == "search")
    # A second trial with a better score, which guesses.
    other = folder.trial("erm-search-s0-other")
    other.write_start(plan.trial("erm", {}, "search", 0))
    better = run.validation | {"kappa": 1.0, "flip_rate": 0.0}
    for guessing, winner in ((1.0, run.trial), (0.0, "erm-search-s0-other")):
        other.write_result(
            run.model_copy(
                update={"trial": "erm-search-s0-other", "validation": better | {"guessing": guessing}}
            )
        )
        assert choose_winners(plan, folder)["erm"] == winner


def test_the_summary_says_who_guesses(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    judged(folder, "erm", guesses=False)
    judged(folder, "ipg", guesses=True, finals=1)
    assert choose_winners(plan, folder)["ipg"] is not None  # nothing better was left
    summary = summarise(plan, folder).summary
    assert [(m.label, m.guessing, m.guessing_finals) for m in summary.methods] == [
        ("erm", False, 0),
        ("ipg", True, 1),
    ]
    assert "The winner of ipg is no better than guessing on the validation split." in summary.remarks
    assert (
        "Of the 2 final runs of ipg, 1 is no better than guessing on the validation split." in summary.remarks
    )
    assert not any("erm" in remark and "guessing" in remark for remark in summary.remarks)


@pytest.mark.parametrize(
    ("score", "expected"), [(0.3, 0.3), (-0.3, -0.3), (math.nan, -1.0), (-math.inf, -1.0)]
)
def test_what_is_no_number_is_told_as_the_worst(score: float, expected: float) -> None:
    assert finite_score(score) == expected


def test_a_failed_trial_is_told_as_the_worst(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    run = read_runs(folder)[0][1]
    config = plan.trial("erm", {}, "search", 0)
    for status, score, expected in (("failed", 0.9, -1.0), ("completed", -0.2, -0.2)):
        assert last_row(config, run.model_copy(update={"status": status, "score": score}))[SCORE] == expected
