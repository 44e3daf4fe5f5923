"""A Ray cluster of several nodes on this machine, whose nodes can be killed. Run as a script it is the cluster itself.

    python nodes.py CPUS_OF_HEAD CPUS_OF_EACH_WORKER...

prints the address and the raylets' process ids as JSON, and ends with standard input. The first raylet is the head's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import psutil


class Nodes:
    """Use as a context manager; whatever has been killed, nothing stays."""

    def __init__(self, *cpus: int) -> None:
        environment = os.environ | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
        command = [sys.executable, str(Path(__file__)), *map(str, cpus)]
        self._holder = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        self._cpus = cpus

    def __enter__(self) -> Nodes:
        assert self._holder.stdout is not None
        lines = []
        for line in self._holder.stdout:
            lines.append(line)
            if line.startswith("{"):
                found = json.loads(line)
                self.address, self.raylets = found["address"], found["raylets"]
                return self
        raise AssertionError("".join(lines))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        members = self._members()
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._holder.wait(30)
        kill_processes(members)
        self._holder.wait()

    def of(self, process: int) -> int:
        """The node on which a process runs."""
        parents = {process, *(parent.pid for parent in psutil.Process(process).parents())}
        return next(number for number, raylet in enumerate(self.raylets) if raylet in parents)

    def titles(self) -> dict[int, str]:
        """What each process of the cluster runs."""
        found = {}
        for process in self._members():
            try:
                found[process.pid] = " ".join(process.cmdline())
            except psutil.Error:
                continue
        return found

    def kill(self, node: int) -> None:
        """End a node at once, with everything that runs on it."""
        raylet = psutil.Process(self.raylets[node])
        kill_processes([raylet, *raylet.children(recursive=True)])

    def kill_all(self) -> None:
        """End the whole cluster at once, its head first."""
        kill_processes(self._members())
        self._holder.wait()

    def _members(self) -> list[psutil.Process]:
        """Every process of the session that the cluster's own process leads: also those whose parents are gone."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self._holder.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def kill_processes(processes: list[psutil.Process]) -> None:
    """SIGKILL to all, then wait until none runs; nobody may have asked for their exit codes yet."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(map(_runs, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def main() -> None:
    """Hold the cluster until standard input ends."""
    from ray.cluster_utils import Cluster

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cluster = Cluster()
    head, *workers = (int(text) for text in sys.argv[1:])
    nodes = [
        cluster.add_node(
            num_cpus=head, include_dashboard=True, dashboard_host="127.0.0.1", dashboard_port=port
        )
    ]
    nodes += [cluster.add_node(num_cpus=cpus) for cpus in workers]
    cluster.wait_for_nodes()
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    cluster.shutdown()
    time.sleep(0.1)


if __name__ == "__main__":
    main()
