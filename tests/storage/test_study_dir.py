"""Folders of studies and trials: round trips of every file, and errors for damaged ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from narrowing import known

from ipgl.config import Component, EvaluationSettings, ResourceSettings, TrainingSettings, TrialConfig
from ipgl.core.errors import StudyStateError
from ipgl.evaluation import Predictions, RunResult, StudySummary
from ipgl.storage.study_dir import StudyFolder
from ipgl.storage.trial_dir import TrialFolder


def config(**changes: object) -> TrialConfig:
    fields = {
        "study": "s",
        "label": "erm",
        "phase": "search",
        "seed": 0,
        "hyperparameters": {"strength": 2.5},
        "dataset": Component(name="colored_mnist", source="digits"),
        "model": Component(name="mlp", width=8),
        "method": Component(name="erm"),
        "training": TrainingSettings(),
        "evaluation": EvaluationSettings(),
        "resources": ResourceSettings(),
        "selection": "pair_robust",
    }
    return TrialConfig(**(fields | changes))


def result(**changes: float) -> RunResult:
    fields = {
        "study": "s",
        "label": "erm",
        "method": "erm",
        "phase": "search",
        "trial": "erm-0",
        "seed": 0,
        "status": "completed",
        "score": 0.5,
    }
    return RunResult(**(fields | changes))


def summary() -> StudySummary:
    return StudySummary(
        study="s",
        question="",
        selection="pair_robust",
        confidence=0.95,
        config={},
        config_hash="h",
        data_fingerprint="f",
        environment={},
        methods=(),
        differences={},
        chance=math.nan,
        seconds=1.0,
    )


@pytest.fixture
def trial(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder(tmp_path / "trials" / "erm-0")
    folder.create()
    return folder


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path)


# --- one run ---


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "not" / "there")
    assert folder.read_start() is None
    assert folder.read_result() is None
    assert folder.read_history() == []


def test_start_comes_back_and_the_first_note_stays(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trials" / "erm-0")
    folder.write_start(config())
    note = (folder.path / "trial.json").read_bytes()
    folder.write_start(config(seed=5))
    assert (folder.path / "trial.json").read_bytes() == note
    assert folder.read_start() == config()
    assert known(folder.read_start()).dataset.settings == {"source": "digits"}
    assert known(folder.read_start()).key == config().key


def test_history_comes_back(trial: TrialFolder) -> None:
    trial.write_history([{"step": 1.0, "train/loss": 0.1}])
    rows = [{"step": 1.0, "train/loss": 0.1}, {"step": 2.0, "train/loss": math.nan}]
    trial.write_history(rows)
    found = trial.read_history()
    assert found[0] == rows[0]
    assert found[1]["step"] == 2.0
    assert math.isnan(found[1]["train/loss"])


def test_result_comes_back(trial: TrialFolder) -> None:
    trial.write_result(result(score=math.nan))
    found = trial.read_result()
    assert found is not None
    assert math.isnan(found.score)
    assert found.model_copy(update={"score": 0.5}) == result()
    assert trial.require_result().trial == "erm-0"


def test_the_folder_s_number_is_the_result_s(trial: TrialFolder) -> None:
    trial.write_result(result(number=0))
    assert known(TrialFolder(trial.path, 7).read_result()).number == 7
    assert known(trial.read_result()).number == 0


def test_a_result_that_is_required_and_missing(trial: TrialFolder) -> None:
    with pytest.raises(StudyStateError) as caught:
        trial.require_result()
    assert str(caught.value) == f"{trial.files.result}: there is no result; the run has not ended"


def predictions(examples: int = 1000, **changes: object) -> Predictions:
    rng = np.random.default_rng(0)
    label, attribute, prediction = rng.integers(2, size=(3, examples), dtype=np.int32)
    fields = {
        "label": label,
        "attribute": attribute,
        "prediction": prediction,
        "probability": rng.dirichlet((1, 1), size=examples).astype(np.float32),
        "corrupted": {"hue": rng.integers(2, size=(2, examples), dtype=np.int32)},
        "levels": {"hue": (0.0, 0.5)},
        "along": rng.integers(2, size=(3, 40), dtype=np.int32),
    }
    return Predictions(**(fields | changes))


def test_predictions_come_back(trial: TrialFolder) -> None:
    written = predictions()
    trial.artifacts.write_predictions(written)
    found = trial.artifacts.read_predictions()
    for name in ("label", "attribute", "prediction", "probability", "along"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name), strict=True)
    np.testing.assert_array_equal(found.corrupted["hue"], written.corrupted["hue"], strict=True)
    assert found.corrupted.keys() == {"hue"}
    assert found.levels == {"hue": (0.0, 0.5)}


def assert_predictions_refused(trial: TrialFolder) -> str:
    with pytest.raises(StudyStateError) as caught:
        trial.artifacts.read_predictions()
    message = str(caught.value)
    assert message.startswith(f"{trial.files.predictions}: the predictions cannot be read (")
    assert message.endswith(f"; remove {trial.path} and resume the study to run it again")
    return message


def test_missing_predictions(trial: TrialFolder) -> None:
    assert_predictions_refused(trial)


def test_missing_pairs(trial: TrialFolder) -> None:
    trial.artifacts.write_predictions(predictions())
    trial.files.pair_predictions.unlink()
    assert "pairs.parquet" in assert_predictions_refused(trial)


@pytest.mark.parametrize("name", ["predictions", "pair_predictions"])
@pytest.mark.parametrize("content", [b"", b"not a table", b"PK\x03\x04 and no more", b"PAR1PAR1"])
def test_predictions_of_other_content(trial: TrialFolder, name: str, content: bytes) -> None:
    trial.artifacts.write_predictions(predictions())
    getattr(trial.files, name).write_bytes(content)
    assert_predictions_refused(trial)


@pytest.mark.parametrize("name", ["predictions", "pair_predictions"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_predictions(trial: TrialFolder, name: str, share: float) -> None:
    trial.artifacts.write_predictions(predictions())
    path = getattr(trial.files, name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_predictions_refused(trial)


@pytest.mark.parametrize("name", ["predictions", "pair_predictions"])
def test_predictions_with_damage_inside(trial: TrialFolder, name: str) -> None:
    written = predictions()
    trial.artifacts.write_predictions(written)
    path = getattr(trial.files, name)
    content = path.read_bytes()
    for start in range(0, len(content), 97):
        for damage in (bytes(10), bytes([255]) * 10):
            spoilt = content[:start] + damage + content[start + 10 :]
            if spoilt != content:
                path.write_bytes(spoilt)
                assert_predictions_refused_or_untouched(trial, written)


def assert_predictions_refused_or_untouched(trial: TrialFolder, written: Predictions) -> None:
    """Some bytes of a table (statistics, the writer's name) mean nothing; damage there may pass, but as it was."""
    try:
        found = trial.artifacts.read_predictions()
    except StudyStateError:
        return
    for name in ("label", "attribute", "prediction", "probability", "along"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    np.testing.assert_array_equal(found.corrupted["hue"], written.corrupted["hue"])
    assert found.levels == written.levels


def test_predictions_that_another_program_wrote(trial: TrialFolder) -> None:
    table = pyarrow.table({"prediction": np.zeros(3), "label": np.zeros(3), "attribute": np.zeros(3)})
    pyarrow.parquet.write_table(table, trial.files.predictions)
    assert_predictions_refused(trial)


@pytest.mark.parametrize("content", ["{", '{"study": "s"}', "[]", '{"study": "s", "colour": 1}'])
def test_a_damaged_result_is_refused(trial: TrialFolder, content: str) -> None:
    trial.files.result.write_text(content)
    with pytest.raises(StudyStateError) as caught:
        trial.read_result()
    message = str(caught.value)
    assert message.startswith(f"{trial.files.result}: not a valid RunResult (")
    assert message.endswith("; remove the file and resume the study to make it again")


def test_the_message_names_what_is_wrong_in_a_result(trial: TrialFolder) -> None:
    data = json.loads(result().model_dump_json()) | {"status": "lost"}
    trial.files.result.write_text(json.dumps(data))
    with pytest.raises(
        StudyStateError, match=r"\(status: Input should be 'completed', 'stopped' or 'failed'\)"
    ):
        trial.read_result()


DAMAGE = ["{", "", '{"a": 1,}', "\ufeff{}x"]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_history_is_refused(trial: TrialFolder, content: str) -> None:
    (trial.path / "history.json").write_text(content, encoding="utf-8")
    assert_json_refused(trial.path / "history.json", trial.read_history)


def assert_json_refused(path: Path, read: Callable[[], object]) -> None:
    with pytest.raises(StudyStateError) as caught:
        read()
    assert re.fullmatch(
        re.escape(str(path)) + r": not valid JSON \(.+\); restore the file or remove the run",
        str(caught.value),
    )


def test_text_in_another_encoding_is_refused(trial: TrialFolder) -> None:
    path = trial.path / "history.json"
    path.write_bytes(b'[{"\xe4": 1}]')
    assert_json_refused(path, trial.read_history)


def test_a_start_that_another_version_wrote_is_refused(trial: TrialFolder, study: StudyFolder) -> None:
    data = {"begun_at": 1.0, "config": config().model_dump(mode="json") | {"flavour": 1}}
    path = trial.path / "trial.json"
    for content in (data, {"config": data["config"]}, {"begun_at": 1.0}, [1]):
        path.write_text(json.dumps(content))
        with pytest.raises(StudyStateError) as caught:
            trial.read_start()
        assert str(caught.value).startswith(f"{path}: ")
        assert "; " in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[1]", '{"config": {}}'])
def test_a_damaged_start_is_refused_when_the_study_is_listed(
    trial: TrialFolder, study: StudyFolder, content: str
) -> None:
    path = trial.path / "trial.json"
    path.write_text(content)
    with pytest.raises(StudyStateError) as caught:
        study.trials()
    assert str(caught.value).startswith(f"{path}: ")


# --- the study ---


def test_an_empty_study_holds_nothing(study: StudyFolder) -> None:
    assert study.trials() == []
    assert study.read_state() is None
    assert study.read_winners() is None
    assert study.read_summary() is None
    assert study.name == study.path.name


def test_trials_are_numbered_in_the_order_in_which_they_began(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, time in (("c", 5.0), ("a", 7.0), ("b", 6.0)):
        monkeypatch.setattr("ipgl.storage.trial_dir.time.time", lambda time=time: time)
        study.trial(key).write_start(config(label=key))
    (study.path / "trials" / "never-begun").mkdir()
    assert [(trial.path.name, trial.number) for trial in study.trials()] == [("c", 1), ("b", 2), ("a", 3)]
    assert [known(trial.read_start()).label for trial in study.trials()] == ["c", "b", "a"]
    assert study.trial("a").path == study.path / "trials" / "a"


def test_state_winners_and_summary_come_back(study: StudyFolder) -> None:
    study.write_state({"config_hash": "h", "seconds": 1.5})
    study.write_winners({"erm": "erm-0", "ipg": None})
    study.write_summary(summary())
    assert study.read_state() == {"config_hash": "h", "seconds": 1.5}
    assert study.read_winners() == {"erm": "erm-0", "ipg": None}
    found = study.read_summary()
    assert found is not None
    assert math.isnan(found.chance)
    assert found.model_copy(update={"chance": 0.5}) == summary().model_copy(update={"chance": 0.5})


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize(("file", "read"), [("study.json", "read_state"), ("winners.json", "read_winners")])
def test_a_damaged_study_is_refused(study: StudyFolder, file: str, read: str, content: str) -> None:
    (study.path / file).write_text(content, encoding="utf-8")
    assert_json_refused(study.path / file, getattr(study, read))


def test_a_damaged_summary_is_refused(study: StudyFolder) -> None:
    study.files.summary.write_text("{")
    with pytest.raises(StudyStateError, match=r"summary\.json: not a valid StudySummary .*; remove the file"):
        study.read_summary()


def test_writing_leaves_no_other_files(study: StudyFolder) -> None:
    folder = study.trial("erm-0")
    folder.write_start(config())
    folder.write_history([{"step": 1.0}])
    folder.write_result(result())
    folder.artifacts.write_predictions(predictions())
    study.write_state({})
    study.write_winners({})
    study.write_summary(summary())
    files = {str(path.relative_to(study.path)) for path in study.path.rglob("*") if path.is_file()}
    assert files == {
        "study.json",
        "winners.json",
        "summary.json",
        "trials/erm-0/trial.json",
        "trials/erm-0/history.json",
        "trials/erm-0/result.json",
        "trials/erm-0/predictions.parquet",
        "trials/erm-0/pairs.parquet",
    }
