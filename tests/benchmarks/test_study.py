"""Whole studies as a user runs them: what is spent beside the trials, and what packing saves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.ray, pytest.mark.mnist, pytest.mark.timeout(1800)]

STUDY = """
name: measured
dataset: {{name: colored_mnist, source: mnist, pairs: {{train: 1000, held_out: 500}}}}
model: {{name: mlp, width: {width}}}
methods: {{{method}}}
training:
  epochs: {epochs}
  batch_size: 64
  optimiser: {{name: adam, lr: 1.0e-3}}
  hopeless_after: null
  checkpoint_seconds: 2
  device: cpu
search: {{trials: {trials}, final_seeds: {finals}, pack: {pack}, sampler: random, scheduler: {{name: none}}}}
resources: {{cpus_per_worker: 1}}
"""


class Figures(TypedDict):
    """What was measured of a study.

    Attributes:
        begin: When it was started.
        wall: How long it took.
        spans: When the first run of a phase began, when the last one ended, and how long they took together.
        found: Hyperparameters and test metrics of each run.
    """

    begin: float
    wall: float
    spans: dict[str, tuple[float, float, float]]
    found: dict[str, tuple[object, object]]


ERM = "erm: {training: {optimiser: {name: adam, lr: {log_uniform: [1.0e-4, 1.0e-2]}}}}"
IPG = "ipg: {update: additive, discrepancy: logit, adaptivity: off, strength: {log_uniform: [1, 100]}}"


@pytest.fixture(autouse=True)
def _needs_mnist() -> None:
    if not (Path(os.environ.get("IPGL_DATA", "data")) / "MNIST/raw").is_dir():
        pytest.skip("needs the real MNIST below $IPGL_DATA")


def study(
    folder: Path, *, method: object, width: int, epochs: int, trials: int, finals: int, pack: object
) -> Figures:
    """Run a study; its wall time, and its runs' times by phase."""
    folder.mkdir()
    (folder / "measured.yaml").write_text(
        STUDY.format(method=method, width=width, epochs=epochs, trials=trials, finals=finals, pack=pack)
    )
    begin = time.time()
    command = [sys.executable, "-m", "ipgl", "study", "run", "measured.yaml"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    wall = time.time() - begin
    runs = [json.loads(file.read_text()) for file in folder.glob("runs/measured/trials/*/result.json")]
    assert all(run["status"] == "completed" for run in runs)
    assert len(runs) == trials + finals
    spans: dict[str, tuple[float, float, float]] = {}
    for phase in ("search", "final"):
        times = [(run["started_at"], run["finished_at"]) for run in runs if run["phase"] == phase]
        spans[phase] = (min(a for a, _ in times), max(b for _, b in times), sum(b - a for a, b in times))
    hyperparameters = {run["trial"]: (run["hyperparameters"], run["metrics"]) for run in runs}
    return {"begin": begin, "wall": wall, "spans": spans, "found": hyperparameters}


def test_overhead(tmp_path: Path, keep: Callable[[dict[str, float]], None]) -> None:
    """Trials of five seconds, two at a time, with MLflow and checkpoints."""
    trials, finals = 50, 50
    found = study(tmp_path / "study", method=IPG, width=64, epochs=5, trials=trials, finals=finals, pack=1)
    spans = found["spans"].values()
    own, between = sum(span[2] for span in spans) / 2, sum(span[1] - span[0] for span in spans)
    keep(
        {
            "trials": trials + finals,
            "a trial (s)": 2 * own / (trials + finals),
            "study (s)": found["wall"],
            "beyond the trials (%)": 100 * (found["wall"] / own - 1),
            "at most (%)": 10,
            "of which per trial (%)": 100 * (between / own - 1),
            "of which once (s)": found["wall"] - between,
            "command to first trial (s)": found["spans"]["search"][0] - found["begin"],
            "to first trial, at most (s)": 12,
        }
    )


@pytest.mark.parametrize(
    ("method", "width", "epochs"),
    [(ERM, 32, 15), (ERM, 64, 12), (IPG, 64, 5)],
    ids=["erm, 32 wide", "erm, 64 wide", "ipg, 64 wide, 64 pairs a step"],
)
def test_packing(
    method: object, width: int, epochs: int, tmp_path: Path, keep: Callable[[dict[str, float]], None]
) -> None:
    """Search trials per core-hour with and without packing; what they find is the same."""
    trials = 32
    measured = partial(study, method=method, width=width, epochs=epochs, trials=trials, finals=8)
    alone = measured(tmp_path / "alone", pack=1)
    packed = measured(tmp_path / "packed", pack="auto")
    hours = {
        name: (found["spans"]["search"][1] - found["spans"]["search"][0]) * 2 / 3600
        for name, found in (("alone", alone), ("packed", packed))
    }
    keep(
        {f"{name}: trials per core-hour": trials / value for name, value in hours.items()}
        | {
            "search, speed-up": hours["alone"] / hours["packed"],
            "at least": 2,
            "study, speed-up": alone["wall"] / packed["wall"],
            "same results (share)": sum(
                packed["found"].get(key) == value for key, value in alone["found"].items()
            )
            / len(alone["found"]),
        }
    )
