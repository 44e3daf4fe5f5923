"""Passwords in tracking addresses are written nowhere but in the study file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mlflow_server import Server, free_port

PASSWORD = "hunter2-{}".format("correct-horse")
STUDY = """
name: small
question: Does anything leak?
dataset: {{name: colored_mnist, source: digits, pairs: {{train: 100, held_out: 100}}}}
model: {{name: mlp, width: 16}}
methods: {{erm: {{}}, ipg: {{strength: 10}}}}
training: {{epochs: 4, batch_size: 64, evaluations: 4, checkpoint_seconds: 0, device: cpu, hopeless_after: null}}
search: {{final_seeds: 1, scheduler: {{name: none}}}}
tracking: {{uri: "http://me:{password}@127.0.0.1:{port}"}}
"""


class Watch(threading.Thread):
    """Looks at all command lines and all files of some folders, again and again, for the password."""

    def __init__(self, *folders: Path) -> None:
        super().__init__(daemon=True)
        self._folders, self._over = folders, threading.Event()
        self.found: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        while not self._over.wait(0.3):
            self.look()

    def look(self) -> None:
        for process in psutil.process_iter():
            try:
                if PASSWORD in " ".join(process.cmdline()):
                    self.found.add(f"command line of {process.name()}")
            except psutil.Error:
                continue
        self.found |= {str(path) for folder in self._folders for path in holding(folder)}
        self.looks += 1

    def stop(self) -> None:
        self._over.set()
        self.join()
        self.look()


def holding(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink() and PASSWORD.encode() in path.read_bytes():
                yield path
        except OSError:
            continue


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    yield server
    server.kill()


def ipgl(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RAY_TMPDIR": str(cwd / "r"), "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    return subprocess.run(
        [sys.executable, "-m", "ipgl", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_password_is_nowhere_but_in_the_study_file(
    tmp_path_factory: pytest.TempPathFactory, server: Server
) -> None:
    server.start()
    cwd = tmp_path_factory.mktemp("s")
    (cwd / "small.yaml").write_text(STUDY.format(password=PASSWORD, port=server.port))
    (cwd / "r").mkdir()
    watch = Watch(cwd, server.folder)
    watch.start()
    done = ipgl(cwd, "study", "run", "small.yaml")
    watch.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert watch.looks > 10
    assert any((cwd / "r").rglob("*.log")), "Ray's own logs were not among what was looked at"
    own = cwd / "runs/small/study.yaml"
    assert watch.found == {str(cwd / "small.yaml"), str(own)}
    assert own.stat().st_mode & 0o777 == 0o600

    for verb in (
        ["study", "show", "small"],
        ["report", "small", "--format", "md"],
        ["track", "sync", "small"],
    ):
        shown = ipgl(cwd, *verb)
        assert shown.returncode == 0, shown.stderr
        assert PASSWORD not in shown.stdout + shown.stderr
    assert {str(path) for path in (*holding(cwd), *holding(server.folder))} == watch.found


def test_errors_do_not_show_it(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(STUDY.format(password=PASSWORD, port=free_port()))
    begun = time.monotonic()
    away = ipgl(tmp_path, "study", "run", "small.yaml")
    assert (away.returncode, PASSWORD in away.stdout + away.stderr) == (2, False)
    assert "127.0.0.1" in away.stderr
    assert time.monotonic() - begun < 60
    (tmp_path / "small.yaml").write_text(
        STUDY.format(password=PASSWORD, port=1).replace("http:", "nonsense:")
    )
    wrong = ipgl(tmp_path, "study", "run", "small.yaml")
    assert (wrong.returncode, PASSWORD in wrong.stdout + wrong.stderr) == (2, False)
