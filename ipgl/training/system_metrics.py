"""Memory and processor load of a run, sampled at each evaluation."""

from __future__ import annotations

from functools import lru_cache

import psutil
import torch

_MIB = 2**20


def system_metrics(device: torch.device) -> dict[str, float]:
    """Load of this process since the call before, by names that MLflow shows as system metrics.

    Returns:
        `system/memory_mib`: resident memory. `system/cpu_percent`: CPU time over wall time since the call before,
        100 per core; 0 at the first call. `system/gpu_memory_mib`: largest allocation so far, on a GPU.
    """
    process = _process()
    metrics = {
        "system/memory_mib": process.memory_info().rss / _MIB,
        "system/cpu_percent": process.cpu_percent(),
    }
    if device.type == "cuda":
        metrics["system/gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / _MIB
    return metrics


@lru_cache(maxsize=1)
def _process() -> psutil.Process:
    return psutil.Process()  # measures CPU time between two calls on the same object
