"""Both ways of leading trials, Ray Tune's and the packs' own, draw, stop, score and record the same."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from ipgl.evaluation import RunResult
from ipgl.execution.engine import RayEngine
from ipgl.execution.events import AllEvents
from ipgl.execution.pool import PackLayout
from ipgl.plan.study_plan import load_plan
from ipgl.storage.study_dir import StudyFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

STUDY = """
name: small
dataset: {name: colored_mnist, source: digits, pairs: {train: 100, held_out: 100}}
model: {name: mlp, width: 16}
methods:
  ipg: {task_share: {uniform: [0.3, 0.7]}, training: {optimiser: {name: adam, lr: {log_uniform: [1.0e-4, 1]}}}}
training: {epochs: 12, evaluations: 6, device: cpu, hopeless_after: null}
search:
  {sampler: tpe, startup_trials: 3, trials: 8, scheduler: {name: asha, grace_evaluations: 2, reduction_factor: 3}}
tracking: {name: none}
"""


class Seen:
    """What an observer is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def began(self, config: object) -> None:
        self.events.append(("began", getattr(config, "key", "")))

    def reported(self, config: object, score: float) -> None:
        self.events.append(("reported", f"{getattr(config, 'key', '')} {score!r}"))

    def ended(self, result: RunResult) -> None:
        self.events.append(("ended", f"{result.trial} {result.status}"))


def searched(folder: Path, layout: PackLayout) -> tuple[list[RunResult], list[tuple[str, str]]]:
    """A label's search with one trial at a time."""
    folder.mkdir()
    (folder / "small.yaml").write_text(STUDY)
    study = StudyFolder(folder / "runs/small")
    study.path.mkdir(parents=True)
    seen = Seen()
    with (
        mock.patch.dict(os.environ),  # Ray leaves variables there
        mock.patch.object(RayEngine, "_layout", return_value=layout),
        RayEngine(load_plan(folder / "small.yaml"), study, AllEvents(seen)) as engine,
    ):
        engine.search("ipg")
    return [trial.require_result() for trial in study.trials()], seen.events


def test_equal_seeds_give_equal_configurations_scores_stops_and_events(tmp_path: Path) -> None:
    by_tune, tune_events = searched(tmp_path / "tune", PackLayout(at_once=1, processes=1, size=1))
    by_pool, pool_events = searched(tmp_path / "pool", PackLayout(at_once=1, processes=1, size=2))
    assert len(by_tune) == 8
    assert {run.status for run in by_tune} == {"completed", "stopped"}, [run.score for run in by_tune]
    same = {
        "hyperparameters",
        "status",
        "score",
        "steps",
        "metrics",
        "groups",
        "curves",
        "validation",
        "number",
    }
    assert [run.model_dump(include=same) for run in by_tune] == [
        run.model_dump(include=same) for run in by_pool
    ]
    assert tune_events == pool_events
