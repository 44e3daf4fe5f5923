"""What is printed while a study runs, and of its results."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small_study import finished_study, study_text

from ipgl.evaluation import Failure
from ipgl.study import display
from ipgl.study.collect import summarise
from ipgl.study.console import make_console
from ipgl.study.display import DecodeLines, LiveDisplay, print_results
from ipgl.study.trial import base_result

# As gloo says it; rich would take the place in brackets for the end of a style that never began.
MESSAGE = "[/pytorch/gloo/transport/tcp/pair.cc:545] Connection closed by peer"


def test_what_failures_and_remarks_say_is_printed_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, folder = finished_study(tmp_path / "runs")
    config = plan.trial("erm", {}, "search", 0)
    failed = base_result(config, time.time()).model_copy(
        update={"failure": Failure(kind="RuntimeError", message=MESSAGE)}
    )
    console = make_console()
    with LiveDisplay(plan, folder, console) as shown:
        shown.began(config)
        shown.ended(failed)
    summary = summarise(plan, folder).summary
    print_results(console, summary.model_copy(update={"remarks": (MESSAGE, "[red]not red[/]")}))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert any(line.endswith(f"failed: {MESSAGE}") for line in lines)
    assert f"note: {MESSAGE}" in lines
    assert "note: [red]not red[/]" in lines


def test_a_summary_holds_no_password(tmp_path: Path) -> None:
    text = study_text(tmp_path / "runs")
    uri = "tracking: {name: none, uri: 'http://me:hush-hush@host'}"
    plan, folder = finished_study(tmp_path / "runs", text.replace("tracking: {name: none}", uri))
    assert plan.config.tracking.uri == "http://me:hush-hush@host"
    assert "hush-hush" not in folder.summary.read_text()
    summary = folder.read_summary()
    assert summary is not None
    assert summary.config["tracking"]["uri"] == "http://***@host"


def test_a_line_every_five_seconds_of_each_piece_of_work(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    lines = DecodeLines(make_console())
    for total, seconds_each in ((4, 1.0), (12_000, 0.001), (5, 3.0)):
        clock[0] += 60  # whatever lies between two pieces of work
        for done in range(1, total + 1):
            lines(done, total)
            clock[0] += seconds_each
    assert capsys.readouterr().out.splitlines() == [
        "decoding images into the cache: 5,001 of 12,000",
        "decoding images into the cache: 10,001 of 12,000",
        "decoding images into the cache: 3 of 5",
    ]
