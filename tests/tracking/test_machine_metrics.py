"""System metrics of the study's run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mlflow.entities import Run

from ipgl.config import TrackingSettings
from ipgl.tracking import make_tracker
from ipgl.tracking.machine_metrics import Machine, _Monitor


def test_sample_has_mlflows_names() -> None:
    sample = Machine().sample()
    assert 0 <= sample["system/cpu_utilization_percentage"] <= 100
    assert sample["system/system_memory_usage_megabytes"] > 1


def test_a_counter_that_fails_is_left_out() -> None:
    machine = Machine()

    class Broken:
        def collect_metrics(self) -> None:
            raise OSError("no counters here")

    count = len(machine._monitors)
    machine._monitors.insert(0, cast(_Monitor, Broken()))
    assert "system/cpu_utilization_percentage" in machine.sample()
    assert len(machine._monitors) == count


def test_seconds_since_the_beginning_are_the_step(
    storage: Path,
    make: SimpleNamespace,
    runs: Callable[[], dict[str, Run]],
    history: Callable[[Run, str], list[tuple[int, float]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = make.started + 100.4
    monkeypatch.setattr("ipgl.tracking.machine_metrics.time.time", lambda: now)
    tracker = make_tracker(TrackingSettings(), storage, storage / "digits" / "tracking.json")
    tracker.open_study(make.study())
    tracker.observe_machine()
    now += 5  # too soon
    tracker.observe_machine()
    now += 5
    tracker.observe_machine()
    steps = [step for step, _ in history(runs()["digits"], "system/cpu_utilization_percentage")]
    assert steps == [100, 110]
