"""Group table and data set inputs of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ipgl.config import TrackingSettings
from ipgl.evaluation.run_result import GroupCount
from ipgl.tracking import DataView, make_tracker
from ipgl.tracking.datasets import dataset_input
from ipgl.tracking.group_table import group_table

GROUPS = (
    GroupCount(label=0, attribute=0, aligned=True, count=100, correct=50, training_count=900),
    GroupCount(label=0, attribute=1, aligned=False, count=0, correct=0, training_count=0),
)


@pytest.fixture
def data() -> DataView:
    return DataView(
        "shapes", "f" * 64, {"size": 8, "pairs": {"train": 3}}, (3, 8, 8), ("disc",), ("red", "blue")
    )


def test_table_has_names_counts_and_wilson_intervals(make: SimpleNamespace, data: DataView) -> None:
    # Wilson's interval of 50 of 100 at 95%: centre 0.5, half width 1.95996 sqrt(0.25/100 + 1.95996^2/40000) / 1.038415
    assert group_table(make.result(groups=GROUPS), data, 0.95) == (
        "label,attribute,aligned,training_examples,test_examples,correct,accuracy,low,high\n"
        "disc,red,yes,900,100,50,0.5000,0.4038,0.5962\n"
        "disc,blue,no,0,0,0,,,\n"
    )


def test_without_names_the_numbers_stand(make: SimpleNamespace) -> None:
    assert group_table(make.result(groups=GROUPS), None, 0.95).splitlines()[2] == "0,1,no,0,0,0,,,"


def test_without_an_alignment_the_column_is_empty(make: SimpleNamespace) -> None:
    groups = [group.model_copy(update={"aligned": None}) for group in GROUPS]
    assert group_table(make.result(groups=groups), None, 0.95).splitlines()[2] == "0,1,,0,0,0,,,"


def test_data_set_input(make: SimpleNamespace, data: DataView) -> None:
    found = dataset_input(data, make.result(groups=GROUPS))
    assert (found.dataset.name, found.dataset.digest) == ("shapes", "f" * 36)
    source = json.loads(found.dataset.source)
    assert source == {"tags": {"mlflow.source.name": "ipgl data set shapes", "size": "8", "pairs.train": "3"}}
    profile = json.loads(found.dataset.profile)
    assert profile["training_groups"] == {"disc / red": 900, "disc / blue": 0}
    assert profile["test_groups"] == {"disc / red": 100, "disc / blue": 0}
    schema = json.loads(found.dataset.schema)["mlflow_tensorspec"]
    assert json.loads(schema["features"])[0]["tensor-spec"]["shape"] == [-1, 3, 8, 8]


def test_a_run_and_its_study_have_the_data_set_once(
    storage: Path,
    make: SimpleNamespace,
    data: DataView,
    client: MlflowClient,
    runs: Callable[[], dict[str, Run]],
) -> None:
    for _ in range(2):
        tracker = make_tracker(TrackingSettings(), storage, storage / "digits" / "tracking.json")
        tracker.open_study(make.study())
        tracker.record(make.run(result=make.result(groups=GROUPS), data=data))
        (storage / "digits" / "tracking.json").unlink()
    for name in ("digits", "ipg seed 1"):
        inputs = runs()[name].inputs.dataset_inputs
        assert [(entry.dataset.name, entry.dataset.digest) for entry in inputs] == [("shapes", "f" * 36)]
    paths = [entry.path for entry in client.list_artifacts(runs()["ipg seed 1"].info.run_id)]
    assert paths == ["groups.csv", "result.json"]
