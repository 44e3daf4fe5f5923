"""The checks of `ipgl doctor`: versions, GPUs, storage, disks, clocks, tracker and token, with corrections."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ipgl.cluster.doctor.node import Finding, NodeFacts, Probe, without_storage
from ipgl.config import TrackingSettings
from ipgl.core.atomic_files import write_text
from ipgl.core.errors import ResourceError, StudyStateError, TrackingError
from ipgl.plan.study_plan import load_plan
from ipgl.storage.remote import is_uri, remote_at
from ipgl.tracking import locate, make_tracker

_GIB = 2**30
LOW_DISK_BYTES, NO_DISK_BYTES = 10 * _GIB, 1 * _GIB
# Ray writes no objects to a disk that is fuller than this share.
RAY_FULL_SHARE = 0.95
SKEW_SECONDS, WILD_SKEW_SECONDS = 2.0, 60.0
# A difference in these versions is an error, since trials fail or differ; in others it is a warning.
_MUST_AGREE = ("ipgl", "python", "ray")


def examine(
    file: Path | None = None, address: str | None = None, storage: str | None = None
) -> list[Finding]:
    """Check this machine, or every node of a cluster that it belongs to.

    Args:
        file: A study file, whose storage and tracker are checked.
        address: Ray address; None for `$RAY_ADDRESS`, or for this machine only if that is not set.
        storage: Folder or URI of the studies; None for that of the file, or `runs`.

    Raises:
        IpglError: The study file is not valid, or the cluster cannot be reached.
    """
    plan = load_plan(file) if file else None
    place = storage or (plan.config.storage if plan else "runs")
    uri = place if is_uri(place) else ""
    folder = remote_at(uri).local if uri else Path(place).expanduser().resolve()
    tracking = plan.config.tracking if plan else TrackingSettings()
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address and address.startswith(("http://", "https://")):
        raise ResourceError(
            f"the doctor looks from inside the cluster, and {address} is its job server; send it there by: "
            f"ray job submit --address {address} -- ipgl doctor --storage {storage or '/shared/runs'}"
        )
    findings: list[Finding] = []
    with _marked_at(uri, folder) if uri else _marked(folder) as (probe, problem):
        here = probe.facts("this machine") if not problem else without_storage("this machine", problem)
        nodes: Sequence[NodeFacts] = ()
        if address:
            from ipgl.cluster.doctor.ray_nodes import inspect_nodes

            nodes, notes = inspect_nodes(address, probe)
            findings += notes
    findings += judge(remote_at(uri).display_uri if uri else str(folder), here, nodes)
    if uri and tracking.name == "mlflow" and tracking.uri is None:
        findings.append(
            Finding(
                "mlflow",
                "error",
                "it cannot keep its database at a URI",
                "set `tracking.uri`, or `name: none`",
            )
        )
    else:
        findings.append(check_tracker(tracking, folder))
    findings += check_token(os.environ, on_cluster=bool(address))
    return findings


def judge(storage: str, here: NodeFacts, nodes: Sequence[NodeFacts] = ()) -> list[Finding]:
    """Findings about the machines and the storage folder; `here` is the driver, which may also be one of the nodes."""
    machines = (here, *nodes)
    return [
        *_judge_versions(here, nodes),
        *_judge_gpus(nodes or machines),
        *_judge_storage(storage, here, nodes),
        *_judge_disks(machines),
        *_judge_clocks(nodes),
    ]


def _judge_versions(here: NodeFacts, nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    different = False
    for node in nodes:
        for name, own in here.versions.items():
            other = node.versions.get(name, "-")
            if other != own:
                different = True
                yield Finding(
                    "versions",
                    "error" if name in _MUST_AGREE else "warning",
                    f"{node.node} has {name} {other}, the driver {own}",
                    f"install {name} {own} there; one image for all nodes keeps them alike",
                )
    if not different:
        listed = ", ".join(f"{name} {number}" for name, number in here.versions.items())
        yield Finding("versions", "ok", f"{listed}{f'; the same on {len(nodes)} nodes' if nodes else ''}")


def _judge_gpus(machines: Iterable[NodeFacts]) -> Iterator[Finding]:
    for machine in machines:
        if not machine.gpus:
            yield Finding("gpus", "ok", f"{machine.node} has none; it trains on its CPUs")
        elif machine.versions.get("torch", "").endswith("+cpu"):
            yield Finding(
                "gpus",
                "error",
                f"{machine.node} has {', '.join(machine.gpus)}, but its torch {machine.versions['torch']} "
                "cannot use them",
                "install a CUDA build of torch there",
            )
        else:
            yield Finding("gpus", "ok", f"{machine.node} has {', '.join(machine.gpus)}")


def _judge_storage(storage: str, here: NodeFacts, nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    sound = True
    # If the driver cannot write the marker file, the nodes cannot find it.
    for machine in (here,) if here.storage_error else (here, *nodes):
        if machine.storage_error:
            sound = False
            yield Finding(
                "storage",
                "error",
                f"{machine.node} cannot write to {storage}: {machine.storage_error}",
                "let the user that runs Ray there write to it, or set `storage` to a folder that all can write to",
            )
        elif not machine.same_storage:
            sound = False
            yield Finding(
                "storage",
                "error",
                f"{machine.node} does not see what the driver writes to {storage}",
                "mount the same shared folder under the same path on every node, and set `storage` to it",
            )
    if sound:
        everywhere = f" by the driver and from {len(nodes)} nodes" if nodes else ""
        yield Finding("storage", "ok", f"{storage} can be written{everywhere}")


def _judge_disks(machines: Iterable[NodeFacts]) -> Iterator[Finding]:
    roomy: list[tuple[int, str]] = []
    for machine in machines:
        for disk in machine.disks:
            used = 1 - disk.free / disk.total if disk.total else 1.0
            text = (
                f"{machine.node}: {disk.path} has {disk.free / _GIB:.1f} GiB free of {disk.total / _GIB:.0f}"
            )
            cure = f"make room under {disk.path}, or use a larger disk"
            if disk.free < NO_DISK_BYTES:
                yield Finding("disk", "error", text, cure)
            elif used > RAY_FULL_SHARE:
                yield Finding(
                    "disk", "warning", f"{text}; above {RAY_FULL_SHARE:.0%} Ray writes no more", cure
                )
            elif disk.free < LOW_DISK_BYTES:
                yield Finding("disk", "warning", text, cure)
            else:
                roomy.append((disk.free, text))
    if roomy:
        others = f" (the least of {len(roomy)} looked at)" if len(roomy) > 1 else ""
        yield Finding("disk", "ok", min(roomy)[1] + others)


def _judge_clocks(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    for node in nodes:
        if abs(node.skew_seconds) > SKEW_SECONDS:
            yield Finding(
                "clock",
                "error" if abs(node.skew_seconds) > WILD_SKEW_SECONDS else "warning",
                f"the clock of {node.node} is {abs(node.skew_seconds):.1f} s "
                f"{'ahead of' if node.skew_seconds > 0 else 'behind'} the driver's; runs would be ordered wrongly",
                "run a time service there (chrony, systemd-timesyncd)",
            )
    if nodes and all(abs(node.skew_seconds) <= SKEW_SECONDS for node in nodes):
        yield Finding("clock", "ok", f"the nodes' clocks agree with the driver's to {SKEW_SECONDS:g} s")


def check_tracker(settings: TrackingSettings, storage: Path) -> Finding:
    """A finding on whether runs can be recorded with these settings."""
    if settings.name == "none":
        return Finding("mlflow", "ok", "not used (tracking: none)")
    try:
        store = locate(storage, settings.uri)
        if store.database and not store.database.exists():
            return Finding("mlflow", "ok", f"{store.database} will be made by the first study")
        make_tracker(settings, storage, storage / ".doctor").check()
    except TrackingError as error:
        return Finding("mlflow", "error", str(error), "correct `tracking.uri`, or start the server")
    return Finding("mlflow", "ok", f"{store.display_uri} answers")


def check_token(environment: Mapping[str, str], on_cluster: bool) -> Iterator[Finding]:
    """Findings on whether Ray requires a token, and on which users of this machine can read it."""
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    wanted = environment.get("RAY_AUTH_MODE", "").lower() == "token"
    if wanted and not path.is_file() and not environment.get("RAY_AUTH_TOKEN"):
        yield Finding(
            "token",
            "error",
            f"RAY_AUTH_MODE=token, but there is no token at {path}",
            "put the cluster's token there, or make one by: ray get-auth-token --generate",
        )
    elif on_cluster and not wanted:
        yield Finding(
            "token",
            "warning",
            "the cluster asks for no token: whoever reaches its ports can run programs on it",
            "start Ray with RAY_AUTH_MODE=token on every node and here",
        )
    elif wanted:
        yield Finding("token", "ok", "Ray asks for a token, and there is one here")
    if path.is_file() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        yield Finding(
            "token",
            "warning",
            f"other users of this machine can open {path} (mode {mode:04o})",
            f"chmod 600 {path}",
        )


@contextmanager
def _marked_at(uri: str, folder: Path) -> Iterator[tuple[Probe, str]]:
    """As `_marked`, at a URI; `folder` is this process's folder of local copies."""
    remote = remote_at(uri)
    probe = Probe(folder, folder / f"doctor-{secrets.token_hex(6)}", uri)
    problem = ""
    try:
        write_text(probe.mark, str(time.time()))
        remote.push(probe.mark)
    except (OSError, StudyStateError) as error:
        problem = getattr(error, "strerror", None) or str(error)
    try:
        yield probe, problem
    finally:
        if not problem:
            remote.remove(probe.mark)


@contextmanager
def _marked(folder: Path) -> Iterator[tuple[Probe, str]]:
    """A marker file in the storage folder, which every node must see. It is removed on exit, as are new folders.

    Yields:
        The probe, and the error of writing the marker file (empty if there was none).
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    probe = Probe(folder, folder / f".doctor-{secrets.token_hex(6)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(probe.mark, str(time.time()))
        problem = ""
    except OSError as error:
        problem = error.strerror or str(error)
    try:
        yield probe, problem
    finally:
        if not problem:
            probe.mark.unlink(missing_ok=True)
        for each in made:
            try:
                each.rmdir()
            except OSError:  # another process uses it now, or it could not be made
                break
