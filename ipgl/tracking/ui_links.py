"""Links to MLflow's pages, and shared views: the columns, filters and charts that the pages open with.

By default MLflow's run table shows no metric and collapses all runs below their study, and its charts draw ten runs
at most. An address cannot change that, but it can name a *shared view*, which is stored in a tag of the experiment.
Sorting by a metric expands the runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote

from ipgl.evaluation.curve_types import MIXTURES, CurveType, curve_type
from ipgl.evaluation.study_summary import MethodSummary, StudySummary
from ipgl.tracking.base import StudyView
from ipgl.tracking.mlflow_values import headlines, outcome_name, safe_name
from ipgl.tracking.store import Store

_WORKFLOW = "workflowType=machine_learning"
LOCAL_SERVER = "http://127.0.0.1:5000"
_SORT_BY = "test/worst_group"
_SECTION = "ipgl-robustness"
_USUAL_CURVES = (*MIXTURES, "worst_case_kl", "worst_case_tv", "interpolation")


def study_links(store: Store, experiment_id: str, study: StudyView, parent: str) -> dict[str, str]:
    """Title -> address; a local database first needs its server, so the command comes first there.

    `workflowType` keeps MLflow from opening its pages for language models.
    """
    experiment = f"{store.browser_base or LOCAL_SERVER}/#/experiments/{quote(experiment_id, safe='')}"
    finals = quote(_filter(study, "final"), safe="")
    links = {} if store.is_server else {"Start MLflow's pages": "ipgl ui"}
    links["Study"] = f"{experiment}/runs/{parent}?{_WORKFLOW}"
    links["All runs"] = f"{experiment}/runs?viewStateShareKey={_key(parent, 'runs')}&{_WORKFLOW}"
    links["Robustness curves"] = (
        f"{experiment}/runs?viewStateShareKey={_key(parent, 'curves')}&{_WORKFLOW}&compareRunsMode=CHART"
    )
    # Without a shared view, so it also works where such a view is not understood.
    links["Final runs"] = (
        f"{experiment}/runs?searchFilter={finals}&orderByKey={quote(_metric(_SORT_BY), safe='')}&orderByAsc=false"
        f"&{_WORKFLOW}&compareRunsMode=CHART"
    )
    return links


def models_link(store: Store, study: str) -> str:
    """Address of the study's registered model."""
    return f"{store.browser_base or LOCAL_SERVER}/#/models/{quote(study, safe='')}?{_WORKFLOW}"


def artifact_link(experiment_id: str, run_id: str, path: str) -> str:
    """Address of a run's file within MLflow's pages, relative to whatever address they have."""
    return f"#/experiments/{quote(experiment_id, safe='')}/runs/{run_id}/artifacts/{quote(path)}?{_WORKFLOW}"


def shared_views(study: StudyView, parent: str, summary: StudySummary | None = None) -> dict[str, str]:
    """Tags of the experiment that hold the study's views; with a summary they show its metrics and settings too."""
    methods = summary.methods if summary else ()
    outcomes = [outcome_name(name) for name in headlines(methods)]
    searched = dict.fromkeys(safe_name(name) for method in methods for name in method.hyperparameters)
    runs = {
        "searchFilter": _filter(study),
        "orderByKey": _metric("score"),
        "orderByAsc": False,
        "selectedColumns": [
            *_columns("metrics", ["score", "validation/accuracy", "validation/flip_rate", *outcomes]),
            *_columns("params", searched),
            *_columns("tags", ["ipgl.kind", "ipgl.status"]),
        ],
    }
    curves = {
        "searchFilter": _filter(study, "final"),
        "orderByKey": _metric(_SORT_BY),
        "orderByAsc": False,
        "runsHiddenMode": "SHOW_ALL",
        "hideEmptyCharts": True,
        "isAccordionReordered": True,  # or MLflow sorts the sections by name
        "compareRunSections": [_section()],
        "compareRunCharts": [_chart(curve_type(name)) for name in _curves(methods)],
    }
    return {_tag(parent, "runs"): _text(runs), _tag(parent, "curves"): _text(curves)}


def _curves(methods: Iterable[MethodSummary]) -> list[str]:
    """Curves of the methods; before the study has ended, the usual ones."""
    return list(dict.fromkeys(name for method in methods for name in method.curves)) or list(_USUAL_CURVES)


def _section() -> dict[str, object]:
    return {
        "uuid": _SECTION,
        "name": "Robustness",
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": 2,
        "cardHeight": 360,
    }


def _chart(curve: CurveType) -> dict[str, object]:
    """A line chart with the curve of every run, by the fewest keys that MLflow draws one from.

    The whole view must stay below 5000 characters, which older servers take for a tag.
    """
    metric = safe_name(curve.metric)
    return {
        "type": "LINE",
        "uuid": f"ipgl-{curve.name}",
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "displayPoints": True,
        "range": {},
    }


def _filter(study: StudyView, kind: str | None = None) -> str:
    conditions = {"ipgl.study": study.study, "ipgl.execution": study.execution} | (
        {"ipgl.kind": kind} if kind else {}
    )
    return " and ".join(f"tags.`{name}`='{value}'" for name, value in conditions.items())


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _columns(group: str, names: Iterable[str]) -> list[str]:
    return [f"{group}.`{name}`" for name in names]


def _key(parent: str, view: str) -> str:
    return f"ipgl-{parent}-{view}"


def _tag(parent: str, view: str) -> str:
    return f"mlflow.sharedViewState.{_key(parent, view)}"


def _text(view: dict[str, object]) -> str:
    return json.dumps(view, separators=(",", ":"))
