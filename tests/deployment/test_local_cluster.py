"""The local cluster really runs: token, loopback, a study, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "local" / "cluster.py"
STUDY = """\
name: small
question: Does the cluster run a study?
dataset: {name: colored_mnist, source: digits, convention: irm, pairs: {train: 100, held_out: 50}}
model: {name: mlp, width: 16, depth: 1}
methods:
  erm:
    training: {optimiser: {weight_decay: {log_uniform: [1.0e-5, 1.0e-1]}}}
training: {epochs: 2, batch_size: 64, evaluations: 2, optimiser: {name: adam, lr: 1.0e-3}}
search: {sampler: random, trials: 2, final_seeds: 1}
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _call(verb: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), verb, "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def _options() -> list[str]:
    gcs, dashboard, mlflow = map(str, _free_ports(3))
    return ["--gcs-port", gcs, "--dashboard-port", dashboard, "--mlflow-port", mlflow]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "cluster"
    yield folder
    stopped = _call("down", folder)
    assert stopped.returncode == 0, stopped.stderr


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _environment(folder: Path) -> dict[str, str]:
    text = (folder / "env").read_text()
    pairs = (line.removeprefix("export ").split("=", 1) for line in text.splitlines())
    return {name: value.strip("'") for name, value in pairs}


def _status_code(url: str, token: str | None) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_nothing_runs_and_bad_options_are_refused(tmp_path: Path) -> None:
    status = _call("status", tmp_path / "none")
    assert (status.returncode, status.stdout) == (3, f"no cluster runs in {tmp_path / 'none'}\n")
    short = _call("up", tmp_path / "none", "--workers", "3", "--cpus", "2")
    assert short.returncode == 2
    assert "got 3 workers and 2 CPUs; give --workers N and --cpus M with 1 <= N <= M" in short.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = _call("up", tmp_path / "none", *_options(), "--mlflow-port", str(port))
    assert busy.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be had" in busy.stderr
    assert "give another: --mlflow-port" in busy.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_a_study_runs_on_it_and_nothing_stays(folder: Path, tmp_path: Path) -> None:
    up = _call("up", folder, *_options())
    assert up.returncode == 0, up.stderr
    leader = int((folder / "supervisor.pid").read_text())
    environment = _environment(folder)
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text()

    assert all(
        (folder / name).stat().st_mode & 0o077 == 0 for name in ("env", "ray_token", "mlflow_password")
    )
    jobs = environment["RAY_API_SERVER_ADDRESS"] + "/api/jobs/"
    assert [_status_code(jobs, value) for value in (None, "wrong", token)] == [401, 403, 200]
    members = _session(leader)
    assert len(members) > 8
    listening = {c.laddr.ip for p in members for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}
    assert listening
    assert not any(token in " ".join(process.cmdline()) for process in psutil.process_iter())
    assert _call("up", folder).returncode == 2

    work = tmp_path / "work"
    work.mkdir()
    study = work / "small.yaml"
    study.write_text(STUDY + f'tracking: {{uri: "{environment["MLFLOW_TRACKING_URI"]}"}}\n')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    state = tmp_path / "runs" / "small" / "study.json"
    # As a user submits it, then as a RayJob's entrypoint goes on with what there is.
    submit = [sys.executable, "-m", "ipgl", "study", "submit", str(study), "--working-dir", str(work)]
    run_or_resume = str(SCRIPT.parents[1] / "container" / "run_or_resume.sh")
    for attempt, command in enumerate(
        [[*submit, "--storage", str(tmp_path / "runs")], [run_or_resume, str(study), "small"]], start=1
    ):
        run = subprocess.run(
            command,
            env=os.environ | environment | {"IPGL_STORAGE": str(tmp_path), "PATH": path},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert json.loads(state.read_text())["sessions"] == attempt
        assert token not in run.stdout + run.stderr
        assert "::ipgl" not in run.stdout
    assert (tmp_path / "runs" / "small" / "report.html").exists()

    down = _call("down", folder)
    assert (down.returncode, down.stdout) == (0, "stopped\n")
    assert _session(leader) == []
    assert _call("status", folder).returncode == 3
    assert not (folder / "ray_token").exists()
    assert (folder / "logs" / "ray" / "gcs_server.out").exists()


@pytest.mark.slow
@pytest.mark.ray
def test_down_ends_what_a_killed_supervisor_left(folder: Path) -> None:
    up = _call("up", folder, *_options(), "--workers", "1", "--cpus", "1")
    assert up.returncode == 0, up.stderr
    leader = int((folder / "supervisor.pid").read_text())
    os.kill(leader, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(leader) and time.monotonic() < deadline:
        time.sleep(0.05)
    status = _call("status", folder)
    assert status.returncode == 1
    assert "end them with `down`" in status.stdout
    ray_folder = Path((folder / "ray_folder").read_text())
    assert ray_folder.is_dir()
    assert _call("down", folder).returncode == 0
    assert not ray_folder.exists()
    assert _session(leader) == []
    assert _call("status", folder).returncode == 3
