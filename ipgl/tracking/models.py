"""Trained models as versions of one registered MLflow model, loadable without this package.

The form is `torch.export` (`pt2`): a graph and its weights, no pickled class, any batch size. `pyfunc` then predicts
probabilities from a numpy array:

    mlflow.pyfunc.load_model("models:/<study>@<label>").predict(inputs)

Exactly once, like runs: model and version are found by their tags before they are created.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipgl.tracking.base import ModelView
from ipgl.tracking.mlflow_values import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

_REFUSALS = (400, 401, 403, 404, 501)
_RESERVED_ALIAS = re.compile(r"v\d+|latest", re.IGNORECASE)


class ModelError(Exception):
    """This model cannot be registered, now or later; the message says why."""


def legal_aliases(labels: Iterable[str]) -> dict[str, str]:
    """An alias for each label: the label itself where MLflow allows it, else with `_` in place of what it refuses."""
    aliases: dict[str, str] = {}
    for label in labels:
        alias = re.sub(r"[^\w\-]", "_", label)
        if _RESERVED_ALIAS.fullmatch(alias):
            alias += "_"
        while alias in aliases.values():
            alias += "_"
        aliases[label] = alias
    return aliases


def register(
    client: MlflowClient,
    view: ModelView,
    *,
    name: str,
    alias: str,
    experiment_id: str,
    run_id: str,
    tags: Mapping[str, str],
    description: str,
    parameters: Mapping[str, str],
    metrics: Sequence[Point],
    question: str,
) -> str:
    """Make sure that the model is a version of the registered model `name`, with the alias on it.

    Args:
        client: The server or database.
        view: The model.
        name: Registered model; created if missing.
        alias: Name under which this version is loaded; taken from the version that had it.
        experiment_id: Experiment that holds the run.
        run_id: Run that trained the model.
        tags: Must tell this model from all others of the experiment by `ipgl.execution` and `ipgl.trial`.
        description: Markdown, shown with the version.
        parameters: Shown with the model.
        metrics: Shown with the model; points that the run has too.
        question: Description of the registered model when it is created.

    Returns:
        The version's number.

    Raises:
        ModelError: The server does not offer or allow it, or the model cannot be exported.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = _find_version(client, name, tags)
        if found is None:
            model = _logged_model(client, view, experiment_id, run_id, tags, parameters)
            _log_metrics(client, run_id, model.model_id, metrics)
            found = _create_version(client, name, model, run_id, tags, description, question)
        client.set_registered_model_alias(name, alias, found.version)
        # The model's page reads its versions from this tag, which only MLflow's fluent API sets itself.
        versions = json.dumps([{"name": name, "version": int(found.version)}])
        for model in client.search_logged_models([experiment_id], _identity(tags)):
            client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": versions})
    except MlflowException as error:
        if error.get_http_status_code() not in _REFUSALS:
            raise
        raise ModelError(f"the server refuses it: {error.message}") from error
    return str(found.version)


def _identity(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.`{name}` = '{tags[name]}'" for name in ("ipgl.execution", "ipgl.trial"))


def _find_version(client: MlflowClient, name: str, tags: Mapping[str, str]) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' and {_identity(tags)}")
    return found[0] if found else None


def _logged_model(
    client: MlflowClient,
    view: ModelView,
    experiment_id: str,
    run_id: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, str],
) -> LoggedModel:
    found = client.search_logged_models([experiment_id], _identity(tags))
    if found and found[0].status == "READY":
        return found[0]
    with tempfile.TemporaryDirectory() as folder:
        # Export first: nothing is created on the server for a model that cannot be exported.
        path = Path(folder) / "model"
        _export(view, path)
        if found:
            model = found[0]
        else:
            model = client.create_logged_model(
                experiment_id, view.label, run_id, dict(tags), dict(parameters), "classifier"
            )
        _name_in_description(path, model.model_id, run_id)
        client.log_model_artifacts(model.model_id, str(path))
    outputs = client.get_run(run_id).outputs
    if model.model_id not in [output.model_id for output in (outputs.model_outputs if outputs else [])]:
        from mlflow.entities import LoggedModelOutput

        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    return client.finalize_logged_model(model.model_id, "READY")


def _log_metrics(client: MlflowClient, run_id: str, model_id: str, points: Sequence[Point]) -> None:
    """Link test metrics to the model; the run, which has them already, is left as it is."""
    from mlflow.entities import Metric

    metrics = [
        Metric(point.name, point.value, point.milliseconds, point.step, model_id=model_id) for point in points
    ]
    client.log_batch(run_id, metrics=metrics)


def _create_version(
    client: MlflowClient,
    name: str,
    model: LoggedModel,
    run_id: str,
    tags: Mapping[str, str],
    description: str,
    question: str,
) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, {"ipgl.study": tags["ipgl.study"]}, question)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name,
        # Not `models:/<id>`, which the client would look up at the process's default address.
        model.artifact_location,
        run_id,
        tags=dict(tags),
        description=description,
        model_id=model.model_id,
    )


def _export(view: ModelView, path: Path) -> None:
    """Write the model with signature and input example as MLflow's folder of files."""
    import mlflow.pytorch
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema, TensorSpec
    from torch import nn

    def batch_of(*shape: int) -> Schema:
        return Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))])

    try:
        model, example = view.load()
        mlflow.pytorch.save_model(
            nn.Sequential(model, nn.Softmax(dim=1)).eval(),
            path,
            signature=ModelSignature(batch_of(*example.shape[1:]), batch_of(len(view.class_names))),
            input_example=example,
            serialization_format="pt2",
            # By default MLflow infers them by loading the model in another process, which takes half a minute.
            pip_requirements=[
                f"{package}=={version(package).partition('+')[0]}" for package in ("mlflow", "torch", "numpy")
            ],
            metadata={"class_names": list(view.class_names)},
        )
    except Exception as error:  # torch.export raises many types; none may end the study
        first = (str(error).strip().splitlines() or [""])[0]
        raise ModelError(f"it cannot be exported: {type(error).__name__}: {first}") from error


def _name_in_description(path: Path, model_id: str, run_id: str) -> None:
    """Write the logged model's id, and that its weights are on the CPU, to the `MLmodel` file."""
    from mlflow.models import Model

    description: Any = Model.load(str(path))
    description.model_id, description.run_id = model_id, run_id
    # MLflow loads onto a GPU where there is one, which an exported graph refuses.
    description.flavors["python_function"]["config"] = {"device": "cpu"}
    description.save(str(path / "MLmodel"))
