"""Four processes write to one SQLite database at once; the first creates it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

DRIVER = """
import sys, time
from pathlib import Path
from ipgl.config import TrackingSettings
from ipgl.evaluation.run_result import RunResult
from ipgl.tracking import RunView, StudyView, make_tracker

storage, name = Path(sys.argv[1]), sys.argv[2]
tracker = make_tracker(TrackingSettings(), storage, storage / name / "tracking.json")
tracker.open_study(StudyView(name, f"{name}-1", config={"methods": {"erm": {}}}, started_at=1.7e9))
for number in range(4):
    key = f"erm-{number}"
    fields = dict(key=key, label="erm", method="erm", phase="final", number=number, seed=number)
    rows = []
    for step in range(1, 6):
        rows.append({"step": step, "epoch": step, "time": 1.7e9 + step, "score": step / 10})
        tracker.record(RunView(**fields, rows=rows))
    result = RunResult(
        study=name, label="erm", method="erm", phase="final", trial=key, seed=number, status="completed",
        metrics={"worst_group": 0.5}, finished_at=1.7e9 + 9,
    )
    tracker.record(RunView(**fields, rows=rows, result=result))
"""


def test_four_drivers_share_a_database_that_is_not_there_yet(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(tmp_path), name], stderr=subprocess.PIPE, text=True
        )
        for name in names
    ]
    errors = [driver.communicate(timeout=120)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0, 0, 0], "\n".join(errors)

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.search_runs(["1"])
    expected = sorted((name, f"erm-{number}") for name in names for number in range(4))
    trials = [run for run in found if run.data.tags["ipgl.kind"] == "final"]
    assert sorted((r.data.tags["ipgl.study"], r.data.tags["ipgl.trial"]) for r in trials) == expected
    assert len(found) == len(trials) + 4
    for run in trials:
        assert run.info.status == "FINISHED"
        points = client.get_metric_history(run.info.run_id, "score")
        assert sorted((p.step, p.value) for p in points) == [(i, i / 10) for i in range(1, 6)]
