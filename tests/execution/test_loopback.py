"""Ray that starts with a study is this machine's alone, and a cluster on the loopback interface can be used."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
import pytest
from ray._private import ray_constants

from ipgl.execution.engine import RayEngine
from ipgl.execution.events import AllEvents
from ipgl.execution.loopback import choose_interface, guard_token
from ipgl.plan.study_plan import load_plan
from ipgl.storage.study_dir import StudyFolder

STUDY = """
name: small
dataset: {name: colored_mnist, source: digits}
model: {name: mlp, width: 32}
methods: {erm: {}}
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with mock.patch.dict(os.environ), mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", True):
        yield


def listener(host: str) -> socket.socket:
    server = socket.socket()
    server.bind((host, 0))
    server.listen()
    return server


def interface(address: str) -> tuple[bool, str | None]:
    choose_interface(address)
    return ray_constants.ENABLE_RAY_CLUSTER, os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


def test_the_interface_follows_the_address() -> None:
    assert interface("local") == (False, "0")
    assert interface("10.0.0.2:6379") == (True, None)
    with listener("127.0.0.1") as private:
        assert interface(f"127.0.0.1:{private.getsockname()[1]}") == (False, "0")
        assert interface(f"localhost:{private.getsockname()[1]}") == (False, "0")
    with listener("0.0.0.0") as public:  # as `ray start` does
        assert interface(f"127.0.0.1:{public.getsockname()[1]}") == (True, None)
    assert interface("auto") == (True, None)


def test_a_token_is_its_owner_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    guard_token()
    token = tmp_path / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o644)
    guard_token()
    assert token.stat().st_mode & 0o777 == 0o600


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_nothing_listens_on_other_interfaces(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(STUDY)
    with RayEngine(load_plan(file), StudyFolder(tmp_path / "small"), AllEvents()):
        listening = set()
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    listening.add((process.name(), connection.laddr.ip))
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
    assert {address for _, address in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}, listening
