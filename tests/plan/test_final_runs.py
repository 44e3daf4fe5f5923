"""Final and component runs of studies that vary several sources of randomness."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_files import write_waterbirds
from mlflow import MlflowClient
from narrowing import known
from small_study import finished_study, study_text

from ipgl.cli.console import make_console
from ipgl.cli.live_display import LiveDisplay, component_lines
from ipgl.config import TrialConfig, parse_document
from ipgl.core.errors import IpglError
from ipgl.evaluation import aggregate
from ipgl.evaluation.variance_components import RedrawnRun, variance_components
from ipgl.plan.final_runs import component_trials, final_trials
from ipgl.plan.preflight import check_by_building
from ipgl.plan.study_plan import StudyPlan, make_plan
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.gallery import make_gallery
from ipgl.study.results import final_runs_json, read_ended_runs, summarise
from ipgl.study.runner import _left
from ipgl.training import SilentReporter
from ipgl.trial.run import run_trial

VARY = "final_seeds: 2, vary: [weights, pairs, data]"


def text_of(storage: Path) -> str:
    return study_text(storage, "varied").replace("final_seeds: 2", VARY)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyPlan, StudyFolder]:
    storage = tmp_path_factory.mktemp("varied") / "runs"
    return finished_study(storage, text_of(storage))


def test_every_run_has_its_own_seeds(study: tuple[StudyPlan, StudyFolder]) -> None:
    _, folder = study
    runs = read_ended_runs(folder, ["erm", "ipg"]).results
    phases = [run.phase for run in runs]
    assert [phases.count(phase) for phase in ("search", "final", "component")] == [2, 4, 10]
    finals = [run for run in runs if run.phase == "final"]
    # The two methods share the data of a final run, and its test examples; run 2 has others than run 1.
    assert len({run.data_fingerprint for run in finals}) == 2
    assert len({run.test_fingerprint for run in finals}) == 2
    assert len({run.test_fingerprint for run in runs}) == 1 + 2 + 2


def test_pairs_do_not_change_what_erm_learns(study: tuple[StudyPlan, StudyFolder]) -> None:
    """Why ERM is not repeated on other pairs: a final run's model depends on weights and data alone."""
    plan, folder = study
    original = final_trials(plan, "erm", {})[0]
    other = component_trials(plan, "ipg", {})[1]
    assert other.source == "pairs"
    repeated = original.model_copy(update={"phase": "component", "dataset": other.config.dataset})
    found = folder.trial(repeated.key)
    try:
        again = run_trial(repeated, found, SilentReporter())
    finally:
        shutil.rmtree(found.path)
    assert again.groups == folder.trial(original.key).require_result().groups
    assert again.data_fingerprint != folder.trial(original.key).require_result().data_fingerprint


