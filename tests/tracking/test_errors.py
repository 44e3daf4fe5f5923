"""Servers and databases that cannot be used: quick errors with a next step and without credentials."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from ipgl.config import TrackingSettings
from ipgl.core.errors import TrackingError
from ipgl.tracking import make_tracker


def checked(uri: str | None, tmp_path: Path) -> str:
    tracker = make_tracker(TrackingSettings(uri=uri), tmp_path, tmp_path / "tracking.json")
    began = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        tracker.check()
    assert time.monotonic() - began < 15
    message = str(caught.value)
    assert "\n" not in message
    assert "hunter22" not in message
    assert "hunter22" not in "".join(traceback.format_exception(caught.value)), (
        "the cause has the credentials"
    )
    return message


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nobody_listens(tmp_path: Path) -> None:
    port = free_port()
    message = checked(f"http://bob:hunter22@127.0.0.1:{port}", tmp_path)
    assert message.startswith(f"MLflow at http://***@127.0.0.1:{port}: cannot use it: ")
    assert "refused" in message
    assert "`ipgl ui`" in message
    assert "`tracking: {name: none}`" in message


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as server:  # connects, since the kernel queues what nobody accepts
        message = checked(f"http://127.0.0.1:{server.getsockname()[1]}", tmp_path)
    assert "timed out" in message.lower()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, however long it may be" * 50)
    message = checked(None, tmp_path)
    assert "file is not a database" in message
    assert "current MLflow database" in message


def test_storage_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    message = checked(f"sqlite:///{tmp_path}/runs/mlflow.db", tmp_path)
    assert "cannot use it" in message


def test_a_missing_database_driver(tmp_path: Path) -> None:
    message = checked("postgresql+nosuchdriver://bob:hunter22@127.0.0.1/x", tmp_path)
    assert "its driver is installed" in message


def test_a_deleted_experiment(storage: Path, client: MlflowClient, make: SimpleNamespace) -> None:
    client.delete_experiment(client.create_experiment("ipgl"))
    tracker = make_tracker(TrackingSettings(), storage, storage / "tracking.json")
    with pytest.raises(TrackingError, match=r"experiment 'ipgl' has been deleted there; restore it with"):
        tracker.open_study(make.study())
    assert tracker.links == {}


def test_the_users_limit_stays_but_for_retries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    checked(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0", "a repeated request could create a run twice"


@pytest.mark.parametrize("uri", [None, "http://127.0.0.1:9"], ids=["database", "server"])
def test_only_making_the_tracker_changes_the_environment(
    uri: str | None, storage: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its methods are called from a thread beside the main one, which reads the environment meanwhile."""
    tracker = make_tracker(TrackingSettings(uri=uri), storage, storage / "tracking.json")

    def refuse(*_: object) -> None:
        raise AssertionError("the environment was changed after the tracker was made")

    for change in ("__setitem__", "__delitem__"):
        monkeypatch.setattr(type(os.environ), change, refuse)
    # Nothing listens at the server's address, so that its methods end with an error, but they try.
    expected = () if uri is None else (TrackingError, RuntimeError)
    steps = [
        tracker.check,
        lambda: tracker.open_study(make.study()),
        lambda: tracker.record(make.run(result=make.result())),
        lambda: tracker.close_study(make.results()),
        tracker.interrupt,
    ]
    for step in steps:
        with contextlib.suppress(*expected):
            step()
    monkeypatch.undo()
