"""Version tests of private interfaces: each function is checked against the installed Ray, not against a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from ray._private import ray_constants, services

from ipgl.core.private_apis import (
    LOOPBACK_SWITCH,
    autoscaler_limits,
    files_in_ray_package,
    largest_ray_package,
    set_ray_loopback,
)


@pytest.fixture
def environment() -> Iterator[None]:
    """Restores the environment and Ray's constant."""
    with mock.patch.dict(os.environ), mock.patch.object(ray_constants, "ENABLE_RAY_CLUSTER", True):
        yield


@pytest.mark.ray
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("environment")
def test_limits_of_an_autoscaler() -> None:
    import ray
    from ray._raylet import (  # type: ignore[attr-defined]  # a compiled module
        GCS_AUTOSCALER_CLUSTER_CONFIG_KEY,
        GCS_AUTOSCALER_STATE_NAMESPACE,
    )
    from ray.core.generated import autoscaler_pb2
    from ray.experimental.internal_kv import _internal_kv_put

    set_ray_loopback(True)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        assert autoscaler_limits() == {}

        config = autoscaler_pb2.ClusterConfig()  # as an autoscaler announces itself
        for name, nodes, cpus in (("small", 3, 2), ("large", 2, 16)):
            group = config.node_group_configs.add()
            group.name, group.max_count = name, nodes
            group.resources.update({"CPU": cpus})
        _internal_kv_put(
            GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(),
            config.SerializeToString(),
            overwrite=True,
            namespace=GCS_AUTOSCALER_STATE_NAMESPACE.encode(),
        )
        limits = autoscaler_limits()
    finally:
        ray.shutdown()
    assert limits == {"CPU": 3 * 2 + 2 * 16}
    assert isinstance(limits["CPU"], float)


@pytest.mark.usefixtures("environment")
def test_loopback_is_set_in_ray_and_in_the_environment_of_its_processes() -> None:
    set_ray_loopback(True)
    assert vars(ray_constants)["ENABLE_RAY_CLUSTER"] is False
    assert os.environ[LOOPBACK_SWITCH] == "0"
    assert services.get_node_ip_address() == "127.0.0.1"

    set_ray_loopback(False)
    assert vars(ray_constants)["ENABLE_RAY_CLUSTER"] is True
    assert LOOPBACK_SWITCH not in os.environ


@pytest.mark.parametrize(("value", "expected"), [("0", "False"), (None, "True")])
def test_ray_reads_the_variable_when_it_is_imported(value: str | None, expected: str) -> None:
    environment = {name: held for name, held in os.environ.items() if name != LOOPBACK_SWITCH}
    done = subprocess.run(
        [sys.executable, "-c", "from ray._private import ray_constants as c; print(c.ENABLE_RAY_CLUSTER)"],
        env=environment | ({} if value is None else {LOOPBACK_SWITCH: value}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def test_the_limit_of_a_package_is_in_bytes() -> None:
    limit = largest_ray_package()
    assert isinstance(limit, int)
    assert 100 * 2**20 < limit < 100 * 2**30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "study.yaml": "name: s",
        "code/method.py": "",
        "code/notes.txt": "",
        "code/.gitignore": "*.txt\n",
        "runs/s/result.json": "",
        "code/runs/kept.py": "",
        "weights.pt": "",
        ".gitignore": "*.log\n",
        "long.log": "",
        ".rayignore": "data\n",
        "data/image.png": "",
        ".hidden": "",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "empty").mkdir()
    return tmp_path


def names(folder: Path, *excludes: str) -> set[str]:
    found = files_in_ray_package(folder, excludes)
    assert all(path.is_absolute() and path.is_file() for path in found)
    assert len(found) == len(set(found))
    return {path.relative_to(folder).as_posix() for path in found}


def test_files_of_a_package(folder: Path) -> None:
    assert names(folder, "/runs", "*.pt") == {
        "study.yaml",
        "code/method.py",
        "code/.gitignore",
        "code/runs/kept.py",
        ".gitignore",
        ".rayignore",
        ".hidden",
    }
    assert names(folder) - names(folder, "/runs", "*.pt") == {"runs/s/result.json", "weights.pt"}


def test_gitignore_can_be_switched_off_as_in_ray(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray_constants.RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "1")
    assert names(folder, "/runs", "*.pt") >= {"long.log", "code/notes.txt", "code/method.py"}
    assert "data/image.png" not in names(folder)


def test_ignore_files_are_not_announced(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        names(folder)
    assert caplog.records == []
