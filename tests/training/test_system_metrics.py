"""What a run takes from its machine."""

from __future__ import annotations

import mmap
import time

import psutil
import pytest
import torch

from ipgl.training import system_metrics

CPU = torch.device("cpu")


def test_names_on_a_cpu() -> None:
    assert list(system_metrics(CPU)) == ["system/memory_mib", "system/cpu_percent"]


def test_memory_is_resident_and_in_mib() -> None:
    before = system_metrics(CPU)["system/memory_mib"]
    assert before == pytest.approx(psutil.Process().memory_info().rss / 1024**2, abs=20)
    # Pages of its own: an allocator may have memory to spare that is resident already.
    held = mmap.mmap(-1, 64 * 2**20)
    for _ in range(64):
        held.write(b"1" * 2**20)
    grown = system_metrics(CPU)["system/memory_mib"] - before
    assert 40 < grown < 100
    assert len(held) == 64 * 2**20


def test_cpu_time_since_the_call_before() -> None:
    system_metrics(CPU)
    begin = time.process_time()
    while time.process_time() - begin < 0.3:
        pass
    busy = system_metrics(CPU)["system/cpu_percent"]
    time.sleep(0.3)
    idle = system_metrics(CPU)["system/cpu_percent"]
    # Other programs may take the core in between, so that a busy loop gets less than all of it.
    assert busy > 20
    assert idle < busy / 2


@pytest.mark.gpu
def test_gpu_memory_is_the_largest_allocation_in_mib() -> None:
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    before = system_metrics(device)["system/gpu_memory_mib"]
    held = torch.ones(64, 2**20, dtype=torch.uint8, device=device)
    assert system_metrics(device)["system/gpu_memory_mib"] - before == pytest.approx(64, abs=1)
    del held
    assert system_metrics(device)["system/gpu_memory_mib"] - before == pytest.approx(64, abs=1)
