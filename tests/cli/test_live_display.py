"""Output while a study runs, and the table of results."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from narrowing import known
from small_study import finished_study, study_text

from ipgl.cli import live_display as display
from ipgl.cli.console import make_console
from ipgl.cli.live_display import DecodeLines, LiveDisplay, print_results
from ipgl.evaluation import Failure, RuleAudit, StudySummary
from ipgl.study.results import summarise
from ipgl.trial.records import base_result

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
    assert "hush-hush" not in folder.files.summary.read_text()
    summary = folder.read_summary()
    assert summary is not None
    assert summary.config["tracking"]["uri"] == "http://***@host"


def test_a_line_every_five_seconds_of_each_piece_of_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr("ipgl.cli.live_display.time.monotonic", lambda: clock[0])
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


def test_a_method_that_guesses_is_said_in_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, folder = finished_study(tmp_path / "runs")
    summary = summarise(plan, folder).summary
    finals = len(summary.methods[0].final_runs)
    sound, guesser = (
        summary.methods[0].model_copy(update={"guessing": g, "guessing_finals": finals * g}) for g in (0, 1)
    )
    console = make_console()
    print_results(console, summary.model_copy(update={"methods": (sound,), "remarks": ()}))
    assert "no better than guessing" not in capsys.readouterr().out
    print_results(console, summary.model_copy(update={"methods": (guesser,), "remarks": ()}))
    assert "│ no better than guessing" in capsys.readouterr().out


def test_the_look_back_gives_the_ranking_within_methods(two_methods_ranked: StudySummary) -> None:
    assert display.audit_line(two_methods_ranked) == (
        "Looking back, pair_robust ranked the 9 completed search trials as the test accuracy where the attribute "
        "agrees with the label 10% of the time did, with Spearman 0.983, all methods pooled; within methods 0.200 "
        "(mean of 2, lowest -0.200)"
    )


@pytest.fixture
def two_methods_ranked(tmp_path: Path) -> StudySummary:
    plan, folder = finished_study(tmp_path / "runs")
    audit = RuleAudit(
        rule="pair_robust",
        needs_groups=False,
        oracle=False,
        trials=9,
        spearman=0.983,
        within={"erm": -0.2, "ipg": 0.6, "few": math.nan},
        choices=(),
    )
    return summarise(plan, folder).summary.model_copy(update={"rules": (audit,), "selection": "pair_robust"})


def test_the_best_score_is_a_guess_s_only_where_all_guess(tmp_path: Path) -> None:
    plan, folder = finished_study(tmp_path / "runs")
    config = plan.trial("erm", {}, "search", 0)
    base = base_result(config, time.time()).model_copy(update={"status": "completed"})

    def best(*scored: tuple[float, float]) -> float:
        shown = LiveDisplay(plan, folder, make_console())
        shown._ended = {
            str(n): base.model_copy(
                update={"trial": str(n), "score": score, "validation": {"guessing": guessing}}
            )
            for n, (score, guessing) in enumerate(scored)
        }
        return known(next(method.best for method in shown.progress().methods if method.label == "erm"))

    assert best((0.5, 1.0), (0.2, 0.0), (0.3, 0.0)) == 0.3
    assert best((0.5, 1.0), (0.2, 1.0)) == 0.5
