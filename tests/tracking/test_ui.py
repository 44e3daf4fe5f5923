"""`ipgl ui`: the command, its errors, and a real server that leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from narrowing import known

from ipgl.core.errors import TrackingError
from ipgl.tracking import run_ui, ui_command


def test_command(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "kept")
    command, environment = ui_command(storage, port=5123)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert command[4:10] == ["--host", "127.0.0.1", "--port", "5123", "--workers", "1"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{storage}/mlflow.db"
    assert environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == f"{storage}/mlartifacts"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "kept"


def test_password_is_not_on_the_command_line(tmp_path: Path) -> None:
    command, environment = ui_command(tmp_path, "postgresql://bob:hunter22@host/name")
    assert "hunter22" not in " ".join(command)
    assert "hunter22" in environment["MLFLOW_BACKEND_STORE_URI"]


def test_no_database_yet(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"no MLflow database at .*mlflow\.db yet: run a study first"):
        run_ui(tmp_path)


def test_runs_on_a_server(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"open https://host:8443$"):
        run_ui(tmp_path, "https://bob:hunter22@host:8443")


def test_port_taken_names_a_free_one(storage: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            TrackingError, match=rf"port {port} on 127\.0\.0\.1 is taken: try --port (\d+)"
        ) as caught:
            run_ui(storage, port=port)
    free = int(str(caught.value).rsplit(" ", 1)[1])
    with socket.create_server(("127.0.0.1", free)):
        pass


def test_host_that_is_not_ours(storage: Path) -> None:
    with pytest.raises(TrackingError, match=r"cannot listen on 192\.0\.2\.1: "):
        run_ui(storage, host="192.0.2.1")


SERVE = """
import sys
from pathlib import Path
from ipgl.tracking import run_ui
sys.exit(run_ui(Path(sys.argv[1]), port=int(sys.argv[2]), announce=lambda url: print(url, flush=True)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_told_to_stop(storage: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(storage), str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert known(process.stdout).readline() == f"http://127.0.0.1:{port}\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            assert answer.status == 200
        server = children(process.pid)
        assert server
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in errors
    until = time.monotonic() + 5
    while (left := [pid for pid in server if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []


def children(pid: int) -> list[int]:
    """Every process below `pid`."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listing.splitlines()]
    found = [pid]
    for parent in found:
        found.extend(child for child, its_parent in pairs if its_parent == parent)
    return found[1:]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
