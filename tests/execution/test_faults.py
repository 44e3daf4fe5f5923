"""What a study outlives: killed processes, a full disk, storage that drops out. It ends as an undisturbed one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from faults import (
    SHARED,
    STUDY,
    assert_as_undisturbed,
    assert_logged_once,
    begin,
    descendants,
    ipgl,
    results,
    under_way,
    until,
)

from ipgl.storage.study_dir import StudyFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    cwd = tmp_path_factory.mktemp("undisturbed")
    (cwd / "small.yaml").write_text(STUDY)
    done = ipgl("study", "run", "small.yaml", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(cwd / "runs/small")


def test_a_killed_trial_goes_on_from_its_checkpoint(tmp_path: Path, undisturbed: StudyFolder) -> None:
    (tmp_path / "small.yaml").write_text(STUDY)
    folder = StudyFolder(tmp_path / "runs/small")
    process = begin("study", "run", "small.yaml", cwd=tmp_path)
    killed: list[int] = []
    for ended in (0, 2):
        until(partial(under_way, folder, ended, 5), process)
        kept = {run.trial: run.finished_at for run in results(folder).values()}
        trial = [number for number, title in descendants(process).items() if "ray::ImplicitFunc" in title]
        assert len(trial) == 1, descendants(process)
        os.kill(trial[0], signal.SIGKILL)
        killed += trial
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert len(set(killed)) == 2
    assert kept.items() <= {run.trial: run.finished_at for run in results(folder).values()}.items()
    assert_as_undisturbed(folder, undisturbed)
    assert_logged_once(folder)


def test_a_killed_driver_is_resumed(tmp_path: Path, undisturbed: StudyFolder) -> None:
    (tmp_path / "small.yaml").write_text(STUDY)
    folder = StudyFolder(tmp_path / "runs/small")
    process = begin("study", "run", "small.yaml", cwd=tmp_path)
    until(lambda: under_way(folder, 2, 5), process)
    process.kill()
    process.communicate(timeout=60)
    kept = {run.trial: run.finished_at for run in results(folder).values()}
    assert len(kept) >= 2
    resumed = ipgl("study", "resume", "small", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert kept.items() <= {run.trial: run.finished_at for run in results(folder).values()}.items()
    assert_as_undisturbed(folder, undisturbed)
    assert_logged_once(folder)


def test_a_killed_worker_takes_the_others_back_to_the_checkpoint(tmp_path: Path) -> None:
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "small.yaml").write_text(SHARED)
    done = ipgl("study", "run", "small.yaml", cwd=tmp_path / "undisturbed")
    assert done.returncode == 0, done.stdout + done.stderr

    folder = StudyFolder(tmp_path / "killed/runs/small")
    process = begin("study", "run", "small.yaml", cwd=tmp_path / "killed")
    until(lambda: under_way(folder, 0, 5), process)
    workers = [number for number, title in descendants(process).items() if "RayTrainWorker" in title]
    assert len(workers) == 2, descendants(process)
    os.kill(max(workers), signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert_as_undisturbed(folder, StudyFolder(tmp_path / "undisturbed/runs/small"))
    assert_logged_once(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    ballast, space = disk / "ballast", os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)
    return ballast


def test_a_full_disk_ends_the_study_readable_and_resumable(
    small_disk: Path, undisturbed: StudyFolder
) -> None:
    (small_disk / "small.yaml").write_text(STUDY)
    folder = StudyFolder(small_disk / "runs/small")
    process = begin("study", "run", "small.yaml", cwd=small_disk)
    until(lambda: under_way(folder, 1, 5), process)
    kept = {run.trial: run.finished_at for run in results(folder).values()}
    ballast = fill(small_disk)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 2, output
    assert "refuses them (No space left on device)" in " ".join(output.split()), output
    assert "ipgl study resume small" in output
    assert kept.items() <= {run.trial: run.finished_at for run in results(folder).values()}.items()
    assert folder.read_state() is not None
    assert all(run.status == "completed" for run in results(folder).values())  # space is not a trial's fault

    ballast.unlink()
    resumed = ipgl("study", "resume", "small", cwd=small_disk)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert kept.items() <= {run.trial: run.finished_at for run in results(folder).values()}.items()
    assert_as_undisturbed(folder, undisturbed)
    assert_logged_once(folder)


# Flushing fails every third time in the processes that run trials, and once for longer than anybody waits.
FAILING = """
import errno, itertools, os, sys
from pathlib import Path

real, calls, outage = os.fsync, itertools.count(1), iter(())

def fsync(descriptor):
    global outage
    number = next(calls)
    if number >= 15:
        try:
            (Path(__file__).parent / "outage").touch(exist_ok=False)
            outage = iter(range(6))
        except FileExistsError:
            pass
    if number % 3 == 0 or next(outage, None) is not None:
        with (Path(__file__).parent / "failures").open("a") as file:
            file.write("x")
        raise OSError(errno.EIO, "Input/output error")
    real(descriptor)

if Path(sys.argv[0]).name == "default_worker.py" and os.fsync.__module__ == "posix":
    os.fsync = fsync
"""


def test_storage_that_fails_now_and_then(tmp_path: Path, undisturbed: StudyFolder) -> None:
    (tmp_path / "small.yaml").write_text(STUDY + "imports: [failing.py]\n")
    (tmp_path / "failing.py").write_text(FAILING)
    folder = StudyFolder(tmp_path / "runs/small")
    done = ipgl("study", "run", "small.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    failures = list(folder.path.rglob("failures"))
    assert failures
    assert len(failures[0].read_text()) > 30
    assert list(folder.path.rglob("outage"))
    assert_as_undisturbed(folder, undisturbed)
    assert_logged_once(folder)
    for path in folder.path.rglob("*.json"):
        json.loads(path.read_text())
