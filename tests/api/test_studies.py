"""Studies from Python."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml
from small_study import finished_study, study_text

import ipgl
from ipgl.config import StudyConfig
from ipgl.core.errors import StudyStateError


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("api") / "runs"
    finished_study(folder)
    return str(folder)


def test_a_study_by_its_name(storage: str) -> None:
    study = ipgl.load_study("small", storage)
    assert study.finished
    assert study.name == "small"
    assert repr(study) == "Study('small', finished, methods: erm, ipg)"
    table = study.table()
    assert list(table["method"]) == ["erm", "ipg"]
    assert set(study.curves()["curve"]) >= {"mixture", "interpolation"}
    assert len(study.runs()) == 6
    assert len(study.groups()) == 8
    assert len(study.tests()) == 1
    assert study.findings[0] in study._repr_html_().replace("&#x27;", "'")
    assert study.figure().data
    assert study.report.is_file()
    with pytest.raises(KeyError, match="no table 'x'; choose one of methods, curves"):
        study.table("x")


def test_its_models(storage: str) -> None:
    study = ipgl.load_study("small", storage)
    runs = [run for run in study.results.runs if run.phase == "final" and run.label == "ipg"]
    first, second = sorted(runs, key=lambda run: run.seed)
    data = {"name": "colored_mnist", "source": "digits", "seed": 0, "pairs": {"train": 60, "held_out": 40}}
    for model, run in ((study.model("ipg"), first), (study.model("ipg", second.seed), second)):
        trained = ipgl.evaluate(
            model, ipgl.train(data, "mlp", "erm", training={"epochs": 1}, progress=False).dataset
        )
        assert trained.metrics["worst_group"] == pytest.approx(run.metrics["worst_group"])
    assert not torch.equal(study.model("ipg").head.weight, study.model("ipg", second.seed).head.weight)
    with pytest.raises(StudyStateError, match="'dfr' has no completed final run; methods with one: erm, ipg"):
        study.model("dfr")
    with pytest.raises(StudyStateError, match="no completed final run of seed 99; its seeds: "):
        study.model("ipg", 99)


def test_a_name_that_is_not_there(storage: str) -> None:
    with pytest.raises(StudyStateError, match="no study of this name; studies there: small"):
        ipgl.load_study("big", storage)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_study_is_run_from_a_mapping_and_found_again(tmp_path: Path) -> None:
    given = yaml.safe_load(study_text(tmp_path / "unused", name="mine"))
    given["methods"] = {"erm": {}}
    given["search"] = {"trials": 1, "final_seeds": 1}
    with mock.patch.dict(os.environ):  # Ray leaves variables there
        study = ipgl.run_study(given, storage=str(tmp_path / "runs"), progress=False)
    assert study.finished
    assert list(study.table()["method"]) == ["erm"]
    with pytest.raises(StudyStateError, match="'mine' is finished"):
        ipgl.run_study(given, storage=str(tmp_path / "runs"), progress=False)
    ended = study.runs()["finished_at"] if "finished_at" in study.runs() else study.runs()
    config = StudyConfig.model_validate(given)
    again = ipgl.run_study(config, storage=str(tmp_path / "runs"), resume=True, progress=False)
    assert len(again.runs()) == len(ended)
