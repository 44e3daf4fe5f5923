"""Display of output that arrives in pieces, with progress records, on a terminal or not."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console
from small_study import finished_study

from ipgl.cli.console import make_console
from ipgl.cli.live_display import LiveDisplay
from ipgl.cli.log_follow import LogFollower, without_records
from ipgl.cli.progress import MARK, OVER, MethodProgress, Progress
from ipgl.core.durations import precise_duration as duration
from ipgl.study.results import read_runs

METHOD = MethodProgress(
    label="ipg", searched=3, to_search=12, running=2, stopped=1, failed=0, best=0.7314, tested=0, to_test=3
)
PROGRESS = Progress(study="small", seconds=65.0, seconds_left=130.0, ended=3, total=15, methods=(METHOD,))
ENDED = "   1  search  [/erm]  :rocket: score 0.6"
OUTPUT = f"job began\n{PROGRESS.line()}\n{ENDED}\n{PROGRESS.line()}\nno newline at its end"
TEXT = f"job began\n{ENDED}\nno newline at its end"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_without_a_terminal_the_lines_for_people_come_as_they_are(
    capsys: pytest.CaptureFixture[str], size: int
) -> None:
    with LogFollower(make_console()) as output:
        for start in range(0, len(OUTPUT), size):
            output.write(OUTPUT[start : start + size])
    assert capsys.readouterr().out == TEXT
    assert without_records(OUTPUT) == TEXT


def test_a_line_is_shown_once_it_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with LogFollower(make_console()) as output:
        output.write("first\nsec")
        assert capsys.readouterr().out == "first\n"
        output.write(f"ond\n{MARK}cut of")
    assert capsys.readouterr().out == "second\n"


def test_on_a_terminal_the_table_stands_below_the_lines() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, markup=False, emoji=False)
    with LogFollower(console) as output:
        output.write(OUTPUT.replace("\n" + MARK, "\n" + MARK + "of another version\n" + MARK, 1))
        time.sleep(0.6)
    shown = screen.getvalue()
    assert ENDED in shown
    assert "small  1 min 05 s so far, about 2 min 10 s left" in shown.replace("\x1b[1m", "").replace(
        "\x1b[0m", ""
    )
    assert "3/12" in shown
    assert "0.731" in shown
    assert MARK not in shown
    assert "no newline at its end" in shown


def test_the_table_goes_when_the_study_is_over() -> None:
    screen = io.StringIO()
    with LogFollower(Console(file=screen, force_terminal=True, width=100)) as output:
        output.write(f"{PROGRESS.line()}\n{OVER}\nresults\n")
        before = screen.getvalue()
        time.sleep(0.6)
    assert "3/12" in before
    assert before.endswith("results\n")
    assert screen.getvalue() == before


def test_records_say_what_the_table_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr("ipgl.cli.live_display.time.monotonic", lambda: clock[0])
    plan, folder = finished_study(tmp_path / "runs")
    runs = [run for _, run in read_runs(folder)]
    for path in folder.path.glob("trials/*/result.json"):
        path.unlink()
    first = plan.trial("erm", {}, "search", 0)
    with LiveDisplay(plan, folder, make_console(), records=True) as shown:
        clock[0] += 2
        shown.began(first)
        shown.reported(first, 0.5)  # within a second of the record before
        clock[0] += 8
        shown.ended(next(run for run in runs if run.trial == first.key))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == OVER
    found = [record for line in lines if (record := Progress.read(line))]
    assert [(r.seconds, r.seconds_left, r.ended, r.total) for r in found] == [
        (0, None, 0, 6),
        (2, None, 0, 6),
        (10, 50, 1, 6),
    ]
    assert [(m.label, m.searched, m.to_search, m.running, m.tested, m.to_test) for m in found[1].methods] == [
        ("erm", 0, 1, 1, 0, 2),
        ("ipg", 0, 1, 0, 0, 2),
    ]
    last = found[2].methods[0]
    assert (last.searched, last.running) == (1, 0)
    assert last.best == pytest.approx(next(r for r in runs).score)
    with LiveDisplay(plan, folder, make_console()) as shown:
        shown.began(first)
    assert MARK not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(9.6, "10 s"), (65, "1 min 05 s"), (3599.7, "1 h 00 min"), (7384, "2 h 03 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
