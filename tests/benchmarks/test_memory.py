"""What eight trials at once take beyond what eight trials on a tiny data set take: one data set, or eight."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from narrowing import as_tensor

from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.trial.dataset_buffers import to_buffers

pytestmark = [pytest.mark.bench, pytest.mark.ray, pytest.mark.mnist, pytest.mark.timeout(1200)]

STUDY = """
name: memory
imports: [alone.py]
dataset: {{name: colored_mnist, source: {source}, convention: {convention}, pairs: {{train: 100, held_out: 100}}}}
model: {{name: mlp, width: 256}}
methods: {{erm: {{}}}}
training: {{epochs: {epochs}, batch_size: 64, evaluations: 4, device: cpu}}
search: {{final_seeds: 8, concurrency: 8, pack: 1}}
resources: {{cpus_per_worker: 0.125}}
tracking: {{name: none}}
"""
# Nothing is worth sharing then, and every process builds its own.
ALONE = "from ipgl.study import ray_share\nray_share.LEAST_BYTES = 1 << 60\n"


def held(pid: int) -> int:
    """Bytes that a process holds of memory and of the object store; what several map counts once (PSS).

    Not the pages of programs and libraries, which the system reads again when it wants their room.
    """
    total, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first:
            name = rest[4] if len(rest) > 4 else ""
            counts = not name.startswith("/") or "plasma" in name
        elif first == "Pss:" and counts:
            total += 1024 * int(rest[0])
    return total


def peak(folder: Path, source: str, convention: str, epochs: int, shared: bool) -> float:
    """Most bytes that the study's processes held together."""
    folder.mkdir()
    (folder / "alone.py").write_text("" if shared else ALONE)
    (folder / "memory.yaml").write_text(STUDY.format(source=source, convention=convention, epochs=epochs))
    command = [sys.executable, "-m", "ipgl", "study", "run", "memory.yaml"]
    most = 0.0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            total = 0
            try:
                family = [
                    process.pid,
                    *(one.pid for one in psutil.Process(process.pid).children(recursive=True)),
                ]
            except psutil.Error:
                continue
            for pid in family:
                with suppress(OSError):  # it has just ended
                    total += held(pid)
            most = max(most, total)
            time.sleep(0.3)
    assert process.returncode == 0
    return most


@pytest.mark.parametrize("convention", ["irm", "domainbed"])
def test_eight_trials_of_mnist(
    convention: str, tmp_path: Path, keep: Callable[[dict[str, float]], None]
) -> None:
    if not (Path(os.environ.get("IPGL_DATA", "data")) / "MNIST/raw").is_dir():
        pytest.skip("needs the real MNIST below $IPGL_DATA")
    data = build_colored_mnist(ColoredMnistSettings(source="mnist", convention=convention))
    size = float(sum(part.nbytes for part in to_buffers(data) or ()))
    # Eight copies of weights, gradients and two moments in float32; the images are 2 x 14 x 14 or 2 x 28 x 28.
    inputs = as_tensor(data.train.x)[0].numel()
    models = 8.0 * 16 * (inputs * 256 + 256 * 256 + 256 * data.num_classes)
    del data
    # So many epochs that all eight train at the same time for a while.
    empty = peak(tmp_path / "empty", "digits", "irm", 200, True)
    shared = peak(tmp_path / "shared", "mnist", convention, 2, True) - empty
    alone = peak(tmp_path / "alone", "mnist", convention, 2, False) - empty
    keep(
        {
            "one data set and 8 models (MB)": (size + models) / 1e6,
            "shared (MB)": shared / 1e6,
            "each its own (MB)": alone / 1e6,
            "shared, of one data set and 8 models": shared / (size + models),
            "at most": 1.5,
            "each its own, of the same": alone / (size + models),
            "the processes themselves (MB)": empty / 1e6,
        }
    )
