"""Read a finished study's results back from MLflow, for notebooks and scripts without the storage folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ipgl.core.errors import TrackingError
from ipgl.evaluation import RunResult, StudyResults, StudySummary, Tested, read_predictions
from ipgl.tracking.client import connect, probe, set_environment, tracking_errors
from ipgl.tracking.store import Store, locate

if TYPE_CHECKING:
    import pandas
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000


@dataclass(frozen=True)
class FetchedStudy:
    """A finished study, read from MLflow.

    Attributes:
        results: The summary with every run; histories are left in MLflow.
        tested: Label -> the completed final runs with their predictions, by rising seed, then number.
        run_ids: A run's key -> its MLflow id; the study's own run is under its name.
    """

    results: StudyResults
    tested: dict[str, list[Tested]]
    run_ids: dict[str, str]

    @property
    def summary(self) -> StudySummary:
        """The study's outcome."""
        return self.results.summary

    def curves(self) -> pandas.DataFrame:
        """Every method's curves, one row per point: `method, curve, severity, accuracy, low, high`."""
        import pandas

        return pandas.DataFrame(
            [
                {"method": method.label, "curve": name, **point.model_dump(exclude={"agreement"})}
                for method in self.summary.methods
                for name, curve in method.curves.items()
                for point in curve
            ]
        )

    def tests(self) -> pandas.DataFrame:
        """Every pair of methods on the shifted accuracy, each alone and corrected for their number.

        Columns `a, b, difference, low, high, p_value`, and `corrected_low, corrected_high, corrected_p_value`.
        """
        import pandas

        return pandas.DataFrame(
            [
                {
                    "a": test.a,
                    "b": test.b,
                    "difference": test.difference.mean,
                    "low": test.difference.low,
                    "high": test.difference.high,
                    "p_value": test.p_value,
                    "corrected_low": test.corrected.low,
                    "corrected_high": test.corrected.high,
                    "corrected_p_value": test.corrected_p_value,
                }
                for test in self.summary.tests
            ]
        )


def fetch_study(study: str, uri: str | None = None, storage: str | Path = "runs") -> FetchedStudy:
    """Fetch a study by its name; of several executions the last one that finished.

    Args:
        study: The study's name.
        uri: MLflow server or database; None is the database in `storage`.
        storage: Folder of all studies.

    Raises:
        TrackingError: MLflow cannot be used, holds no finished study of this name (the message lists those that
            it holds), or one of its files is damaged.
    """
    store = locate(Path(storage).expanduser(), uri)
    set_environment()
    with tracking_errors(store, f"fetch study {study!r}"):
        if store.database and not store.database.exists():
            raise TrackingError(
                f"{store.database}: there is no MLflow database; name the folder that holds the studies with "
                "`storage`, or a server with `uri`"
            )
        probe(store)
        client = connect(store)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        parents = _search(
            client, experiments, "tags.`ipgl.kind` = 'study' and tags.`ipgl.status` = 'completed'"
        )
        own = [run for run in parents if run.data.tags.get("ipgl.study") == study]
        if not own:
            names = sorted({run.data.tags["ipgl.study"] for run in parents if "ipgl.study" in run.data.tags})
            known = (
                f"finished studies there: {', '.join(names)}" if names else "there is no finished study yet"
            )
            raise TrackingError(f"MLflow at {store.display_uri} holds no finished study {study!r}; {known}")
        parent = max(own, key=lambda run: run.info.start_time)
        execution = parent.data.tags["ipgl.execution"]
        children = _search(
            client,
            [parent.info.experiment_id],
            f"tags.`ipgl.execution` = '{execution}' and tags.`ipgl.trial` != ''",
        )
        return _fetch(client, store, parent, children)


def _fetch(client: MlflowClient, store: Store, parent: Run, children: Sequence[Run]) -> FetchedStudy:
    runs: list[RunResult] = []
    tested: dict[str, list[Tested]] = {}
    ids = {parent.data.tags["ipgl.study"]: parent.info.run_id}
    with tempfile.TemporaryDirectory() as scratch:

        def download(run: Run, name: str) -> Path:
            # Names that a server sends are never used as names of local folders.
            folder = tempfile.mkdtemp(dir=scratch)
            return Path(client.download_artifacts(run.info.run_id, name, folder))

        try:
            summary = StudySummary.model_validate_json(download(parent, "summary.json").read_bytes())
            # In the study file's order, on which the draws of a repeated comparison depend.
            tested = {method.label: [] for method in summary.methods}
            for child in children:
                if child.data.tags.get("ipgl.status") not in ("completed", "stopped", "failed"):
                    continue
                result = RunResult.model_validate_json(download(child, "result.json").read_bytes())
                runs.append(result)
                ids[result.trial] = child.info.run_id
                if result.phase == "final" and result.status == "completed":
                    files = {artifact.path for artifact in client.list_artifacts(child.info.run_id)}
                    pairs = Path(scratch) / "missing"
                    if "pairs.parquet" in files:
                        pairs = download(child, "pairs.parquet")
                    predictions = read_predictions(download(child, "predictions.parquet"), pairs)
                    tested.setdefault(result.label, []).append(Tested(result, predictions))
        except (ValidationError, json.JSONDecodeError, ValueError, KeyError) as error:
            cause = " ".join(str(error).split())[:300]
            raise TrackingError(
                f"MLflow at {store.display_uri}: a file of study {parent.data.tags['ipgl.study']!r} is damaged or of "
                f"another version ({cause}); `ipgl track sync` writes it again from the study's files"
            ) from None
    runs.sort(key=lambda run: run.number)
    for known in tested.values():
        known.sort(key=lambda one: (one.run.seed, one.run.number))
    return FetchedStudy(StudyResults(summary=summary, runs=tuple(runs), histories={}), tested, ids)


def _search(client: MlflowClient, experiments: list[str], condition: str) -> list[Run]:
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(experiments, condition, max_results=_PAGE, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found
