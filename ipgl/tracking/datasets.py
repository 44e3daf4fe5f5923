"""Data sets as inputs of MLflow runs: name, fingerprint, source, shapes and group sizes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ipgl.core.flatten import flatten
from ipgl.evaluation.run_result import RunResult
from ipgl.tracking.base import DataView
from ipgl.tracking.group_table import name_of
from ipgl.tracking.mlflow_values import parameter_texts

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

# MLflow refuses longer values.
_LONGEST_DIGEST = 36
_LONGEST_SOURCE = 60_000


def dataset_input(data: DataView, result: RunResult) -> DatasetInput:
    """Convert the data set to an input of an MLflow run.

    Args:
        data: The data set.
        result: A completed run on the data set; provides the group sizes.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=data.name,
        digest=data.fingerprint[:_LONGEST_DIGEST],
        # The source type of data that code generates, here this package with these settings.
        source_type="code",
        source=_source(data),
        schema=json.dumps(_schema(data)),
        profile=json.dumps(_profile(data, result)),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training and test")])


def _source(data: DataView) -> str:
    settings = parameter_texts(flatten(data.settings))
    source = json.dumps({"tags": {"mlflow.source.name": f"ipgl data set {data.name}", **settings}})
    return source if len(source) <= _LONGEST_SOURCE else json.dumps({"tags": {}})


def _schema(data: DataView) -> dict[str, object]:
    def tensor(kind: str, *shape: int) -> dict[str, object]:
        return {"type": "tensor", "tensor-spec": {"dtype": kind, "shape": [-1, *shape]}}

    # MLflow expects features and targets as JSON strings within JSON.
    return {
        "mlflow_tensorspec": {
            "features": json.dumps([tensor("float32", *data.input_shape)]),
            "targets": json.dumps([tensor("int64")]),
        }
    }


def _profile(data: DataView, result: RunResult) -> dict[str, object]:
    def named(counts: list[int]) -> dict[str, int]:
        return {
            f"{name_of(group.label, data.class_names)} / {name_of(group.attribute, data.attribute_names)}": count
            for group, count in zip(result.groups, counts, strict=True)
        }

    training = [group.training_count for group in result.groups]
    test = [group.count for group in result.groups]
    return {
        "num_rows": sum(training) + sum(test),
        "training_examples": sum(training),
        "test_examples": sum(test),
        "training_groups": named(training),
        "test_groups": named(test),
    }
