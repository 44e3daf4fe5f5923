"""What one machine can say of itself to the doctor, and what the doctor says of it."""

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
    """One thing that was looked at.

    Attributes:
        subject: What: versions, gpus, storage, disk, clock, mlflow, token, cluster.
        level: `error` would stop or spoil a study.
        message: What was found, with the place and the value.
        cure: What to do; empty if all is well.
    """

    subject: str
    level: Level
    message: str
    cure: str = ""


@dataclass(frozen=True)
class Disk:
    """Space of the disk under a path, in bytes."""

    path: str
    free: int
    total: int


@dataclass(frozen=True)
class NodeFacts:
    """What one machine says of itself.

    Attributes:
        node: Its address or name.
        versions: Package -> version; `-` if it is not installed.
        gpus: Name and memory of each.
        disks: Under the storage folder, and under the folder of temporary files.
        storage_error: Why a file could not be written to the storage folder; empty if it could.
        same_storage: Whether the storage folder holds the mark that the driver left there.
        skew_seconds: The node's clock minus the driver's, as far as the delay of the question does not explain it.
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
    """What every machine is asked to do with the storage folder: see `mark`, and write a file beside it."""

    storage: Path
    mark: Path
    uri: str = ""

    def facts(self, node: str) -> NodeFacts:
        """Look at the machine that this runs on."""
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
        """Whether the mark is there; a node without the shared folder must not make one of its own."""
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
    """The facts of the machine that this runs on, where `problem` keeps it from the storage folder."""
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
    """NVIDIA's own tool is asked: Ray hides the devices from a task that has reserved none."""
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
