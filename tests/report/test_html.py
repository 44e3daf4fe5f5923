"""The HTML report: complete, self-contained, and safe against scripts in its inputs."""

from __future__ import annotations

import base64
import gzip
import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from plotly.offline import get_plotlyjs

from ipgl.evaluation import StudyResults
from ipgl.evaluation.run_result import GroupCount
from ipgl.evaluation.study_summary import Estimate, GroupEstimate, MethodTest
from ipgl.report import Gallery, Mistake, PicturePair, html, render_report, write_report
from ipgl.report.plotly_library import compressed_plotly

if TYPE_CHECKING:
    from tests.report.conftest import Build


XSS = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tables (rows of cell texts), figure data, resource addresses and all visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.json: dict[str, Any] = {}
        self.resources: list[str] = []
        self.scripts = 0
        self.tags: list[str] = []
        self.styles = self.text = ""
        self._open: list[tuple[str, str]] = []
        self._cell: list[str] | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.resources += [v for k, v in attrs if k in {"src", "srcset", "data", "poster"} and v is not None]
        if tag == "link":
            self.resources.append(given.get("href") or "")
        self.resources += [v or "" for k, v in attrs if k.startswith("on")]
        if tag == "script":
            self.scripts += given.get("type") is None
        if tag in {"script", "style"}:
            is_json = given.get("type") == "application/json"
            self._open.append((tag, (given.get("id") or "") if is_json else ""))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._open.pop()
        if tag in {"td", "th"}:
            self.tables[-1][-1].append(" ".join("".join(self._cell or ()).split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._open:
            tag, name = self._open[-1]
            if name:
                self.json[name] = json.loads(data)
            if tag == "style":
                self.styles += data
            return
        self.text += data
        if self._cell is not None:
            self._cell.append(data)


@pytest.fixture(autouse=True)
def small_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two megabytes of library slow a parser down; one test puts them back."""
    monkeypatch.setattr(html, "compressed_plotly", lambda: "cGxvdGx5")


def page(results: StudyResults) -> Page:
    return Page(render_report(results))


def test_method_table(two_methods: StudyResults) -> None:
    header, erm, ipg = page(two_methods).tables[0]
    assert header[:5] == [
        "Method",
        "Agreement 100%severity 0%",
        "Agreement 10%severity 90%",
        "Worst grouplowest accuracy",
        "Averagetest split as it is",
    ]
    assert erm[:3] == ["erm", "Agreement 100% 90.0% 88.0 to 92.0", "Agreement 10% 25.2% 23.0 to 27.4"]
    assert ipg[1:5] == [
        "Agreement 100% 70.0% 68.0 to 72.0",
        "Agreement 10% 66.4% 64.1 to 68.7",
        "Worst group 12.3% 10.1 to 14.5",
        "Average 57.1% 56.1 to 58.1",
    ]
    assert header[5] == "Against the best baselineerm"
    assert erm[5] == "Against erm best baseline"
    assert ipg[5] == "Against erm n/a"  # the study holds no test of the two
    assert ipg[6] == "Winning settings 1 setting lr 0.001 2 final seeds; score 0.600"
    assert ipg[7] == "Search trials 1 completed 0 stopped 0 failed"


def test_the_highest_mean_is_marked(two_methods: StudyResults) -> None:
    text = render_report(two_methods)
    assert "<strong>90.0%</strong>" in text
    assert "<strong>66.4%</strong>" in text
    assert "<strong>25.2%</strong>" not in text


def test_each_figure_has_its_table(two_methods: StudyResults) -> None:
    tables = {tuple(table[0]): table for table in page(two_methods).tables[1:]}
    curves = tables["Bias-conflicting", "Agreement", "erm", "ipg"]
    trials = next(
        table for head, table in tables.items() if head[:2] == ("Trial", "Method") and "Flip rate" in head
    )
    learning = tables["Trial", "Method", "Outcome", "Epoch: selection score"]
    assert curves[0] == ["Bias-conflicting", "Agreement", "erm", "ipg"]
    assert curves[3] == ["90%", "10%", "25.2% (23.0 to 27.4)", "66.4% (64.1 to 68.7)"]
    assert trials[1] == ["0", "erm", "completed, winner", "0.200", "n/a", "85.0%", "75.0%", "lr 0.001"]
    assert trials[3] == ["1", "ipg", "stopped", "0.300", "n/a", "60.0%", "50.0%", "lr 0.001"]
    assert learning[2] == ["0", "ipg", "completed, winner", "1: 0.300, 2: 0.500, 3: 0.600"]


def test_figures_are_in_the_page_and_take_the_readers_theme(two_methods: StudyResults) -> None:
    data = page(two_methods).json
    assert set(data) == {
        "robustness-figure",
        "invariance-figure",
        "trials-figure",
        "learning-figure",
        "timeline-figure",
        "parallel-0-figure",
        "parallel-1-figure",
        "slice-0-0-figure",
        "slice-1-0-figure",
        "templates",
    }
    assert [70, 68, 66.4] in [trace["y"] for trace in data["robustness-figure"]["data"]]
    assert "template" not in data["robustness-figure"]["layout"]
    assert data["templates"]["light"]["layout"]["font"] != data["templates"]["dark"]["layout"]["font"]
    assert "prefers-color-scheme: dark" in page(two_methods).styles


def test_sections_and_provenance(two_methods: StudyResults) -> None:
    text = page(two_methods).text
    for said in (
        "colours",
        "Does it follow the colour?",
        "ipg has the highest accuracy",
        "No failures: every run completed",
    ):
        assert said in text
    for said in ("ipgl study run colours.yaml", "c0ffee", "f00d", "3.11.9", "2 min", "95% intervals"):
        assert said in text


def test_configuration_can_be_read_back(two_methods: StudyResults) -> None:
    text = page(two_methods).text
    start = text.index("name: colours")
    shown = text[start : text.index("Winning settings to the last digit")]
    assert yaml.safe_load(shown) == two_methods.summary.config


def test_failures_with_their_causes(build: type[Build]) -> None:
    summary = build.summary(build.method("ipg", build.ipg), build.method("jtt"))
    runs = [build.failed_run("jtt", i) for i in range(4)]
    other = build.run("jtt", 4, status="failed", failure=None, phase="final")
    shown = page(build.results(summary, build.run("ipg"), *runs, other))
    head, alike, unknown = shown.tables[-1]
    assert head == ["Method", "Phase", "Runs", "Cause"]
    assert alike[:3] == ["jtt", "search", "4 runs"]
    assert alike[3].startswith(
        "NonFiniteLoss the loss is nan Which runs, traceback jtt-0 at step 7jtt-1 at step 7"
    )
    assert alike[3].endswith("Traceback: train()")
    assert unknown == ["jtt", "final", "1 run", "Unknown no cause was recorded Which run jtt-4"]
    assert "5 runs did not finish" in shown.text


def test_a_method_without_winner(build: type[Build]) -> None:
    summary = build.summary(build.method("ipg", build.ipg), build.method("jtt"))
    row = page(build.results(summary, build.run("ipg"))).tables[0][2]
    assert row == [
        "jtt",
        "Agreement 100% n/a",
        "Agreement 10% n/a",
        "Worst group n/a",
        "Average n/a",
        "Winning settings no winner 0 final seeds",
        "Search trials 0 completed 0 stopped 4 failed",
    ]


def test_nothing_but_failures(build: type[Build]) -> None:
    summary = build.summary(build.method("a"), chance=math.nan, question="", environment={}, seconds=math.nan)
    shown = page(build.results(summary, build.failed_run("a")))
    assert shown.tables[0][1][1:3] == ["Worst group n/a", "Average n/a"]
    assert "There are no test results for a" in shown.text
    assert (
        shown.json["robustness-figure"]["layout"]["annotations"][0]["text"] == "No method has test results."
    )


def test_one_method_one_severity(build: type[Build]) -> None:
    summary = build.summary(build.method("ipg", {0.9: (0.66, 0.64, 0.68)}, final_runs=("f",)))
    text = render_report(build.results(summary, build.run("ipg")))
    shown = Page(text)
    assert len(shown.tables[0][0]) == 6
    assert (
        shown.tables[0][1][1] == "Agreement 10% 66.0% 64.0 to 68.0"
        or "66.0% 64.0 to 68.0" in shown.tables[0][1][1]
    )
    assert "With one final seed" in shown.text
    assert "Bold" not in shown.text
    assert "<strong>" not in text


def test_what_has_no_examples_is_never_0(build: type[Build]) -> None:
    nan = (math.nan, math.nan, math.nan)
    method = build.method(
        "ipg",
        {0.0: (0.9, 0.8, 0.95), 1.0: nan},
        estimates={
            "worst_group": Estimate(mean=math.nan, low=math.nan, high=math.nan),
            "worst_nonempty_group": Estimate(mean=0.4, low=0.3, high=0.5),
            "average": Estimate(mean=0.9, low=math.nan, high=math.nan),
        },
    )
    groups = (
        GroupCount(label=0, attribute=0, aligned=True, count=10, correct=9),
        GroupCount(label=0, attribute=1, aligned=False, count=0, correct=0),
    )
    shown = page(build.results(build.summary(method), build.run("ipg", phase="final", groups=groups)))
    row = shown.tables[0][1]
    assert row[2] == "Agreement 0% no examples"
    assert row[3] == "Worst group no examples in one group; lowest of the others 40.0%"
    assert row[4].endswith("90.0% no interval")
    assert shown.tables[1][2] == ["100%", "0%", "no examples"]
    assert "no examples of label 0 with attribute 1" in shown.text
    assert [90, None] in [trace["y"] for trace in shown.json["robustness-figure"]["data"]]


def test_test_metrics_may_carry_their_split(build: type[Build]) -> None:
    method = build.method(
        "ipg", build.ipg, estimates={"test/worst_group": Estimate(mean=0.33, low=0.3, high=0.4)}
    )
    assert "33.0% 30.0 to 40.0" in page(build.results(build.summary(method))).tables[0][1][3]


def test_everything_from_the_results_is_escaped(build: type[Build]) -> None:
    method = build.method("ipg", build.ipg, hyperparameters={XSS: XSS}, method=XSS)
    summary = build.summary(
        method,
        build.method("bad"),
        question=XSS,
        environment={XSS: XSS},
        config={"name": XSS},
        data_fingerprint=XSS,
    )
    run = build.run("ipg", hyperparameters={XSS: XSS})
    failed = build.failed_run("bad", 1, message=XSS, trial=XSS)
    text = render_report(build.results(summary, run, failed, scores={"ipg-0": [0.5]}))
    shown = Page(text)
    assert shown.scripts == 1  # the page's own
    assert "img" not in shown.tags
    assert shown.resources == []
    assert XSS in shown.text
    assert "<img src=x" not in text


def test_no_credentials(build: type[Build]) -> None:
    summary = build.summary(
        build.method("ipg", build.ipg),
        build.method("bad"),
        config={"name": "x", "tracking": {"uri": "https://ann:hunter2@host/"}},
        environment={"HF_TOKEN": "hunter2"},
    )
    failed = build.failed_run("bad", 1, message="no answer from https://ann:hunter2@host/")
    text = render_report(build.results(summary, failed))
    assert "hunter2" not in text
    assert "https://***@host/" in text


def test_long_texts_are_cut_and_said(build: type[Build]) -> None:
    summary = build.summary(build.method("ipg", build.ipg))
    runs = [build.failed_run("ipg", i, message=f"{i:03d}" + "x" * 5000) for i in range(130)]
    text = render_report(build.results(summary, *runs))
    assert "30 more rows are left out" in text
    assert "(4403 more characters)" in text


def test_one_file_that_loads_nothing_and_stays_small(
    build: type[Build], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "compressed_plotly", compressed_plotly)
    labels = [f"method_{i}" for i in range(18)]
    summary = build.summary(*(build.method(label, build.ipg) for label in labels))
    runs = [
        build.run(label, n, hyperparameters={"lr": 1 / (n + 3), "w": n, "kind": "ab"[n % 2]})
        for label in labels
        for n in range(5)
    ]
    text = render_report(build.results(summary, *runs, scores={run.trial: [0.1] * 20 for run in runs}))
    assert len(text.encode()) < 3_500_000
    assert text.count(compressed_plotly()) == 1
    own = text.replace(compressed_plotly(), "")
    assert not re.findall(r"https?://", own)
    assert "@import" not in own
    assert "url(" not in own
    assert Page(own).resources == []
    # And the browser is told so, which binds the library as well; nothing may compile code from text.
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    assert policy in own
    assert "unsafe-eval" not in own


def test_the_packed_library_is_plotly() -> None:
    assert gzip.decompress(base64.b64decode(compressed_plotly())).decode() == get_plotlyjs()


def test_a_browser_that_cannot_unpack_is_told(two_methods: StudyResults) -> None:
    text = render_report(two_methods)
    assert 'typeof DecompressionStream === "undefined"' in text
    assert 'id="undrawn"' in text


def test_remarks_stand_before_the_findings(build: type[Build]) -> None:
    summary = build.summary(
        build.method("ipg", build.ipg), remarks=("One file is damaged: https://ann:hunter2@host/.",)
    )
    text = render_report(build.results(summary))
    assert text.index("One file is damaged: https://***@host/.") < text.index('id="findings"')
    assert "Read this first" not in render_report(
        build.results(build.summary(build.method("ipg", build.ipg)))
    )


def test_significance_is_told_with_its_numbers(build: type[Build], two_methods: StudyResults) -> None:
    gap = Estimate(mean=0.412, low=0.37, high=0.45)
    test = MethodTest(
        a="ipg", b="erm", difference=gap, p_value=0.0001, corrected=gap, corrected_p_value=0.0001
    )
    summary = two_methods.summary.model_copy(update={"tests": (test,)})
    row = page(two_methods.model_copy(update={"summary": summary})).tables[0][2]
    assert row[5] == "Against erm +41.2 points 37.0 to 45.0 p < 0.001 significant"


def test_groups_with_their_counts(build: type[Build]) -> None:
    def group(label: int, attribute: int, accuracy: float) -> GroupEstimate:
        return GroupEstimate(
            label=label,
            attribute=attribute,
            aligned=label == attribute,
            count=40,
            training_count=900,
            accuracy=Estimate(mean=accuracy, low=accuracy - 0.1, high=accuracy + 0.1),
        )

    method = build.method("ipg", build.ipg, groups=(group(0, 0, 0.9), group(0, 1, 0.3)))
    summary = build.summary(method, class_names=("cow",), attribute_names=("grass", "sand"))
    text = render_report(build.results(summary))
    (table,) = [table for table in Page(text).tables if table[0][0] == "Group"]
    assert table[1:] == [
        ["cow, grass", "aligned", "900", "40", "90.0% (80.0 to 100.0)"],
        ["cow, sand", "conflicting", "900", "40", "30.0% (20.0 to 40.0)"],
    ]
    assert "<strong>30.0% (20.0 to 40.0)</strong>" in text


def test_every_curve_has_a_figure_and_what_is_missing_is_said(build: type[Build]) -> None:
    kl = build.points({0.0: (0.8, 0.7, 0.9), 0.5: (0.5, 0.4, 0.6)})
    mixture = build.points(build.ipg)
    summary = build.summary(
        build.method("ipg", build.ipg, curves={"mixture": mixture, "worst_case_kl": kl}),
        build.method("erm", build.erm),
    )
    shown = page(build.results(summary))
    assert [80, 50] in [trace["y"] for trace in shown.json["robustness-1-figure"]["data"]]
    assert [0, 0.5] in [trace["x"] for trace in shown.json["robustness-1-figure"]["data"]]
    assert "Not drawn, because no final run has this curve: erm." in shown.text
    (table,) = [table for table in shown.tables if table[0][0] == "Radius of the ball of group mixes in nats"]
    assert table[2] == ["0.5", "50.0% (40.0 to 60.0)", "n/a"]


def test_pictures_have_texts_and_come_from_the_file_itself(build: type[Build]) -> None:
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    gallery = Gallery(
        (PicturePair(picture, picture, XSS),),
        {"ipg": (Mistake(picture, "7, taken for 1"),)},
        "Some are missing.",
    )
    text = render_report(build.results(build.summary(build.method("ipg", build.ipg))), gallery)
    shown = Page(text)
    assert shown.tags.count("img") == 3
    assert all(source.startswith("data:image/png;base64,") for source in shown.resources)
    assert 'alt="7, taken for 1" class="crisp"' in text
    assert "Mistakes of ipg in its worst group" in shown.text
    assert "Some are missing." in shown.text
    assert shown.scripts == 1


def test_compared_studies_show_each_configuration(build: type[Build]) -> None:
    configs = {
        "a": {
            "name": "a",
            "dataset": {"name": "colored_mnist", "train_agreements": [0.8]},
            "model": {"name": "mlp"},
        },
        "b": {"name": "b", "dataset": {"name": "birds"}, "model": {"name": "mlp"}},
    }
    for config in configs.values():
        config["evaluation"] = {"target_severity": 0.9}
    summary = build.summary(
        build.method("a/ipg", build.ipg, method="ipg"),
        build.method("b/erm", build.erm, method="erm"),
        study="a + b",
        config={"studies": configs},
    )
    text = render_report(build.results(summary, build.run("a/ipg"), build.run("b/erm")))
    shown = Page(text)
    for said in (
        "Full configuration of a",
        "Full configuration of b",
        "ipgl compare a b",
        "colored_mnist, birds",
    ):
        assert said in shown.text
    assert "Against b/erm" in shown.tables[0][1][5]
    assert shown.json["robustness-figure"]["data"][2]["legendgroup"] == "a/ipg"


def test_given_commands_are_shown(two_methods: StudyResults) -> None:
    text = Page(render_report(two_methods, how_to=["ipgl study run here.yaml"])).text
    assert "ipgl study run here.yaml" in text
    assert "ipgl study run colours.yaml" not in text


def test_writing_replaces_the_file_whole(two_methods: StudyResults, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_report(two_methods, path) == path
    assert path.read_text(encoding="utf-8") == render_report(two_methods)
    path.write_text("old", encoding="utf-8")
    write_report(two_methods, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_failed_write_leaves_the_old_file(
    two_methods: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(two_methods, path)
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_method_that_guesses_is_said_in_its_row(build: type[Build]) -> None:
    guesser = build.method("a", build.ipg, guessing_finals=1)
    rows = page(build.results(build.summary(guesser, build.method("b", build.erm)))).tables[0]
    assert "no better than guessing in 1 of 2 final runs" in rows[1][0]
    assert "guessing" not in rows[2][0]
