"""One model without a cluster is the model of a study's final run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import ipgl
from ipgl.config import Component, EvaluationSettings, ResourceSettings, TrainingSettings, TrialConfig
from ipgl.core.errors import IpglError
from ipgl.core.registry import UnknownNameError
from ipgl.data import DATASETS
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.plan.study_plan import _complete
from ipgl.storage.trial_dir import TrialFolder
from ipgl.training import SilentReporter
from ipgl.trial.run import run_trial

DATA = {"name": "colored_mnist", "source": "digits", "pairs": {"train": 60, "held_out": 40}}
MODEL = {"name": "mlp", "width": 16}
METHOD = {"name": "ipg", "task_share": 0.5}
TRAINING = {"epochs": 3, "evaluations": 3, "batch_size": 100, "device": "cpu"}


def test_it_is_a_final_run_bit_for_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = ipgl.train(DATA, MODEL, METHOD, training=TRAINING, seed=5)
    assert capsys.readouterr().out.count("validation accuracy") == 3

    def complete(registry: object, given: Mapping[str, object]) -> Component:
        name = str(given["name"])
        settings = registry[name].settings  # type: ignore[index]
        return _complete(settings, name, {key: value for key, value in given.items() if key != "name"})

    config = TrialConfig(
        study="s",
        label="ipg",
        phase="final",
        seed=5,
        hyperparameters={},
        dataset=complete(DATASETS, DATA),
        model=complete(MODELS, MODEL),
        method=complete(METHODS, METHOD),
        training=TrainingSettings.model_validate(TRAINING),
        evaluation=EvaluationSettings(),
        resources=ResourceSettings(),
        selection="pair_robust",
    )
    folder = TrialFolder(tmp_path / "runs/s/trials/t")
    run = run_trial(config, folder, SilentReporter())
    assert run.status == "completed", run.failure
    assert trained.metrics == run.metrics
    assert trained.score == run.score
    weights = torch.load(folder.files.model, weights_only=True)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, weights[name])
    assert list(trained.history()["step"]) == [row["step"] for row in folder.read_history()]


def test_a_model_and_a_data_set_that_are_there_already() -> None:
    trained = ipgl.train(DATA, MODEL, "erm", training=TRAINING, progress=False)
    again = ipgl.train(
        trained.dataset, trained.model, "erm", training=TRAINING | {"epochs": 1}, progress=False
    )
    assert again.model is trained.model
    assert again.rows[0]["train/loss"] < trained.rows[0]["train/loss"]


def test_wrong_names_and_needs_are_said() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'imp'"):
        ipgl.train(DATA, MODEL, "imp", training=TRAINING)
    with pytest.raises(UnknownNameError, match="unknown model 'mpl': did you mean 'mlp'"):
        ipgl.train(DATA, "mpl", "erm", training=TRAINING)
    with pytest.raises(IpglError, match=r"needs its name .* but got the keys \['width'\]"):
        ipgl.train(DATA, {"width": 3}, "erm", training=TRAINING)
    without = DATA | {"pairs": {"train": 0, "held_out": 10}}
    with pytest.raises(IpglError, match="method 'ipg' needs invariance pairs"):
        ipgl.train(without, MODEL, "ipg", training=TRAINING)
