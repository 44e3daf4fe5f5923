"""How many workers fit: whole shares of devices and nodes, never of their sum."""

from __future__ import annotations

import pytest

from ipgl.execution.capacity import worker_slots

TWO_GPUS = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "slots"),
    [
        ([{"CPU": 2.0}], 1, 0, [2]),
        ([{"CPU": 2.0}], 0.1, 0, [20]),
        ([{"CPU": 3.0}, {"CPU": 3.0}], 2, 0, [1, 1]),  # not three of six CPUs
        ([TWO_GPUS], 1, 0.6, [2]),  # not three of two GPUs
        ([TWO_GPUS], 1, 0.5, [4]),
        ([TWO_GPUS], 1, 0.1, [8]),  # CPUs are fewer
        ([TWO_GPUS], 1, 2, [1]),
        ([{"CPU": 8.0, "GPU": 3.0}, {"CPU": 8.0, "GPU": 3.0}], 1, 2, [1, 1]),
        ([{"CPU": 8.0}], 1, 1, [0]),
        ([{}], 1, 0, [0]),
        ([], 1, 0, []),
    ],
)
def test_worker_slots(nodes: list[dict[str, float]], cpus: float, gpus: float, slots: list[int]) -> None:
    assert worker_slots(nodes, cpus, gpus) == slots
