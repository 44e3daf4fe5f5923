"""System metrics (CPU, memory, disk, network, GPU) of the driver's machine, under MLflow's names.

MLflow's own `SystemMetricsMonitor` is left out: its thread ends at the first failed request, for example
while the server restarts, and stopping it waits for the request in progress. Only its collectors are used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from ipgl.tracking.mlflow_values import Point, finite, milliseconds

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 10


class _Monitor(Protocol):
    """One of MLflow's collectors."""

    def collect_metrics(self) -> None: ...

    def aggregate_metrics(self) -> dict[str, float]: ...

    def clear_metrics(self) -> None: ...


class Machine:
    """Samples CPU, memory, disk, network and GPUs of this machine, as far as the counters are available."""

    def __init__(self) -> None:
        """Create the available collectors; network traffic is counted from now on."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors: list[_Monitor] = []
        factories: tuple[Callable[[], _Monitor], ...] = (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor)
        for factory in factories:
            try:
                self._monitors.append(factory())
            except (
                Exception
            ) as error:  # no GPU, or no counters in a container: the collectors raise different errors
                log.debug("no system metrics by %s: %s", factory, error)

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
            except Exception as error:  # a counter disappeared: leave it out from now on
                log.debug("system metrics end: %s", error)
                self._monitors.remove(monitor)
        return found


class MachineSampler:
    """Samples this machine's load every ten seconds at most."""

    def __init__(self) -> None:
        """Sample nothing yet; MLflow's collectors are imported with the first sample."""
        self._machine: Machine | None = None
        self._sampled_at = 0.0

    def points_if_due(self, started_at: float | None) -> list[Point]:
        """The load now as metrics, or nothing if the last sample is younger than ten seconds.

        Args:
            started_at: When the study began, in seconds since the epoch; a point's step is the number of seconds
                since then. None gives step 0.
        """
        now = time.time()
        if now - self._sampled_at < _PERIOD_SECONDS:
            return []
        self._sampled_at = now
        self._machine = self._machine or Machine()
        step = round(now - (started_at or now))
        return [
            Point(name, finite(value), milliseconds(now), step)
            for name, value in self._machine.sample().items()
        ]