def test_components_are_those_of_the_runs_on_storage(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    summary = summarise(plan, folder).summary
    erm, ipg = (method.components for method in summary.methods)
    assert [one.source for one in ipg[::3]] == ["weights", "pairs", "data", "all"]
    assert [(one.source, one.runs) for one in erm[::3]] == [
        ("weights", 2),
        ("pairs", 0),
        ("data", 2),
        ("all", 2),
    ]
    assert [one.same_examples for one in ipg[::3]] == [True, True, False, False]

    def read(config: TrialConfig) -> aggregate.Tested:
        trial = folder.trial(config.key)
        return aggregate.Tested(trial.require_result(), trial.artifacts.read_predictions())

    trials = component_trials(plan, "ipg", {})
    redrawn = [RedrawnRun(t.source, read(t.original), read(t.config)) for t in trials]
    finals = [read(config) for config in final_trials(plan, "ipg", {})]
    settings = plan.config.evaluation
    assert ipg == variance_components(finals, redrawn, settings.target_severity, settings.confidence)


def test_no_other_number_sees_component_runs(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    summary = summarise(plan, folder).summary
    assert [len(method.final_runs) for method in summary.methods] == [2, 2]
    assert len(json.loads(final_runs_json(folder, 0.95))["runs"]) == 4
    assert all(audit.trials == 2 for audit in summary.rules)


def test_what_is_missing_is_run_again_and_nothing_else(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    winners = folder.read_winners()
    assert [_left(plan, folder, known(winners), phase) for phase in ("final", "component")] == [[], []]
    lost = component_trials(plan, "ipg", {})[4].config
    result = folder.trial(lost.key).files.result
    kept = result.read_bytes()
    result.unlink()
    try:
        assert _left(plan, folder, known(winners), "component") == [lost]
        ipg = summarise(plan, folder).summary.methods[1]
        assert {one.source: one.runs for one in ipg.components}["pairs"] == 1
    finally:
        result.write_bytes(kept)


def test_progress_counts_component_runs_apart(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    with LiveDisplay(plan, folder, make_console()) as shown:
        progress = shown.progress()
    assert (progress.ended, progress.total) == (16, 16)
    assert [(m.tested, m.to_test, m.repeated, m.to_repeat) for m in progress.methods] == [
        (2, 2, 4, 4),
        (2, 2, 6, 6),
    ]
    console = make_console()
    with console.capture() as captured:
        console.print(progress.table())
    assert "component" in captured.get()


def test_the_gallery_shows_mistakes_on_the_first_runs_test_examples(
    study: tuple[StudyPlan, StudyFolder],
) -> None:
    plan, folder = study
    results = summarise(plan, folder)
    found = make_gallery(plan, folder, results)
    assert found.missing == ""
    for mistakes in found.mistakes.values():
        assert all(mistake.caption.endswith("by 1 of 1 seeds") for mistake in mistakes)


def test_lines_for_a_terminal(study: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = study
    erm, ipg = component_lines(summarise(plan, folder).summary)
    assert erm.startswith("erm, standard deviation of the shifted accuracy in points: weights ")
    assert "pairs 0 (not used), data " in erm
    assert " with its test examples, all together " in ipg


def test_pairs_cannot_be_varied_where_there_are_none(tmp_path: Path) -> None:
    write_waterbirds(tmp_path / "waterbirds")
    text = f"""\
name: birds
dataset: {{name: waterbirds, root: {tmp_path / "waterbirds"}, input_size: 16, cache: {tmp_path / "cache"}}}
model: {{name: cnn, width: 8}}
methods: {{erm: {{}}}}
training: {{epochs: 1, batch_size: 4}}
search: {{selection: average, vary: [pairs]}}
"""
    message = (
        r"^f\.yaml:6: search\.vary: the data set has no pairs to draw; set dataset\.pairs, or leave 'pairs' out of "
        r"search\.vary$"
    )
    with pytest.raises(IpglError, match=message):
        check_by_building(make_plan(parse_document(text, "f.yaml")))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_study_that_varies_everything_from_end_to_end(tmp_path: Path) -> None:
    storage = tmp_path / "runs"
    file = tmp_path / "study.yaml"
    text = text_of(storage).replace("strength: 10", "strength: {log_uniform: [3, 30]}")
    file.write_text(text.replace("trials: 1", "trials: 2").replace("tracking: {name: none}", ""))

    def ipgl(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ipgl", *arguments],
            cwd=tmp_path,
            env=os.environ | {"COLUMNS": "160"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "at most 3 search trials and 4 final runs, then 10 component runs" in ipgl(
        "study", "validate", str(file)
    )
    out = ipgl("study", "run", str(file))
    assert "ipg, standard deviation of the shifted accuracy in points: weights " in out
    again = ipgl("study", "resume", "varied", "--storage", str(storage))
    assert "17 runs are on storage already and are kept" in again
    client = MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ipgl").experiment_id
    runs = client.search_runs([experiment], "tags.`ipgl.kind` = 'component'")
    names = sorted(run.info.run_name for run in runs)
    assert len(names) == 10
    assert names[0] == "erm seed 1, other data"
    assert names[-1] == "ipg seed 2, other weights"
