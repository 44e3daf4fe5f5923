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


def test_operations_are_watched_below_vmap_and_autograd_without_the_compiler() -> None:
    """In a process of its own, in which nothing else has loaded torch's compiler."""
    code = """
import sys, torch
from ipgl.core.private_apis import watch_operations
names = []
weight, x = torch.ones(2, 3, requires_grad=True), torch.ones(3)
with watch_operations(lambda operation, args, kwargs, result: names.append((str(operation), result))):
    losses = torch.func.vmap(lambda w: (w * x).sum())(weight)
    (gradient,) = torch.autograd.grad(losses.sum(), weight)
assert names[0][0] == "aten.mul.Tensor" and names[0][1].shape == (2, 3), names
assert any(result is gradient for _, result in names), names
assert "torch._dynamo" not in sys.modules and "sympy" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_s_kernel_is_what_its_optimiser_calls(decoupled: bool) -> None:
    import torch

    from ipgl.core.private_apis import fused_adam

    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    theirs, ours, gradient = torch.tensor([1.0, -2.0]), torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    theirs.grad = gradient.clone()
    kind([theirs], lr=0.1, weight_decay=0.1, fused=True).step()
    rest = [[torch.zeros(2)], [torch.zeros(2)], [torch.ones(())]]
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.1, "eps": 1e-8, "maximize": False}
    fused_adam(([ours], [gradient], *rest), decoupled, **settings)
    assert torch.equal(ours, theirs)


def test_sgd_s_kernel_moves_the_momentum_and_then_the_parameter() -> None:
    import torch

    from ipgl.core.private_apis import fused_sgd

    parameter, gradient, momentum = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([4.0])
    settings = {"lr": 0.5, "weight_decay": 0.0, "momentum": 0.5, "dampening": 0.0, "nesterov": False}
    fused_sgd(([parameter], [gradient], [momentum]), maximize=False, **settings)
    assert (momentum.item(), parameter.item()) == (4.0, -1.0)
