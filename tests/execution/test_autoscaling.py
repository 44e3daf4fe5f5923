"""How many trials run at once on a cluster that can still grow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import ray
from ray._raylet import (  # type: ignore[attr-defined]  # a compiled module
    GCS_AUTOSCALER_CLUSTER_CONFIG_KEY,
    GCS_AUTOSCALER_STATE_NAMESPACE,
)
from ray.core.generated import autoscaler_pb2
from ray.experimental.internal_kv import _internal_kv_put

from ipgl.core.errors import ResourceError
from ipgl.execution.engine import RayEngine, _shut_down
from ipgl.execution.events import AllEvents
from ipgl.plan.study_plan import load_plan
from ipgl.storage.study_dir import StudyFolder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]

GPU = "use_gpu: true, gpus_per_worker"

STUDY = """
name: grows
dataset: {{name: colored_mnist, source: digits}}
model: {{name: mlp, width: 32}}
methods: {{erm: {{}}}}
search: {{final_seeds: 1{search}}}
resources: {resources}
"""


@pytest.fixture
def cluster() -> Iterator[None]:
    """Two CPUs and no GPU."""
    with mock.patch.dict(os.environ):  # Ray leaves variables there
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        _shut_down()


def announce_autoscaler() -> None:
    """What an autoscaler tells of itself: up to 4 nodes of 1 GPU and 8 CPUs, of which none is there yet."""
    config = autoscaler_pb2.ClusterConfig()
    group = config.node_group_configs.add()
    group.name, group.min_count, group.max_count = "gpu", 0, 4
    group.resources.update({"CPU": 8, "GPU": 1})
    _internal_kv_put(
        GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(),
        config.SerializeToString(),
        overwrite=True,
        namespace=GCS_AUTOSCALER_STATE_NAMESPACE.encode(),
    )


@pytest.mark.usefixtures("cluster")
def test_nodes_that_an_autoscaler_may_add_count(tmp_path: Path) -> None:
    def concurrency(resources: str, search: str = "") -> int:
        file = tmp_path / "grows.yaml"
        file.write_text(STUDY.format(resources=resources, search=search))
        return RayEngine(load_plan(file), StudyFolder(tmp_path / "grows"), AllEvents()).concurrency

    assert concurrency("{}") == 2
    assert concurrency("{cpus_per_worker: 0.5}") == 4
    assert concurrency("{cpus_per_worker: 0.1}") == 20
    with pytest.raises(ResourceError, match=r"needs 1 GPUs .* to, 0; lower"):
        concurrency(f"{{{GPU}: 1}}")

    announce_autoscaler()
    assert concurrency("{}") == 32
    assert concurrency(f"{{{GPU}: 1}}") == 4
    assert concurrency(f"{{{GPU}: 0.5}}") == 8
    assert concurrency(f"{{{GPU}: 1, workers: 4}}") == 1
    assert concurrency(f"{{{GPU}: 1}}", ", concurrency: 3") == 3
    with pytest.raises(ResourceError, match=r"needs 8 GPUs .* to, 4; lower"):
        concurrency(f"{{{GPU}: 1, workers: 8}}")
