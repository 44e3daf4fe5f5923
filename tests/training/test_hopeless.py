"""When a run is given up: what a verdict says, and how many in a row it takes."""

from __future__ import annotations

import pytest

from ipgl.training.hopeless import hopeless, verdict


def validation(accuracy, collapsed=0.0):
    return {"accuracy": accuracy, "collapsed": collapsed}


def test_a_collapse_is_named_whatever_the_accuracy():
    found = verdict(validation(0.9, collapsed=1.0), examples=100, num_classes=2)
    assert found == "collapsed: one class is predicted for every validation example"


@pytest.mark.parametrize(
    ("accuracy", "examples", "classes", "overshot"),
    [
        # Two classes, 100 examples: a standard error is 0.05, so that 0.35 is where three of them end.
        (0.90, 100, 2, False),
        (0.50, 100, 2, False),
        (0.351, 100, 2, False),
        (0.349, 100, 2, True),
        (0.10, 100, 2, True),
        # Four classes, 300 examples: 0.25 - 3 * sqrt(0.1875 / 300) = 0.175.
        (0.176, 300, 4, False),
        (0.174, 300, 4, True),
        # More examples leave less to chance: 0.5 - 3 * 0.005 = 0.485.
        (0.484, 10_000, 2, True),
        (0.486, 10_000, 2, False),
    ],
)
def test_far_below_guessing_is_overshot(accuracy, examples, classes, overshot):
    found = verdict(validation(accuracy), examples, classes)
    assert (found is not None) == overshot
    if overshot:
        assert found == f"overshot: validation accuracy {accuracy:.3f} is below guessing ({1 / classes:.3f})"


@pytest.mark.parametrize(
    ("verdicts", "patience", "stops"),
    [
        ([], 1, False),
        (["bad"], 1, True),
        (["bad", None], 1, False),
        (["bad", "bad"], 3, False),
        (["bad", "bad", "bad"], 3, True),
        ([None, "bad", "bad", "bad"], 3, True),
        (["bad", "bad", None, "bad"], 3, False),
        (["bad"] * 10, None, False),
    ],
)
def test_patience(verdicts, patience, stops):
    assert (hopeless(verdicts, patience) is not None) == stops


def test_the_reason_is_the_last_verdict():
    assert hopeless(["first", "second"], 2) == "second, after 2 evaluations in a row"
