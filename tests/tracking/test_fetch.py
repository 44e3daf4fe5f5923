"""A study comes back from MLflow as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from small_study import finished_study, study_text

from ipgl.core.errors import TrackingError
from ipgl.evaluation import compare
from ipgl.plan.study_plan import StudyPlan
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.replay import sync_study
from ipgl.study.results import read_ended_runs, summarise
from ipgl.tracking import fetch_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyPlan, StudyFolder]:
    storage = tmp_path_factory.mktemp("fetch") / "runs"
    plan, folder = finished_study(storage, study_text(storage).replace("{name: none}", "{name: mlflow}"))
    sync_study(folder)
    return plan, folder


def test_everything_comes_back(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    found = fetch_study("small", storage=folder.path.parent)
    stored = summarise(plan, folder)
    assert found.summary.methods == stored.summary.methods
    assert found.summary.tests == stored.summary.tests
    assert {run.trial for run in found.results.runs} == {run.trial for run in stored.runs}
    ended = read_ended_runs(folder, ["erm", "ipg"])
    for label, runs in ended.tested.items():
        assert [one.run.seed for one in found.tested[label]] == [1, 2]
        for mine, theirs in zip(found.tested[label], sorted(runs, key=lambda one: one.run.seed), strict=True):
            assert mine.run == theirs.run
            np.testing.assert_array_equal(mine.predictions.prediction, theirs.predictions.prediction)
            np.testing.assert_array_equal(mine.predictions.along, theirs.predictions.along)
            assert mine.predictions.corrupted.keys() == {"hue", "saturation"}
    # What was fetched is enough to compute the outcome anew.
    again = compare(found.tested, plan.config.evaluation)
    assert again.estimates["ipg"] == stored.summary.methods[1].estimates


def test_tables(study: tuple[StudyPlan, StudyFolder]) -> None:
    found = fetch_study("small", storage=study[1].path.parent)
    curves = found.curves()
    assert list(curves.columns) == ["method", "curve", "severity", "accuracy", "low", "high"]
    assert set(curves["curve"]) >= {
        "mixture",
        "worst_case_kl",
        "worst_case_tv",
        "interpolation",
        "corruption_hue",
    }
    mixture = curves[(curves.method == "ipg") & (curves.curve == "mixture")]
    assert mixture.accuracy.tolist() == [p.accuracy for p in found.summary.methods[1].curves["mixture"]]
    (test,) = found.tests().to_dict("records")
    assert (test["a"], test["b"]) == ("ipg", "erm")
    assert test["low"] <= test["difference"] <= test["high"]


def test_ids_lead_to_the_runs(study: tuple[StudyPlan, StudyFolder]) -> None:
    folder = study[1]
    found = fetch_study("small", storage=folder.path.parent)
    client = MlflowClient(f"sqlite:///{folder.path.parent}/mlflow.db")
    for key, run_id in found.run_ids.items():
        tags = client.get_run(run_id).data.tags
        assert tags["ipgl.study"] == "small"
        assert tags.get("ipgl.trial", "small") == key


def test_a_study_that_is_not_there(study: tuple[StudyPlan, StudyFolder], tmp_path: Path) -> None:
    with pytest.raises(
        TrackingError, match=r"holds no finished study 'other'; finished studies there: small$"
    ):
        fetch_study("other", storage=study[1].path.parent)
    with pytest.raises(TrackingError, match=r"mlflow.db: there is no MLflow database; name the folder"):
        fetch_study("small", storage=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file(study: tuple[StudyPlan, StudyFolder]) -> None:
    folder = study[1]
    found = fetch_study("small", storage=folder.path.parent)
    client = MlflowClient(f"sqlite:///{folder.path.parent}/mlflow.db")
    key = found.tested["erm"][0].run.trial
    client.log_text(found.run_ids[key], "{", "result.json")
    with pytest.raises(
        TrackingError, match=r"a file of study 'small' is damaged .*`ipgl track sync` writes it again"
    ):
        fetch_study("small", storage=folder.path.parent)
