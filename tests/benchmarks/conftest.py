"""Benchmarks compare two things side by side in one run; figures are ratios of medians, kept as JSON."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

FILE = Path(".benchmarks") / "latest.json"


def medians(
    actions: dict[str, Callable[[], object]], rounds: int = 15, repeats: int = 20
) -> dict[str, float]:
    """Median seconds of one call of each action; the actions take turns, so that drift hits all alike."""
    for action in actions.values():
        action()
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            begin = time.perf_counter()
            for _ in range(repeats):
                action()
            seconds[name].append((time.perf_counter() - begin) / repeats)
    return {name: statistics.median(values) for name, values in seconds.items()}


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[dict[str, float]], None]:
    """Print a benchmark's figures and keep them with a description of the machine."""

    def write(figures: dict[str, float]) -> None:
        print(
            f"\n{request.node.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        )
        FILE.parent.mkdir(exist_ok=True)
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        kept[request.node.name] = figures | {
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        }
        FILE.write_text(json.dumps(kept, indent=1, sort_keys=True))

    return write


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def timed() -> Callable[..., dict[str, float]]:
    return medians
