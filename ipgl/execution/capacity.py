"""How many trials a Ray cluster holds at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import ray

from ipgl.config import ResourceSettings
from ipgl.core.errors import ResourceError
from ipgl.core.private_apis import autoscaler_limits

# Ray counts in ten-thousandths; binary fractions alone would give 2 // 0.1 = 19.
_ROUNDING = 1e-6


def trial_slots(resources: ResourceSettings) -> int:
    """How many trials the connected cluster holds now, or may grow to if an autoscaler has told its limits.

    Raises:
        ResourceError: Not a single one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    limits = autoscaler_limits()
    now = ray.cluster_resources()
    growth = {name: max(0.0, limit - now.get(name, 0.0)) for name, limit in limits.items()}
    workers = sum(worker_slots([*nodes, growth], resources.cpus_per_worker, resources.gpus))
    if workers >= resources.workers:
        return workers // resources.workers
    needs = {"CPU": resources.workers * resources.cpus_per_worker, "GPU": resources.workers * resources.gpus}
    total = {name: max(now.get(name, 0.0), limits.get(name, 0.0)) for name in needs}
    short = next((name for name, need in needs.items() if total[name] + _ROUNDING < need), None)
    if short is None:
        raise ResourceError(
            f"one trial needs {resources.workers} workers with {resources.cpus_per_worker:g} CPUs and "
            f"{resources.gpus:g} GPUs each, but no node of the cluster holds such a worker whole; lower the share of "
            "each worker (a GPU's share must fit on one GPU), or use larger nodes"
        )
    raise ResourceError(
        f"one trial needs {needs[short]:g} {short}s ({resources.workers} workers), but the cluster has, or may "
        f"grow to, {total[short]:g}; lower resources.workers or the share of each worker, or use a larger one"
    )


def worker_slots(nodes: Iterable[Mapping[str, float]], cpus: float, gpus: float) -> list[int]:
    """How many workers of this share each node holds.

    Args:
        nodes: Resources of each node, with `CPU` and `GPU`.
        cpus: CPUs of a worker, above 0.
        gpus: GPUs of a worker. Below 1 it is a share of one device: two workers of 0.6 do not fit on one.
    """
    return [
        min(int(node.get("CPU", 0.0) / cpus + _ROUNDING), _gpu_slots(node.get("GPU", 0.0), gpus))
        if gpus
        else int(node.get("CPU", 0.0) / cpus + _ROUNDING)
        for node in nodes
    ]


def _gpu_slots(devices: float, share: float) -> int:
    if share < 1:
        return int(devices + _ROUNDING) * int(1 / share + _ROUNDING)
    return int(devices / share + _ROUNDING)
