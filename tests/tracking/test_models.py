"""Registered models: loadable in one line, registered once, and never an error of the study."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, INTERNAL_ERROR, PERMISSION_DENIED
from mlflow.pyfunc import PyFuncModel
from torch import nn

from ipgl.config import TrackingSettings
from ipgl.core.errors import TrackingError
from ipgl.tracking import ModelView, Tracker, make_tracker
from ipgl.tracking.models import legal_aliases

KEY = "ipg-final-s1"


@pytest.fixture
def linear() -> nn.Linear:
    """Logits (x0, x1, 0) of an input (x0, x1)."""
    model = nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        model.bias.zero_()
    return model.eval()


@pytest.fixture
def view(linear: nn.Linear) -> ModelView:
    return ModelView("ipg", KEY, lambda: (linear, np.zeros((2, 2), np.float32)), ("a", "b", "c"))


@pytest.fixture
def close(storage: Path, make: SimpleNamespace) -> Callable[..., Tracker]:
    """Function that plays a driver which shows one run and closes the study."""

    def closing(*models: ModelView, **changes: str) -> Tracker:
        tracker = make_tracker(TrackingSettings(), storage, storage / "digits" / "tracking.json")
        tracker.open_study(make.study(**changes))
        tracker.record(make.run(result=make.result()))
        tracker.close_study(make.results(), models=models)
        return tracker

    return closing


def test_the_models_page_is_linked_only_if_there_is_one(
    close: Callable[..., Tracker], view: ModelView
) -> None:
    assert (
        close(view).links["Models"] == "http://127.0.0.1:5000/#/models/digits?workflowType=machine_learning"
    )
    assert "Models" not in close().links


def load(storage: Path, uri: str) -> PyFuncModel:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{storage / 'mlflow.db'}")
    try:
        return mlflow.pyfunc.load_model(uri)
    finally:
        mlflow.set_tracking_uri(before)


def test_predicts_probabilities_of_batches_of_any_size(
    close: Callable[..., Tracker], view: ModelView, storage: Path
) -> None:
    close(view)
    model = load(storage, "models:/digits@ipg")
    for size in (1, 2, 5):
        inputs = np.tile(np.array([[np.log(2), np.log(3)]], np.float32), (size, 1))
        # softmax of (log 2, log 3, 0) is (2, 3, 1) / 6
        assert model.predict(inputs) == pytest.approx(np.tile([1 / 3, 1 / 2, 1 / 6], (size, 1)), abs=1e-6)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 2)
    assert model.metadata.signature.outputs.inputs[0].shape == (-1, 3)
    assert model.metadata.metadata == {"class_names": ["a", "b", "c"]}


def test_holds_no_pickle_and_stays_on_the_cpu(
    close: Callable[..., Tracker], view: ModelView, client: MlflowClient
) -> None:
    close(view)
    (logged,) = client.search_logged_models(["1"])
    names = [entry.path for entry in client.list_logged_model_artifacts(logged.model_id, "data")]
    assert names == ["data/model.pt2"]
    top = [entry.path for entry in client.list_logged_model_artifacts(logged.model_id)]
    assert {"MLmodel", "input_example.json"} <= set(top)
    from mlflow.models import Model

    found = Model.load(logged.artifact_location)
    assert found.flavors["python_function"]["config"] == {"device": "cpu"}
    assert found.model_id == logged.model_id


def test_registered_once_over_restarts(
    close: Callable[..., Tracker],
    view: ModelView,
    client: MlflowClient,
    runs: Callable[[], dict[str, Run]],
    storage: Path,
) -> None:
    close(view)
    (storage / "digits" / "tracking.json").unlink()
    again = ModelView("ipg", KEY, lambda: pytest.fail("exported twice"), view.class_names)
    close(again)
    (version,) = client.search_model_versions()
    (logged,) = client.search_logged_models(["1"])
    run = runs()["ipg seed 1"]
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    assert (version.name, int(version.version), version.run_id) == ("digits", 1, run.info.run_id)
    expected = {
        "ipgl.study": "digits",
        "ipgl.execution": "e1",
        "ipgl.trial": KEY,
        "ipgl.label": "ipg",
        "ipgl.config_hash": "c0ffee",
        "ipgl.data_fingerprint": "da7a",
        "ipgl.git_revision": "0123abc",
    }
    assert version.tags == expected
    assert {metric.key for metric in logged.metrics} == {"test/worst_group", "area/mixture"}
    assert len(client.get_metric_history(run.info.run_id, "test/worst_group")) == 1
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "digits", "version": 1}]
    assert logged.params == {"strength": "2.5", "model": "mlp"}


@pytest.mark.parametrize("step", ["log_model_artifacts", "finalize_logged_model", "create_model_version"])
def test_a_death_at_any_step_leaves_one_model(
    close: Callable[..., Tracker],
    view: ModelView,
    client: MlflowClient,
    runs: Callable[[], dict[str, Run]],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    def die(*_: MlflowClient | str, **__: object) -> None:
        raise MlflowException("gone", INTERNAL_ERROR)

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, step, die)
        with pytest.raises(TrackingError, match="gone"):
            close(view)
    assert runs()["digits"].info.status == "RUNNING", "an outcome that lacks its models is not finished"
    close(view)
    assert len(client.search_logged_models(["1"])) == 1
    assert len(client.search_model_versions()) == 1
    assert len(runs()["ipg seed 1"].outputs.model_outputs) == 1
    assert runs()["digits"].info.status == "FINISHED"


def test_another_execution_takes_the_alias_and_leaves_the_version(
    close: Callable[..., Tracker], view: ModelView, client: MlflowClient
) -> None:
    close(view)
    close(view, execution="e2")
    assert len(client.search_model_versions()) == 2
    assert client.get_model_version_by_alias("digits", "ipg").tags["ipgl.execution"] == "e2"


@pytest.mark.parametrize("code", [ENDPOINT_NOT_FOUND, PERMISSION_DENIED])
def test_a_server_that_refuses_is_a_warning(
    close: Callable[..., Tracker],
    view: ModelView,
    runs: Callable[[], dict[str, Run]],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    def refuse(*_: MlflowClient | str | dict[str, str], **__: object) -> None:
        raise MlflowException("not here", code)

    monkeypatch.setattr(MlflowClient, "create_registered_model", refuse)
    tracker = close(view)
    assert tracker.warnings == [
        "the model of 'ipg' is not registered in MLflow: the server refuses it: not here"
    ]
    assert runs()["digits"].info.status == "FINISHED"


def test_a_model_that_cannot_be_exported_is_a_warning(
    close: Callable[..., Tracker], client: MlflowClient, runs: Callable[[], dict[str, Run]]
) -> None:
    def load() -> NoReturn:
        raise RuntimeError("weights are gone\nand more")

    tracker = close(ModelView("ipg", KEY, load, ("a",)))
    (warning,) = tracker.warnings
    assert warning.endswith("it cannot be exported: RuntimeError: weights are gone")
    assert client.search_logged_models(["1"]) == []
    assert runs()["digits"].info.status == "FINISHED"


def test_aliases_are_legal_and_distinct() -> None:
    assert legal_aliases(["ipg", "ipg.1", "ipg_1", "latest", "v2"]) == {
        "ipg": "ipg",
        "ipg.1": "ipg_1",
        "ipg_1": "ipg_1_",
        "latest": "latest_",
        "v2": "v2_",
    }


def test_nothing_lands_in_the_working_folder(
    close: Callable[..., Tracker], view: ModelView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    close(view)
    assert list(elsewhere.iterdir()) == []
