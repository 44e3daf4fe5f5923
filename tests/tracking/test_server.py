"""The tracker against a real MLflow server: the same promises as with SQLite, and no password anywhere."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ipgl.config import TrackingSettings
from ipgl.tracking import locate, make_tracker
from ipgl.tracking.client import SWITCHES, connect

pytestmark = pytest.mark.slow
PASSWORD = "hunter22"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, database_template: Path) -> Iterator[tuple[str, Path]]:
    """Address (with a user name and password that the server ignores) and folder of a server."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(database_template, folder / "mlflow.db")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environment = {**os.environ, **SWITCHES, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command + stores, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://bob:{PASSWORD}@127.0.0.1:{port}", folder
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(log.read_text())


def test_a_study_on_a_server(server: tuple[str, Path], make: SimpleNamespace, tmp_path: Path) -> None:
    uri, folder = server
    settings = TrackingSettings(uri=uri, experiment="study")
    secret_study = make.study(
        question=f"Is {uri} hidden?",
        environment={"tracking": uri},
        config={"tracking": {"uri": uri}, "dataset": {"mirror": uri}},
    )
    (tmp_path / "study.yaml").write_text(f"tracking: {{uri: '{uri}'}}\n")
    for _ in range(2):
        (tmp_path / "tracking.json").unlink(missing_ok=True)
        tracker = make_tracker(settings, tmp_path, tmp_path / "tracking.json")
        tracker.check()
        tracker.open_study(secret_study)
        tracker.record(make.run(rows=2, parameters={"mirror": uri}))
        result = make.failure(config={"mirror": uri}, environment={"tracking": uri})
        tracker.record(make.run(rows=3, result=result))
        completed = make.result(trial="b", metrics={"worst_group": float("nan"), "average": 0.5})
        tracker.record(make.run(key="b", seed=2, rows=1, result=completed))
        tracker.close_study(make.results(config={"tracking": {"uri": uri}}), [tmp_path / "study.yaml"])

    client = connect(locate(tmp_path, uri))
    experiment = client.get_experiment_by_name("study")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(found) == ["digits", "ipg seed 1", "ipg seed 2"]
    assert [found[name].info.status for name in sorted(found)] == ["FINISHED", "FAILED", "FINISHED"]
    failed, fine = found["ipg seed 1"], found["ipg seed 2"]
    assert [m.step for m in client.get_metric_history(failed.info.run_id, "train/loss")] == [10, 20, 30]
    assert [m.step for m in client.get_metric_history(fine.info.run_id, "shift_accuracy/mixture")] == [
        0,
        50,
        100,
    ]
    assert fine.data.metrics["test/worst_group"] != fine.data.metrics["test/worst_group"], (
        "NaN survives the wire"
    )
    assert len(client.get_metric_history(fine.info.run_id, "test/worst_group")) == 1
    files = [entry.path for entry in client.list_artifacts(found["digits"].info.run_id)]
    assert files == ["study.yaml", "summary.json"]

    base = uri.replace(f"bob:{PASSWORD}@", "")
    assert all(link.startswith(f"{base}/#/experiments/") for link in tracker.links.values())
    assert_nowhere(PASSWORD, [folder, tmp_path], besides={tmp_path / "study.yaml"})


def assert_nowhere(secret: str, folders: list[Path], besides: set[Path]) -> None:
    """The secret is in no file: database, artifacts, file of recorded runs, server's log."""
    files = [
        path for folder in folders for path in folder.rglob("*") if path.is_file() and path not in besides
    ]
    assert len(files) > 5
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_assert_nowhere_can_fail(tmp_path: Path) -> None:
    for i in range(6):
        (tmp_path / str(i)).write_text(PASSWORD if i == 3 else "")
    with pytest.raises(AssertionError, match="3"):
        assert_nowhere(PASSWORD, [tmp_path], besides=set())
