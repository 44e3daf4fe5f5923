"""Load of the driver's machine, under the names that MLflow's page of system metrics knows.

MLflow's own `SystemMetricsMonitor` is left out: its thread gives up for good at the first request that fails, which
a restart of the server is, and ending it waits for whatever request it is in. Its collectors are used without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


class Machine:
    """Samples CPU, memory, disk, network and GPUs of this machine, as far as it lets itself be asked."""

    def __init__(self) -> None:
        """Find out what there is; the network counts from here."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[Any] = []
        kinds: tuple[Callable[[], Any], ...] = (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor)
        for kind in kinds:
            try:
                self._monitors.append(kind())
            except Exception as error:  # no GPU, no counters in a container: each says so in its own way
                log.debug("no system metrics by %s: %s", kind, error)

    def sample(self) -> dict[str, float]:
        """`system/<what>` -> value now."""
        found: dict[str, float] = {}
        for monitor in list(self._monitors):
            try:
                monitor.collect_metrics()
                found |= {
                    f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()
                }
                monitor.clear_metrics()
            except Exception as error:  # a counter that was there has gone: do without it from now on
                log.debug("system metrics end: %s", error)
                self._monitors.remove(monitor)
        return found
