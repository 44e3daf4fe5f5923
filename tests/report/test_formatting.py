"""Formatting of numbers for readers."""

from __future__ import annotations

import math

import pytest

from ipgl.core.durations import duration
from ipgl.report import formatting as wording


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.648, "64.8%"), (0.0, "0.0%"), (-0.012, "−1.2%"), (-0.0001, "0.0%"), (math.nan, "n/a")],
)
def test_percent(fraction: float, text: str) -> None:
    assert wording.percent(fraction) == text


@pytest.mark.parametrize(
    ("severity", "phrase"),
    [
        (0.9, "where the attribute agrees with the label 10% of the time"),
        (1 / 3, "where the attribute agrees with the label 66.7% of the time"),
        (0.0, "where the attribute always agrees with the label"),
        (1.0, "where the attribute never agrees with the label"),
    ],
)
def test_mix_phrase(severity: float, phrase: str) -> None:
    assert wording.mix_phrase(severity) == phrase


@pytest.mark.parametrize(
    ("severity", "phrase", "heading"),
    [
        (0.0, "where each class has its training mix of groups", "Training mix"),
        (
            0.9,
            "where the test mix is 90% of the way from the training mix to equal groups within each class",
            "90% of the way to equal groups",
        ),
        (1.0, "where the groups of each class are equally frequent", "Equal groups"),
    ],
)
def test_without_an_alignment_nothing_agrees(severity: float, phrase: str, heading: str) -> None:
    assert wording.mix_phrase(severity, "general_mixture") == phrase
    assert wording.mix_heading(severity, "general_mixture") == heading


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00031623, "0.0003162"),
        (1e-05, "1e-05"),
        (64, "64"),
        ("gate", "gate"),
        (None, "null"),
        (True, "true"),
    ],
)
def test_setting(value: float | str | None, text: str) -> None:
    assert wording.setting(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42, "42 s"), (90, "2 min"), (3725, "1 h 2 min"), (7200, "2 h"), (3599, "1 h"), (math.nan, "n/a")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_listed() -> None:
    assert [wording.listed(items) for items in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]


def test_what_is_cut_is_said() -> None:
    assert wording.shortened("abcdef", 4) == "abcd … (2 more characters)"
    assert wording.shortened("abcd", 4) == "abcd"


def test_differences_and_p_values() -> None:
    assert [wording.signed_points(value) for value in (0.412, -0.01, 0.0001)] == [
        "+41.2 points",
        "−1.0 point",
        "0.0 points",
    ]
    assert [wording.p_value(value) for value in (0.0001, 0.034, math.nan)] == [
        "p < 0.001",
        "p = 0.034",
        "no p-value",
    ]
    assert [wording.counted(count, "run") for count in (1, 2)] == ["1 run", "2 runs"]
