"""Tables for programs hold unrounded numbers that come back as they were."""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from ipgl.evaluation import StudyResults
from ipgl.evaluation.study_summary import Estimate, MethodTest
from ipgl.report import report_tables, write_tables
from ipgl.report.tables import DataTable

if TYPE_CHECKING:
    from tests.report.conftest import Build


def rows(table: DataTable) -> list[dict[str, str | float | None]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


@pytest.fixture
def tested(two_methods: StudyResults) -> StudyResults:
    test = MethodTest(
        a="ipg",
        b="erm",
        difference=Estimate(mean=1 / 3, low=0.3, high=0.4),
        p_value=0.0001,
        corrected=Estimate(mean=1 / 3, low=0.29, high=0.41),
        corrected_p_value=0.0003,
        degrees_of_freedom=4.5,
        p_value_of_trained_models=0.002,
    )
    return two_methods.model_copy(
        update={"summary": two_methods.summary.model_copy(update={"tests": (test,)})}
    )


def test_numbers_are_not_rounded(tested: StudyResults) -> None:
    tables = {name: rows(table) for name, table in report_tables(tested).items()}
    assert tables["curves"][5] == {
        "curve": "mixture",
        "label": "ipg",
        "severity": 0.9,
        "value": 0.664,
        "value_low": 0.641,
        "value_high": 0.687,
    }
    erm, ipg = tables["methods"]
    assert (ipg["worst_group"], ipg["worst_group_low"], ipg["worst_group_high"]) == (0.123, 0.101, 0.145)
    assert ipg["setting/lr"] == 0.001
    assert (ipg["best_baseline"], ipg["against_baseline"], ipg["significant"]) == ("erm", 1 / 3, True)
    assert erm["against_baseline"] is None
    assert tables["tests"][0] == {
        "a": "ipg",
        "b": "erm",
        "difference": 1 / 3,
        "difference_low": 0.3,
        "difference_high": 0.4,
        "p_value": 0.0001,
        "corrected": 1 / 3,
        "corrected_low": 0.29,
        "corrected_high": 0.41,
        "corrected_p_value": 0.0003,
        "degrees_of_freedom": 4.5,
        "p_value_of_trained_models": 0.002,
    }
    assert (ipg["against_baseline_low"], ipg["against_baseline_p_value"]) == (0.29, 0.0003)
    assert [run["status"] for run in tables["runs"]] == ["completed", "completed", "stopped"]
    assert tables["runs"][2]["cause"] == "stopped by the scheduler"
    assert tables["history"][0] == {"trial": "erm-0", "label": "erm", "step": 10, "epoch": 1, "score": 0.1}


def test_settings_of_several_types_become_text_and_nan_nothing(build: type[Build]) -> None:
    summary = build.summary(build.method("a", build.ipg))
    runs = [
        build.run("a", 0, hyperparameters={"x": 1, "y": 1}),
        build.run("a", 1, hyperparameters={"x": "many", "y": 0.5}, score=math.nan),
        build.run("a", 2, hyperparameters={"z": [1, 2], "password": "hunter2"}),
    ]
    found = rows(report_tables(build.results(summary, *runs))["runs"])
    assert [run["setting/x"] for run in found] == ["1", "many", None]
    assert [run["setting/y"] for run in found] == [1.0, 0.5, None]
    assert found[2]["setting/z"] == "[1, 2]"
    assert found[1]["score"] is None
    assert found[2]["setting/password"] == "***"


def test_csv_and_parquet_hold_the_same(tested: StudyResults, tmp_path: Path) -> None:
    tables = report_tables(tested)
    written = write_tables(tested, tmp_path / "csv", "csv")
    assert {path.name for path in written} == {f"{name}.csv" for name, table in tables.items() if table.rows}
    with (tmp_path / "csv" / "curves.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["value"]) for row in read] == [0.90, 0.54, 0.252, 0.70, 0.68, 0.664]
    write_tables(tested, tmp_path / "parquet", "parquet")
    for name, table in tables.items():
        if table.rows:
            assert pq.read_table(tmp_path / "parquet" / f"{name}.parquet").to_pylist() == rows(table)


def test_a_failed_write_leaves_the_old_file(
    tested: StudyResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "methods.parquet").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_tables(tested, tmp_path, "parquet")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("methods.parquet", "old")]
