"""How many trials one driver can lead: trials that sleep and report, everything around them as in a real study.

Driver, its loop over the trials, the study's folder, MLflow and events are real; the trials' processes leave out torch,
of which this machine could not hold 200 copies. `IPGL_SCALE=50,100` chooses how many run at once,
`IPGL_SCALE_EVALUATIONS` how often each reports, and `IPGL_SCALE_SECONDS` how long each evaluation takes: long enough
that the last trial has begun before the first ends.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import pytest
import ray

from ipgl.config import TrialConfig
from ipgl.core.atomic_files import write_text
from ipgl.evaluation import RunResult
from ipgl.execution import pool as ray_pool
from ipgl.execution.engine import RayEngine
from ipgl.execution.events import AllEvents
from ipgl.execution.pack_messages import TrialCommands, TrialEvent
from ipgl.execution.pool import PackLayout
from ipgl.execution.recorder import TrialRecorder
from ipgl.execution.trial_function import SCORE
from ipgl.plan.study_plan import StudyPlan, load_plan
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.background_sync import BackgroundSync
from ipgl.study.study_tracker import StudyTracker
from ipgl.tracking import make_tracker
from ipgl.trial.records import base_result

pytestmark = [pytest.mark.bench, pytest.mark.ray, pytest.mark.timeout(3000)]

EVALUATIONS = int(os.environ.get("IPGL_SCALE_EVALUATIONS", "10"))
SECONDS = float(os.environ.get("IPGL_SCALE_SECONDS", "30"))
STUDY = """
name: scale
dataset: {{name: colored_mnist, source: digits}}
model: {{name: mlp, width: 16}}
methods: {{erm: {{}}}}
training: {{epochs: {evaluations}, evaluations: {evaluations}, hopeless_after: null}}
search: {{final_seeds: {trials}}}
resources: {{cpus_per_worker: {share}}}
"""


class Sleeper:
    """Stands for `PackActor`: the same orders, events and files, but sleep in place of training."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._events: list[TrialEvent] = []
        self._proceed = threading.Semaphore(0)

    def begin(self, function: tuple[str, list[tuple[str, str, str]]]) -> list[TrialEvent]:
        self._root, self._texts = Path(function[0]), function[1]
        return []

    def exchange(self, orders: TrialCommands) -> list[TrialEvent]:
        for number, parameters in orders.submit:
            threading.Thread(target=self._work, args=(number, parameters), daemon=True).start()
        for _ in orders.proceed:
            self._proceed.release()
        with self._news:
            self._news.wait_for(lambda: self._events, 5.0)
            events, self._events = self._events, []
            return events

    def _tell(self, number: int, kind: Literal["row", "end"], score: dict[str, float]) -> None:
        with self._news:
            self._events.append(TrialEvent(number, kind, score))
            self._news.notify_all()

    def _work(self, trial: int, parameters: dict[str, float]) -> None:
        key, start, result = self._texts[int(parameters["final"])]
        folder = self._root / key
        folder.mkdir(parents=True, exist_ok=True)
        begun, rows = time.time(), []
        write_text(folder / "trial.json", start)
        for number in range(1, EVALUATIONS + 1):
            time.sleep(SECONDS)
            row = {
                "evaluation": number,
                "step": 10 * number,
                "epoch": number,
                "time": time.time(),
                SCORE: 0.5,
            }
            rows.append(
                row | {f"validation/{name}": 0.5 for name in ("average", "flip_rate", "rho", "worst_group")}
            )
            write_text(folder / "history.json", json.dumps(rows))
            told = {SCORE: 0.5, "training_iteration": number}
            if number < EVALUATIONS:
                self._tell(trial, "row", told)
                self._proceed.acquire()
        write_text(folder / "result.json", result)
        write_text(folder / "timing.json", json.dumps({"begun": begun, "ended": time.time()}))
        self._tell(trial, "end", told)


class Asleep:
    """Stands for a `TrialFunction`; its pickled form holds no class of IPGL's, which would bring torch."""

    def __init__(self, plan: StudyPlan, folder: StudyFolder, trials: int) -> None:
        configs = [plan.trial("erm", {}, "final", seed) for seed in range(trials)]
        self.phase, self.label, self.finals = "final", "", configs
        self._root = folder.path / "trials"
        self._texts = [
            (
                config.key,
                json.dumps({"begun_at": time.time(), "config": config.model_dump(mode="json")}),
                _stopped(base_result(config, time.time())),
            )
            for config in configs
        ]

    def config(self, parameters: dict[str, float]) -> TrialConfig:
        return self.finals[int(parameters["final"])]

    def __reduce__(self) -> tuple[object, ...]:
        return tuple, ((str(self._root), self._texts),)


def _stopped(result: RunResult) -> str:
    return result.model_copy(update={"status": "stopped", "score": 0.5}).model_dump_json()


@pytest.mark.parametrize("trials", [int(text) for text in os.environ.get("IPGL_SCALE", "50").split(",")])
def test_trials_at_once(trials: int, tmp_path: Path, keep: Callable[[dict[str, float]], None]) -> None:
    ray.cloudpickle.register_pickle_by_value(__import__(__name__))
    file = tmp_path / "scale.yaml"
    file.write_text(STUDY.format(trials=trials, evaluations=EVALUATIONS, share=2 / trials))
    plan = load_plan(file)
    folder = StudyFolder(tmp_path / "scale")
    folder.path.mkdir()
    folder.files.source.write_text(file.read_text())
    tracker = make_tracker(plan.config.tracking, tmp_path, folder.files.tracking)
    study = StudyTracker(tracker, plan, folder, "scale-1", time.time())
    begun = time.time()
    with (
        mock.patch.dict(os.environ),
        mock.patch.object(ray_pool, "Packer", Sleeper),
        BackgroundSync(study) as sync,
        RayEngine(plan, folder, AllEvents(sync)) as engine,
    ):
        started = time.time()
        assert engine.concurrency == trials
        function: Any = Asleep(plan, folder, trials)
        record = TrialRecorder(folder, AllEvents(sync))
        engine._run(function, PackLayout(trials, trials, size=2), trials, record)
        ended = time.time()
    found = [json.loads(path.read_text()) for path in folder.path.glob("trials/*/timing.json")]
    assert len(found) == trials
    own = EVALUATIONS * SECONDS
    overheads = [each["ended"] - each["begun"] - own for each in found]
    last, first = max(each["begun"] for each in found), min(each["ended"] for each in found)
    keep(
        {
            "trials": trials,
            "seconds between reports": SECONDS,
            "all at once for (s)": max(0.0, first - last),
            "Ray (s)": started - begun,
            "start of all (s)": last - started,
            "study (s)": ended - started,
            "reporting (share of a trial, median)": statistics.median(overheads) / own,
            "reporting (share of a trial, largest)": max(overheads) / own,
            "driver's peak (GiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "reports a second": trials * EVALUATIONS / (ended - started),
        }
    )
