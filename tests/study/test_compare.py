"""Comparison of several studies, and what prevents a full one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from small_study import finished_study, study_text

from ipgl.core.errors import StudyStateError
from ipgl.evaluation.guessing import NO_BETTER
from ipgl.plan.study_plan import StudyPlan
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.compare import compare_studies


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies") / "runs"


@pytest.fixture(scope="module")
def first(storage: Path) -> tuple[StudyPlan, StudyFolder]:
    return finished_study(storage)


@pytest.fixture(scope="module")
def fewer_pairs(storage: Path, first: tuple[StudyPlan, StudyFolder]) -> tuple[StudyPlan, StudyFolder]:
    return finished_study(storage, study_text(storage, "fewer", pairs=20))


def test_the_same_data_is_compared_in_full(
    first: tuple[StudyPlan, StudyFolder], fewer_pairs: tuple[StudyPlan, StudyFolder]
) -> None:
    compared = compare_studies([first, fewer_pairs])
    summary = compared.results.summary
    assert compared.problems == ()
    labels = ["small/erm", "small/ipg", "fewer/erm", "fewer/ipg"]
    assert [method.label for method in summary.methods] == labels
    assert summary.study == "small + fewer"
    assert summary.question == "Do pairs help?"
    assert len(summary.tests) == len(summary.differences) == 6
    assert not any(math.isnan(test.p_value) for test in summary.tests)
    # ERM does not look at pairs, so both studies' runs of it are the same.
    test = next(test for test in summary.tests if {test.a, test.b} == {"small/erm", "fewer/erm"})
    assert (test.difference.mean, test.p_value) == (0.0, 1.0)
    assert list(summary.config["studies"]) == ["small", "fewer"]
    assert {run.label for run in compared.results.runs} == set(labels)
    assert compared.results.histories.keys() == {run.trial for run in compared.results.runs}
    note, *guessing = summary.remarks
    # So small a study may teach ipg nothing; that is said under the study's name.
    assert all(text.startswith(("small: ", "fewer: ")) and NO_BETTER in text for text in guessing)
    assert "dataset.pairs.train: 60 and 20" in note
    assert "same test examples" in note


def test_a_method_s_own_numbers_do_not_change_beside_others(
    first: tuple[StudyPlan, StudyFolder], fewer_pairs: tuple[StudyPlan, StudyFolder]
) -> None:
    alone = compare_studies([first, first]).results.summary.methods[0]
    beside = compare_studies([first, fewer_pairs]).results.summary.methods[0]
    assert beside.estimates["worst_group"].mean == alone.estimates["worst_group"].mean
    assert [p.accuracy for p in beside.curves["mixture"]] == [p.accuracy for p in alone.curves["mixture"]]


def test_other_test_examples_are_not_paired(storage: Path, first: tuple[StudyPlan, StudyFolder]) -> None:
    other = finished_study(storage, study_text(storage, "other-data", data_seed=1))
    compared = compare_studies([first, other])
    (problem,) = compared.problems
    assert problem.startswith(
        "Studies small and other-data were tested on different examples (data fingerprints "
    )
    assert "dataset.seed: 0 and 1" in problem
    across = [t for t in compared.results.summary.tests if {t.a[:5], t.b[:5]} == {"small", "other"}]
    assert len(across) == 4
    # As methods they are tested as on independent examples; of the trained models no exchange of answers tells.
    assert all(math.isnan(test.p_value_of_trained_models) for test in across)
    assert not any(math.isnan(test.p_value) or math.isnan(test.difference.mean) for test in across)
    assert problem in compared.results.summary.remarks


def test_other_severities_leave_those_in_common(storage: Path, first: tuple[StudyPlan, StudyFolder]) -> None:
    text = study_text(storage, "coarse", evaluation=", severities: [0.95, 0.5, 0], tv_radii: [0, 1]")
    compared = compare_studies([first, finished_study(storage, text)])
    assert [p.severity for p in compared.results.summary.methods[0].curves["mixture"]] == [0.0, 0.5]
    assert "worst_case_tv" not in compared.results.summary.methods[0].curves
    assert "worst_case_kl" in compared.results.summary.methods[0].curves
    severities, curve = compared.problems
    assert (
        "different `evaluation.severities`: the mixture curve is shown at the 2 that both have" in severities
    )
    assert curve.startswith("Curve `worst_case_tv` is left out: small and coarse do not share it")


def test_no_severity_in_common(storage: Path, first: tuple[StudyPlan, StudyFolder]) -> None:
    text = study_text(storage, "apart", evaluation=", severities: [0.95]")
    with pytest.raises(
        StudyStateError, match=r"'small' and 'apart' have no severity in common: .*give both the same"
    ):
        compare_studies([first, finished_study(storage, text)])


def test_a_damaged_result_costs_its_run_alone(storage: Path, first: tuple[StudyPlan, StudyFolder]) -> None:
    plan, folder = finished_study(storage, study_text(storage, "damaged"))
    victim = next(trial for trial in folder.trials() if trial.path.name.startswith("ipg-final"))
    victim.files.result.write_text("{")
    summary = compare_studies([first, (plan, folder)]).results.summary
    remark = next(remark for remark in summary.remarks if "left out" in remark)
    assert remark.startswith(f"damaged: A run is left out: {victim.files.result}: not a valid RunResult")
    assert [len(method.final_runs) for method in summary.methods] == [2, 2, 2, 1]
