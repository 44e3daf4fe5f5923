"""Facts about one machine, and findings of `ipgl doctor`."""

from __future__ import annotations

import platform
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from ipgl.core.atomic_files import write_text
from ipgl.core.errors import IpglError
from ipgl.core.version import __version__
from ipgl.storage.remote import remote_at

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        subject: One of versions, gpus, storage, disk, clock, mlflow, token, cluster.
        level: `error` if a study would fail or give wrong results.
        message: The finding, with place and value.
        cure: What to do; empty if nothing is wrong.
    """

    subject: str
    level: Level
    message: str
    cure: str = ""


@dataclass(frozen=True)
class Disk:
    """Free and total space of the disk that holds a path, in bytes."""

    path: str
    free: int
    total: int


@dataclass(frozen=True)
class NodeFacts:
    """Facts about one machine.

    Attributes:
        node: Address or name.
        versions: Version by package; `-` if it is not installed.
        gpus: Name and memory of each GPU.
        disks: The disks of the storage folder and of the folder of temporary files.
        storage_error: The error of writing a file to the storage folder; empty if there was none.
        same_storage: Whether the storage folder contains the driver's marker file.
        skew_seconds: The node's clock minus the driver's, reduced by the uncertainty from the delay of messages.
    """

    node: str
    versions: dict[str, str]
    gpus: tuple[str, ...] = ()
    disks: tuple[Disk, ...] = ()
    storage_error: str = ""
    same_storage: bool = True
    skew_seconds: float = 0.0


@dataclass(frozen=True)
class Probe:
    """The check that each machine runs: it looks for the marker file, and writes a file beside it.

    Attributes:
        storage: The storage folder.
        mark: The marker file, which the driver has written.
        uri: The storage if it is a URI, else empty.
    """

    storage: Path
    mark: Path
    uri: str = ""

    def facts(self, node: str) -> NodeFacts:
        """Collect the facts of the machine that this runs on; `node` is its name."""
        error, same = "", True
        try:
            same = self._try_uri(node) if self.uri else self._try_folder(node)
        except OSError as problem:
            error = problem.strerror or str(problem)
        except IpglError as problem:  # the package for the URI is missing on this node
            error = str(problem)
        places = dict.fromkeys((*([] if self.uri else [str(self.storage)]), tempfile.gettempdir()))
        return NodeFacts(
            node=node,
            versions=_versions(),
            gpus=_gpus(),
            disks=tuple(disk for place in places if (disk := _disk(place)) is not None),
            storage_error=error,
            same_storage=same,
        )

    def _try_folder(self, node: str) -> bool:
        """Whether the marker file is visible; a node without the shared folder must not create that folder."""
        if not self.mark.is_file():
            return False
        own = self.mark.with_name(f"{self.mark.name}.{secrets.token_hex(4)}")
        write_text(own, node)
        own.unlink()
        return True

    def _try_uri(self, node: str) -> bool:
        remote = remote_at(self.uri)
        mark, own = (remote.local / f"{self.mark.name}{end}" for end in ("", f".{secrets.token_hex(4)}"))
        remote.pull(mark)
        if not mark.exists():
            return False
        write_text(own, node)
        remote.push(own)
        remote.remove(own)
        return True


def without_storage(node: str, problem: str) -> NodeFacts:
    """The facts of the machine that this runs on, if it cannot use the storage folder because of `problem`."""
    temporary = _disk(tempfile.gettempdir())
    return NodeFacts(node, _versions(), _gpus(), (temporary,) if temporary else (), problem)


def _versions() -> dict[str, str]:
    found = {"ipgl": __version__, "python": platform.python_version()}
    for name in ("torch", "ray", "mlflow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "-"
    return found


def _gpus() -> tuple[str, ...]:
    """Names and memory of the GPUs, from nvidia-smi: Ray hides devices from actors that reserve none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return (
        tuple(line.strip() for line in done.stdout.splitlines() if line.strip())
        if not done.returncode
        else ()
    )


def _disk(path: str) -> Disk | None:
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    return Disk(path, usage.free, usage.total)
