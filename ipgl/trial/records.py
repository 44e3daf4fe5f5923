"""Results of trials that completed, stopped early or failed, and of the environment they ran in."""

from __future__ import annotations

import math
import platform
import time

import torch

from ipgl.config import TrialConfig, config_hash
from ipgl.core.version import __version__
from ipgl.evaluation import RunResult


def base_result(config: TrialConfig, started_at: float) -> RunResult:
    """The fields that all results of a trial share; the status is `failed` until it is replaced."""
    data = config.model_dump(mode="json")
    return RunResult(
        study=config.study,
        label=config.label,
        method=config.method.name,
        phase=config.phase,
        trial=config.key,
        seed=config.seed,
        status="failed",
        hyperparameters=config.hyperparameters,
        config=data,
        config_hash=config_hash(data),
        started_at=started_at,
        finished_at=time.time(),
    )


def stopped_result(base: RunResult, history: list[dict[str, float]], reason: str = "") -> RunResult:
    """The result of a trial that was stopped early: metrics of its last evaluation, and no test metrics."""
    last = history[-1] if history else {}
    return base.model_copy(
        update={
            "status": "stopped",
            "stop_reason": reason,
            "score": last.get("score", math.nan),
            "validation": validation_metrics(last),
            "steps": int(last.get("step", 0)),
            "finished_at": time.time(),
        }
    )


def validation_metrics(row: dict[str, float]) -> dict[str, float]:
    """The validation metrics of an evaluation row, without their prefix."""
    return {
        name.removeprefix("validation/"): value
        for name, value in row.items()
        if name.startswith("validation/")
    }


def trial_environment() -> dict[str, str]:
    """Versions of packages and properties of the machine, by name, for the result's record."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "ipgl": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "host": platform.node(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": str(torch.get_num_threads()),
    }
