"""Three hosts on this machine: network namespaces with addresses and temporary folders of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil
from nodes import kill_processes

COUNT = 3
BRIDGE = "ipgl-bridge"


class Hosts:
    """A Ray cluster over three hosts, the head without CPUs; needs root. Nothing stays, whatever happened."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._ends: list[subprocess.Popen[bytes]] = []
        (place / "token").write_text("7" * 64)
        (place / "token").chmod(0o600)
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))
        } | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(place / "token"),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self.address = f"{address(0)}:6379"

    @staticmethod
    def possible() -> bool:
        """Whether this process may make network namespaces."""
        try:
            made = subprocess.run(["ip", "netns", "add", "ipgl-probe"], capture_output=True)
        except FileNotFoundError:
            return False
        if made.returncode == 0:
            subprocess.run(["ip", "netns", "del", "ipgl-probe"], check=True)
        return made.returncode == 0

    def __enter__(self) -> Hosts:
        try:
            _ip("link", "add", BRIDGE, "type", "bridge")
            _ip("link", "set", BRIDGE, "up")
            for host in range(COUNT):
                _ip("netns", "add", name(host))
                _ip(
                    "link",
                    "add",
                    f"ipgl-veth{host}",
                    "type",
                    "veth",
                    "peer",
                    "name",
                    "eth0",
                    "netns",
                    name(host),
                )
                _ip("link", "set", f"ipgl-veth{host}", "master", BRIDGE, "up")
                _ip("-n", name(host), "addr", "add", f"{address(host)}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    _ip("-n", name(host), "link", "set", device, "up")
                # Leads nowhere, but Ray asks which address would be used on the way out.
                _ip("-n", name(host), "route", "add", "default", "dev", "eth0")
            start = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
            head = ["--head", "--port=6379", "--num-cpus=0", "--dashboard-host=127.0.0.1"]
            self._begin(0, [*start, *head, f"--node-ip-address={address(0)}"])
            self._until_alive(1)
            for host in range(1, COUNT):
                worker = [f"--address={self.address}", "--num-cpus=1", f"--node-ip-address={address(host)}"]
                self._begin(host, [*start, *worker])
            self._until_alive(COUNT)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in range(COUNT):
            self.kill(host)
            subprocess.run(["ip", "netns", "del", name(host)], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
        for process in self._ends:
            process.wait(30)

    def command(self, host: int, arguments: Sequence[str]) -> list[str]:
        """The command as it runs on a host, with a folder for temporary files of its own."""
        own = self._place / f"tmp{host}"
        own.mkdir(exist_ok=True)
        mount = 'mkdir -p /tmp/ray && mount --bind "$0" /tmp/ray && exec "$@"'
        return ["ip", "netns", "exec", name(host), "sh", "-c", mount, str(own), *arguments]

    def begin(self, host: int, arguments: Sequence[str], cwd: Path) -> subprocess.Popen[str]:
        """Start a command on a host."""
        return subprocess.Popen(
            self.command(host, arguments),
            cwd=cwd,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def titles(self, host: int) -> dict[int, str]:
        """What each process of a host runs."""
        found = {}
        for process in self._processes(host):
            try:
                found[process.pid] = " ".join(process.cmdline())
            except psutil.Error:
                continue
        return found

    def kill(self, host: int) -> None:
        """End everything that runs on a host at once."""
        kill_processes(self._processes(host))

    def _processes(self, host: int) -> list[psutil.Process]:
        listed = subprocess.run(["ip", "netns", "pids", name(host)], capture_output=True, text=True)
        return [
            psutil.Process(int(number)) for number in listed.stdout.split() if psutil.pid_exists(int(number))
        ]

    def _begin(self, host: int, arguments: Sequence[str]) -> None:
        with (self._place / f"ray{host}.log").open("wb") as log:
            self._ends.append(
                subprocess.Popen(
                    self.command(host, arguments),
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _until_alive(self, count: int) -> None:
        script = (
            "import ray; ray.init(address='"
            + self.address
            + "', logging_level='ERROR', log_to_driver=False);"
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        deadline = time.monotonic() + 120
        while True:
            probe = self.begin(0, [sys.executable, "-c", script], self._place)
            output = probe.communicate(timeout=100)[0]
            if output.strip().splitlines()[-1:] == [str(count)]:
                return
            logs = "".join(
                (self._place / f"ray{host}.log").read_text()[-2000:] for host in range(len(self._ends))
            )
            assert time.monotonic() < deadline, output + logs


def name(host: int) -> str:
    return f"ipgl-host{host}"


def address(host: int) -> str:
    return f"10.213.77.{host + 1}"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
