"""A study whose attribute is not associated with the label, so that there is no alignment."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console
from small_study import finished_study, study_text

from ipgl.cli.live_display import audit_line, print_results
from ipgl.config import read_document
from ipgl.core.errors import DataError
from ipgl.evaluation import StudyResults
from ipgl.plan.preflight import check_by_building
from ipgl.plan.study_plan import StudyPlan, make_plan
from ipgl.report import findings, markdown_report, render_report
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.compare import compare_studies
from ipgl.study.results import summarise
from ipgl.tracking.mlflow_values import headlines, scalar_points
from ipgl.tracking.study_description import study_note

ROLES = re.compile(r"agree|aligned|conflicting", re.IGNORECASE)
REMARK = (
    "No attribute value stands for a class: label and attribute are not associated in training (chi-squared, "
    "p >= 0.001). Methods are compared on the general mixture instead, which goes from the training mix (severity 0) "
    "to equal groups within each class (severity 1)."
)


def text(storage: Path, name: str, evaluation: str = "") -> str:
    return study_text(storage, name, evaluation=evaluation).replace(
        "seed: 0,", "seed: 0, train_agreements: [0.5, 0.5],", 1
    )


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studies") / "runs"


@pytest.fixture(scope="module")
def study(storage: Path) -> tuple[StudyPlan, StudyFolder]:
    return finished_study(storage, text(storage, "balanced"))


@pytest.fixture(scope="module")
def results(study: tuple[StudyPlan, StudyFolder]) -> StudyResults:
    return summarise(*study)


def test_results_have_the_general_curve_and_its_metrics(results: StudyResults) -> None:
    finals = [run for run in results.runs if run.phase == "final"]
    for run in finals:
        assert {group.aligned for group in run.groups} == {None}
        assert "mixture" not in run.curves
        curve = {p.severity: p.accuracy for p in run.curves["general_mixture"]}
        assert run.metrics["shifted_accuracy"] == pytest.approx(curve[0.9], rel=1e-12)
        assert {"area_general_mixture"} == {name for name in run.metrics if name.endswith("mixture")}
        # Severity 1 is the mean of a class's groups, weighed as the test split's classes.
        counts = {y: [g for g in run.groups if g.label == y] for y in (0, 1)}
        total = sum(g.count for g in run.groups)
        equal = sum(
            sum(g.accuracy for g in own) / 2 * sum(g.count for g in own) / total for own in counts.values()
        )
        assert curve[1.0] == pytest.approx(equal, rel=1e-12)
    assert all(math.isnan(p.agreement) for p in results.summary.methods[0].curves["general_mixture"])
    assert results.summary.remarks[0] == REMARK
    assert len(results.summary.differences) == len(results.summary.tests) == 1


def test_the_terminal_never_speaks_of_agreement(results: StudyResults) -> None:
    stream = io.StringIO()
    print_results(Console(file=stream, width=140, markup=False), results.summary)
    shown = stream.getvalue()
    assert not ROLES.search(shown)
    for part in (
        "equal 0%",
        "equal 50%",
        "equal 90%",
        "equal s%: s% of the way from the training mix to equal",
    ):
        assert part in shown
    where = "where the test mix is 90% of the way from the training mix to equal groups within each class"
    assert f"ipg - erm {where}: " in " ".join(shown.split())
    line = audit_line(results.summary)
    assert line is None or "where the test mix is 90% of the way" in line


def test_the_report_never_speaks_of_agreement(results: StudyResults) -> None:
    page = render_report(results)
    body = re.sub(
        r"[A-Za-z0-9+/=]{200,}", "", page[page.index("<body") :]
    )  # without plotly.js, which is packed
    assert "Accuracy as the groups of each class become equally frequent" in body
    assert "Equal groups" in body
    # The configuration is shown as it is; its keys and this data set's are called so.
    prose = body.replace("train_agreements", "").replace("test_agreement", "")
    assert not ROLES.search(prose)
    written = markdown_report(results)
    assert not ROLES.search(written.split("## Reproduce")[0].replace("train\\_agreements", ""))
    assert not any(ROLES.search(sentence) for sentence in findings(results.summary))


def test_mlflow_is_given_other_names(results: StudyResults) -> None:
    assert "area_general_mixture" in headlines(results.summary.methods)
    names = {point.name for run in results.runs if run.phase == "final" for point in scalar_points(run)}
    assert "area/general_mixture" in names
    assert "area/mixture" not in names
    assert not ROLES.search(study_note(results.summary, findings(results.summary)))


def test_beside_a_study_with_an_alignment_it_is_read_under_that_one(
    storage: Path, study: tuple[StudyPlan, StudyFolder]
) -> None:
    compared = compare_studies([study, finished_study(storage)])
    summary = compared.results.summary
    assert all("mixture" in m.curves and "general_mixture" not in m.curves for m in summary.methods)
    assert any(
        p.startswith("Study balanced has no alignment or another one: accuracies") for p in compared.problems
    )
    assert summary.rules == ()
    assert len(summary.tests) == 6


def test_a_study_may_state_its_alignment(storage: Path) -> None:
    plan, folder = finished_study(
        storage, text(storage, "stated", evaluation=", alignment: {'0': 1, '1': 0}")
    )
    summary = summarise(plan, folder).summary
    assert "mixture" in summary.methods[0].curves
    assert [g.aligned for g in summary.methods[0].groups] == [False, True, True, False]
    assert not any("general mixture" in remark for remark in summary.remarks)


def plan_of(tmp_path: Path, evaluation: str) -> StudyPlan:
    file = tmp_path / "study.yaml"
    file.write_text(text(tmp_path / "runs", "small", evaluation=evaluation))
    return make_plan(read_document(file))


def test_the_check_says_what_will_be_compared(tmp_path: Path) -> None:
    assert REMARK in check_by_building(plan_of(tmp_path, "")).notes


def test_the_check_refuses_what_does_not_fit_the_data(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ", alignment: {'0': puce, '1': 0}")
    with pytest.raises(DataError) as error:
        check_by_building(plan)
    assert re.fullmatch(
        r".*study\.yaml:10: evaluation\.alignment: the data set has no attribute value 'puce'; choose one of .*",
        str(error.value),
    )
