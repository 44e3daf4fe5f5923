"""The timeline: positions of the bars, no overlap within a lane, pauses cut out and named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipgl.evaluation import RunResult, StudyResults
from ipgl.evaluation.run_result import Failure
from ipgl.report.timeline import timeline, timeline_figure, timeline_table

if TYPE_CHECKING:
    from tests.report.conftest import Build


def at(build: type[Build], number: int, start: int, end: int, **changes: object) -> RunResult:
    return build.run("a", number, started_at=1000.0 + start, finished_at=1000.0 + end, **changes)


def study(build: type[Build], *runs: RunResult) -> StudyResults:
    return build.results(build.summary(build.method("a", build.ipg)), *runs)


def test_runs_at_the_same_time_get_lanes(build: type[Build]) -> None:
    placed, pauses = timeline(study(build, at(build, 2, 4, 9), at(build, 0, 0, 5), at(build, 1, 5, 8)))
    assert [(p.run.number, p.start, p.end, p.lane) for p in placed] == [
        (0, 0, 5, 0),
        (2, 4, 9, 1),
        (1, 5, 8, 0),
    ]
    assert pauses == []


def test_a_night_between_two_sessions_is_cut_out(build: type[Build]) -> None:
    placed, pauses = timeline(study(build, at(build, 0, 0, 60), at(build, 1, 40_000, 40_060)))
    assert [(p.start, p.end) for p in placed] == [(0, 60), (60, 120)]
    assert pauses == [(60, 39_940)]
    figure = timeline_figure(study(build, at(build, 0, 0, 60), at(build, 1, 40_000, 40_060)))
    assert [note.text for note in figure.layout.annotations] == ["pause of 11 h 6 min"]
    assert "Dotted: 1 pause, cut out." in figure.layout.title.subtitle.text


def test_marks_tell_how_a_run_ended_and_why(build: type[Build]) -> None:
    failure = Failure(kind="OutOfMemory", message="<b>8 GiB")
    runs = [
        at(build, 0, 0, 30),
        at(build, 1, 30, 40, status="stopped", stop_reason="collapsed"),
        at(build, 2, 40, 50, status="failed", failure=failure),
        at(build, 3, 50, 90, phase="final"),
    ]
    figure = timeline_figure(study(build, *runs))
    (bars,) = figure.data
    assert list(bars.base) == [0, 30, 40, 50]
    assert list(bars.x) == [30, 10, 10, 40]
    assert list(bars.marker.pattern.shape) == ["", "/", "x", ""]
    assert list(bars.marker.line.width) == [0, 0, 0, 2]
    assert bars.text[1].endswith("<br>collapsed")
    assert bars.text[2].endswith("<br>OutOfMemory: &lt;b&gt;8 GiB")
    assert figure.layout.xaxis.title.text == "Time since the first start (seconds)"
    rows = timeline_table(study(build, *runs)).rows
    assert rows[1][3:] == ("stopped", "30 s", "10 s", "0.600", "collapsed")


def test_runs_without_times_are_counted(build: type[Build]) -> None:
    figure = timeline_figure(study(build, build.run("a", 0), at(build, 1, 0, 600)))
    assert "Not drawn: 1 run without times." in figure.layout.title.subtitle.text
    assert list(figure.data[0].x) == [10]  # minutes
    assert timeline_figure(study(build)).layout.annotations[0].text == "No run has times."
