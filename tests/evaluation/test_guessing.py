"""Remarks on methods whose winner or final runs are no better than guessing."""

from __future__ import annotations

from typing import Any

import pytest

from ipgl.evaluation import MethodSummary, RunResult
from ipgl.evaluation.guessing import guessing_remarks, guessing_words, is_guessing

Metrics = dict[str, Any]


def method(finals: int = 3, guessing: bool = False, guessing_finals: int = 0) -> MethodSummary:
    return MethodSummary(
        label="ipg",
        method="ipg",
        winner="ipg-0",
        hyperparameters={},
        score=0.0,
        estimates={},
        curves={},
        final_runs=tuple(f"ipg-f{n}" for n in range(finals)),
        counts={},
        guessing=guessing,
        guessing_finals=guessing_finals,
    )


def trial(
    number: int, status: str = "completed", label: str = "ipg", phase: str = "search", **validation: float
) -> RunResult:
    fields = {"study": "s", "label": label, "method": label, "phase": phase, "trial": f"{label}-{number}"}
    return RunResult(**fields, seed=0, status=status, validation=validation)


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ({"guessing": 1.0}, True),
        ({"guessing": 0.0}, False),
        ({"guessing": 0.0, "collapsed": 1.0}, False),
        ({"collapsed": 1.0}, True),  # from before kappa was recorded
        ({"collapsed": 0.0}, False),
        ({}, False),
    ],
)
def test_who_guesses(validation: Metrics, expected: bool) -> None:
    assert is_guessing(trial(0, **validation)) == expected


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({}, ""),
        ({"guessing": True, "guessing_finals": 3}, "no better than guessing"),
        ({"guessing_finals": 3}, "no better than guessing"),
        ({"guessing": True, "guessing_finals": 2}, "no better than guessing in 2 of 3 final runs"),
        ({"guessing_finals": 1}, "no better than guessing in 1 of 3 final runs"),
        ({"guessing": True}, "no better than guessing in its search"),
        ({"guessing": True, "finals": 0}, "no better than guessing"),
    ],
)
def test_words(held: Metrics, words: str) -> None:
    assert guessing_words(method(**held)) == words


def test_remarks() -> None:
    guess: Metrics = {"guessing": 1.0}
    skill: Metrics = {"guessing": 0.0}
    runs = [
        trial(0, **guess),
        trial(1, **guess),
        trial(2, "stopped", **skill),
        trial(3, label="erm", **skill),
    ]
    runs.append(trial(4, phase="final", **skill))
    assert guessing_remarks([method()], runs) == []
    assert guessing_remarks([method(guessing=True, guessing_finals=1)], runs) == [
        "The winner of ipg is no better than guessing on the validation split: so is every one of its 2 completed "
        "search trials.",
        "Of the 3 final runs of ipg, 1 is no better than guessing on the validation split.",
    ]
    # Chosen before guessing trials were passed over.
    assert guessing_remarks([method(guessing=True, guessing_finals=2)], [*runs, trial(5, **skill)]) == [
        "The winner of ipg is no better than guessing on the validation split.",
        "Of the 3 final runs of ipg, 2 are no better than guessing on the validation split.",
    ]
