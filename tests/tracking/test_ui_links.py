"""Links and the shared views behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from narrowing import Keywords

from ipgl.config import TrackingSettings
from ipgl.tracking import Tracker, locate, make_tracker
from ipgl.tracking.ui_links import shared_views, study_links

FINALS = (
    "searchFilter=tags.%60ipgl.study%60%3D%27digits%27%20and%20tags.%60ipgl.execution%60%3D%27e1%27"
    "%20and%20tags.%60ipgl.kind%60%3D%27final%27&orderByKey=metrics.%60test%2Fworst_group%60&orderByAsc=false"
    "&workflowType=machine_learning&compareRunsMode=CHART"
)


def test_links_of_a_local_database(make: SimpleNamespace, tmp_path: Path) -> None:
    base = "http://127.0.0.1:5000/#/experiments/1/runs"
    assert study_links(locate(tmp_path, None), "1", make.study(), "p") == {
        "Start MLflow's pages": "ipgl ui",
        "Study": f"{base}/p?workflowType=machine_learning",
        "All runs": f"{base}?viewStateShareKey=ipgl-p-runs&workflowType=machine_learning",
        "Robustness curves": (
            f"{base}?viewStateShareKey=ipgl-p-curves&workflowType=machine_learning&compareRunsMode=CHART"
        ),
        "Final runs": f"{base}?{FINALS}",
    }


def test_links_of_a_server_have_its_path_but_no_credentials(make: SimpleNamespace, tmp_path: Path) -> None:
    links = study_links(locate(tmp_path, "https://bob:hunter22@host/mlflow/"), "1", make.study(), "p")
    assert list(links) == ["Study", "All runs", "Robustness curves", "Final runs"]
    assert all(link.startswith("https://host/mlflow/#/experiments/1/runs") for link in links.values())


@pytest.fixture
def views(
    storage: Path, make: SimpleNamespace, client: MlflowClient
) -> Callable[[Tracker], dict[str, Keywords]]:
    """Function that gives the views that stand in the experiment's tags, by the link that names them."""

    def read(tracker: Tracker) -> dict[str, Keywords]:
        (experiment,) = client.search_experiments(filter_string="name = 'ipgl'")
        keys = {
            title: link.partition("viewStateShareKey=")[2].partition("&")[0]
            for title, link in tracker.links.items()
        }
        return {
            title: json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
            for title, key in keys.items()
            if key
        }

    return read


def test_links_lead_to_views_that_exist(
    storage: Path, make: SimpleNamespace, views: Callable[[Tracker], dict[str, Keywords]]
) -> None:
    tracker = make_tracker(TrackingSettings(), storage, storage / "tracking.json")
    tracker.open_study(make.study())
    found = views(tracker)
    study = "tags.`ipgl.study`='digits' and tags.`ipgl.execution`='e1'"
    assert found["All runs"]["searchFilter"] == study
    assert found["All runs"]["orderByKey"] == "metrics.`score`"
    assert found["Robustness curves"]["searchFilter"] == f"{study} and tags.`ipgl.kind`='final'"
    assert found["Robustness curves"]["runsHiddenMode"] == "SHOW_ALL"
    assert charts(found["Robustness curves"]) == [
        "shift_accuracy/mixture",
        "shift_accuracy/general_mixture",
        "worst_case_accuracy/kl",
        "worst_case_accuracy/tv",
        "pair_consistency/interpolation",
    ]


def charts(view: Keywords) -> list[str]:
    """Metrics of a view's line charts, all of which must stand in its one section and draw points by step."""
    (section,) = view["compareRunSections"]
    for chart in view["compareRunCharts"]:
        assert (chart["type"], chart["xAxisKey"], chart["metricSectionId"]) == (
            "LINE",
            "step",
            section["uuid"],
        )
        assert chart["selectedMetricKeys"] == [chart["metricKey"]]
    return [chart["metricKey"] for chart in view["compareRunCharts"]]


def test_the_closed_study_shows_the_curves_that_it_has(make: SimpleNamespace) -> None:
    curves = {"mixture": make.curve(0.9, 0.5), "corruption_hue": make.curve(0.9, 0.5)}
    summary = make.results(make.method("ipg", curves=curves)).summary
    view = json.loads(shared_views(make.study(), "p", summary)["mlflow.sharedViewState.ipgl-p-curves"])
    assert charts(view) == ["shift_accuracy/mixture", "corruption_accuracy/hue"]


def test_the_closed_study_shows_outcomes_and_searched_settings(
    storage: Path, make: SimpleNamespace, views: Callable[[Tracker], dict[str, Keywords]]
) -> None:
    tracker = make_tracker(TrackingSettings(), storage, storage / "tracking.json")
    tracker.open_study(make.study())
    tracker.close_study(make.results())
    assert views(tracker)["All runs"]["selectedColumns"] == [
        "metrics.`score`",
        "metrics.`validation/accuracy`",
        "metrics.`validation/flip_rate`",
        "metrics.`test/worst_group`",
        "params.`strength`",
        "tags.`ipgl.kind`",
        "tags.`ipgl.status`",
    ]


def test_views_fit_into_tags(make: SimpleNamespace) -> None:
    names = [
        "mixture",
        "worst_case_kl",
        "worst_case_tv",
        "interpolation",
        *(f"corruption_{i}" for i in range(6)),
    ]
    method = make.method(
        "ipg",
        hyperparameters={f"method.setting_{i}": 1 for i in range(20)},
        curves={name: make.curve(0.9, 0.5) for name in names},
    )
    assert max(map(len, shared_views(make.study(), "p" * 32, make.results(method).summary).values())) < 5000
