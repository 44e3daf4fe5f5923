"""The Markdown description of a study's run."""

from __future__ import annotations

import math
from types import SimpleNamespace

from ipgl.evaluation.run_result import Failure
from ipgl.tracking.study_description import failure_note, study_note


def plain(note: str) -> str:
    return note.replace("&emsp;", "").replace("&nbsp;", " ")


def test_question_table_and_winners(make: SimpleNamespace) -> None:
    summary = make.results(
        make.method("erm", 0.2, needs="labels only"), make.method("ipg", 0.5, needs="pairs"), chance=0.1
    ).summary
    assert plain(study_note(summary)).split("\n\n") == [
        "*Which method ignores colour?*",
        "| method | needs | worst group | seeds |\n"
        "| --- | --- | ---: | ---: |\n"
        "| **erm** | labels only | 20.0 (15.0 to 25.0) | 1 |\n"
        "| **ipg** | pairs | 50.0 (45.0 to 55.0) | 1 |",
        "Test results in percent: mean over seeds (95% interval). Guessing by class shares gives 10.0.",
        "Winners by `pair_robust`, chosen without test data:",
        "- **erm**: `strength = 2.5`; score 0.3 (3 completed, 1 stopped)\n"
        "- **ipg**: `strength = 2.5`; score 0.3 (3 completed, 1 stopped)",
    ]


def test_an_oracle_is_called_one(make: SimpleNamespace) -> None:
    summary = make.results(make.method("ipg", 0.5)).summary
    said = study_note(summary.model_copy(update={"selection": "oracle_test"}))
    assert "Winners by `oracle_test`, an ORACLE that reads the test split:" in said
    assert "without test data" not in said


def test_nothing_completed(make: SimpleNamespace) -> None:
    lost = make.method("ipg", estimates={}, winner=None, score=math.nan, final_runs=(), counts={"failed": 4})
    note = study_note(make.results(lost).summary)
    assert "nothing to compare" in note
    assert "- **ipg**: no search trial completed (4 failed)" in note


def test_missing_and_unknown_values_are_named(make: SimpleNamespace) -> None:
    unknown = make.method("ipg", math.nan, needs="pairs")
    other = make.method("erm", estimates={}, needs="labels only")
    note = plain(study_note(make.results(unknown, other).summary))
    assert "| **ipg** | pairs | n/a | 1 |" in note
    assert "| **erm** | labels only | n/a | 1 |" in note


def test_answer_models_and_report_stand_in_the_order_of_their_weight(make: SimpleNamespace) -> None:
    summary = make.results(make.method("ipg", 0.5, needs="pairs")).summary
    answer = ["ipg leads by 12 points (95% interval 8 to 16).", "It costs nothing.", "Nothing is missing."]
    note = study_note(summary, answer, {"ipg": "models:/digits@ipg"}, "#/report").split("\n\n")
    assert note[:2] == [
        "*Which method ignores colour?*",
        "**ipg leads by 12 points (95% interval 8 to 16).** It costs nothing. Nothing is missing.",
    ]
    assert note[-2:] == [
        '- **ipg**: `mlflow.pyfunc.load_model("models:/digits@ipg")`',
        "[The whole report](#/report)",
    ]


def test_failure_on_one_line() -> None:
    note = failure_note(Failure(kind="OutOfMemory", message="no\nroom", step=3))
    assert note.startswith("**OutOfMemory at step 3: no room**")
    assert failure_note(Failure(kind="Lost", message="gone")).startswith("**Lost: gone**")


def test_a_winner_that_guesses_is_said(make: SimpleNamespace) -> None:
    note = study_note(make.results(make.method("ipg", 0.5, guessing=True, guessing_finals=1)).summary)
    assert "score 0.3; no better than guessing (3 completed, 1 stopped)" in note
