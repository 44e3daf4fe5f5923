"""Jobs on a Ray head that requires a token; each command runs in a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import typer
from ipgl.cli.cluster import add_to
from ipgl.core.errors import IpglError
app, study = typer.Typer(), typer.Typer()
add_to(study, app)
app.add_typer(study, name="study")
try:
    app()
except IpglError as error:
    raise SystemExit(f"error: {error}")
"""
STUDY = """\
name: job
dataset: {{name: colored_mnist, source: digits, pairs: {{train: 60, held_out: 40}}}}
model: {{name: mlp, width: 16, depth: 1}}
methods: {{erm: {{}}}}
training: {{epochs: 20000, batch_size: 100, evaluations: 100, device: cpu}}
search: {{trials: 1, final_seeds: 1}}
tracking: {{name: none}}
storage: {storage}
"""
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]


class Head(NamedTuple):
    address: str
    token: str
    environment: dict[str, str]
    work: Path
    runs: Path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments, "--address", self.address],
            cwd=self.work,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ipgl(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        out, _ = process.communicate(timeout=120)
        return process.returncode, out


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    root = tmp_path_factory.mktemp("head")
    token = secrets.token_hex(32)
    file = root / "token"
    file.touch(mode=0o600)
    file.write_text(token)
    work = root / "work"
    work.mkdir()
    (work / "x.yaml").write_text(STUDY.format(storage=root / "runs"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(file),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    port = _free_port()
    command = ["ray", "start", "--head", "--block", "--num-cpus=1", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}"]
    command += [f"--port={_free_port()}", f"--ray-client-server-port={_free_port()}"]
    command += [f"--dashboard-agent-listen-port={_free_port()}", "--min-worker-port=0", "--max-worker-port=0"]
    command += ["--object-store-memory=100000000"]
    with (root / "head.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(lambda: _answers(address), 60)
        yield Head(address, token, environment, work, root / "runs")
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs([process, *children], timeout=20)
        for each in alive:
            each.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/api/version", timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _wait(condition: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.2)


def test_without_the_token_or_with_a_wrong_one_nothing_is_submitted(head: Head, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text(secrets.token_hex(32))
    code, out = head.ipgl("study", "submit", "x.yaml", RAY_AUTH_MODE="disabled")
    assert code == 1
    assert "asks for its token and got none; set RAY_AUTH_MODE=token" in out
    code, out = head.ipgl("study", "submit", "x.yaml", RAY_AUTH_TOKEN_PATH=str(wrong))
    assert code == 1
    assert "refuses the token" in out
    assert wrong.read_text() not in out
    code, out = head.ipgl("study", "status", "--format", "json")
    assert (code, json.loads(out)) == (0, [])
    code, out = head.ipgl("study", "logs", "nothing")
    assert code == 1
    assert "there is no job 'nothing'; see what there is by: ipgl study status" in out


def test_a_study_is_submitted_followed_left_stopped(head: Head) -> None:
    submitted = time.time()
    # An address in the environment must not overrule the one that is given.
    process = head.start("study", "submit", "x.yaml", RAY_ADDRESS="http://127.0.0.1:9")
    try:
        _wait(lambda: list(head.runs.glob("job/trials/*/history.json")), 120)
        trial = next(head.runs.glob("job/trials/*/trial.json"))
        seconds = json.loads(trial.read_text())["begun_at"] - submitted
        print(f"submit to first trial: {seconds:.1f} s")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, out
    job = out.split()[1].rstrip(":")
    assert job.startswith("job-")
    assert f"{job} goes on. Come back by: ipgl study logs {job} --address {head.address} --follow" in out

    code, text = head.ipgl("study", "status", job, "--format", "json")
    [found] = json.loads(text)
    assert (code, found["status"], found["study"], found["file"]) == (0, "RUNNING", "job", "x.yaml")
    code, logs = head.ipgl("study", "logs", job)
    assert code == 0
    assert "ipgl study run x.yaml" in logs
    assert "::ipgl-progress" not in logs + out
    request = urllib.request.Request(
        f"{head.address}/api/jobs/", headers={"Authorization": f"Bearer {head.token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        metadata = answer.read().decode()
    assert job in metadata
    commands = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert any("study run x.yaml" in command for command in commands)
    assert not any(head.token in text for text in (out, logs, metadata, *commands))

    code, text = head.ipgl("study", "stop", job)
    assert code == 0, text
    assert f"Go on with: ipgl study submit x.yaml --resume --address {head.address}" in text
    state = json.loads((head.runs / "job" / "study.json").read_text())
    assert state["phase"] == "search"
    code, _ = head.ipgl("study", "logs", job, "--follow")
    assert code == 130
    # The name is in use now: the study refuses, and its exit code is the command's.
    code, text = head.ipgl("study", "submit", "x.yaml")
    assert code == 2, text
    assert "a study's name may be used once" in text
