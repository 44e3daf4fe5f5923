"""What a study on a cluster of several nodes outlives: a node's death, and the whole cluster's."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from faults import (
    SHARED,
    STUDY,
    assert_as_undisturbed,
    assert_logged_once,
    begin,
    command,
    histories,
    ipgl,
    results,
    under_way,
    until,
)
from hosts import Hosts
from nodes import Nodes

from ipgl.storage.study_dir import StudyFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(500)]


def undisturbed(cwd: Path, study: str) -> StudyFolder:
    cwd.mkdir()
    (cwd / "small.yaml").write_text(study)
    done = ipgl("study", "run", "small.yaml", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return StudyFolder(cwd / "runs/small")


def finished(folder: StudyFolder) -> dict[str, float]:
    return {run.trial: run.finished_at for run in results(folder).values()}


def rows(folder: StudyFolder) -> int:
    return sum(len(found) for found in histories(folder).values())


@pytest.mark.parametrize(
    ("study", "title", "cpus"),
    [(STUDY, "ray::ImplicitFunc", (0, 1, 1)), (SHARED, "RayTrainWorker", (1, 1, 1))],
    ids=["a trial a node", "two workers of one trial"],
)
def test_a_killed_node_s_work_goes_on_elsewhere(
    tmp_path: Path, study: str, title: str, cpus: tuple[int, ...]
) -> None:
    expected = undisturbed(tmp_path / "undisturbed", study)
    (tmp_path / "small.yaml").write_text(study)
    folder = StudyFolder(tmp_path / "runs/small")
    with Nodes(*cpus) as nodes:
        process = begin("study", "run", "small.yaml", "--address", nodes.address, cwd=tmp_path)
        until(lambda: under_way(folder, 0 if study is SHARED else 1, 5), process)
        kept = finished(folder)
        busy = {nodes.of(number) for number, shown in nodes.titles().items() if title in shown} - {0}
        assert busy
        nodes.kill(min(busy))
        killed_at, before = time.monotonic(), rows(folder)
        until(lambda: rows(folder) > before, process)
        print(f"training went on {time.monotonic() - killed_at:.1f} s after its node's death")
        output = process.communicate(timeout=400)[0]
        assert process.returncode == 0, output
    assert kept.items() <= finished(folder).items()
    assert_as_undisturbed(folder, expected)
    assert_logged_once(folder)


def test_a_killed_cluster_s_study_is_resumed_on_another(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "undisturbed", STUDY)
    (tmp_path / "small.yaml").write_text(STUDY)
    folder = StudyFolder(tmp_path / "runs/small")
    with Nodes(0, 1) as nodes:
        process = begin("study", "run", "small.yaml", "--address", nodes.address, cwd=tmp_path)
        until(lambda: under_way(folder, 2, 5), process)
        nodes.kill_all()
        os.kill(process.pid, signal.SIGKILL)  # the study's own process was on the head as well
        process.communicate(timeout=60)
    kept = finished(folder)
    assert len(kept) >= 2
    with Nodes(0, 1) as nodes:
        resumed = ipgl("study", "resume", "small", "--address", nodes.address, cwd=tmp_path)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert kept.items() <= finished(folder).items()
    assert_as_undisturbed(folder, expected)
    assert_logged_once(folder)


@pytest.mark.skipif(not Hosts.possible(), reason="making network namespaces needs root and iproute2")
def test_a_killed_host_s_work_goes_on_at_another_address(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "undisturbed", STUDY)
    (tmp_path / "small.yaml").write_text(STUDY)
    folder = StudyFolder(tmp_path / "runs/small")
    with Hosts(tmp_path) as hosts:
        process = hosts.begin(0, command("study", "run", "small.yaml", "--address", hosts.address), tmp_path)
        until(lambda: under_way(folder, 1, 5), process)
        kept = finished(folder)
        busy = [
            host
            for host in (1, 2)
            if any("ray::ImplicitFunc" in shown for shown in hosts.titles(host).values())
        ]
        assert len(busy) == 1
        hosts.kill(busy[0])
        output = process.communicate(timeout=400)[0]
        assert process.returncode == 0, output
    assert kept.items() <= finished(folder).items()
    assert_as_undisturbed(folder, expected)
    assert_logged_once(folder)
