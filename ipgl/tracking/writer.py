"""MLflow calls of the tracker. Each may be repeated without effect, and none passes on credentials."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ipgl.tracking.base import ModelView
from ipgl.tracking.client import connect
from ipgl.tracking.mlflow_values import (
    PARAMETERS_PER_CALL,
    Point,
    milliseconds,
    parameter_texts,
    point_batches,
    truncated,
)
from ipgl.tracking.models import register
from ipgl.tracking.store import Store
from ipgl.tracking.tags import LONGEST_TAG

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

log = logging.getLogger(__name__)

_REWRITABLE = {".csv", ".html", ".json", ".jsonl", ".log", ".md", ".txt", ".yaml", ".yml"}


class Writer:
    """Finds, creates and fills runs; MLflow's errors are not translated."""

    def __init__(self, store: Store) -> None:
        """Remember the store; the first call connects."""
        self.store = store
        self._client: MlflowClient | None = None

    @property
    def client(self) -> MlflowClient:
        """The connection; made, and a missing SQLite file created, on first use."""
        if self._client is None:
            self._client = connect(self.store)
        return self._client

    def find_or_create_experiment(self, name: str) -> str:
        """The id of the experiment with this name."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._create_experiment(name)
            except MlflowException as error:  # another study's driver created it meanwhile
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise MlflowException(
                f"experiment {name!r} has been deleted there; restore it with "
                f"`mlflow experiments restore -x {found.experiment_id}` or name another one in `tracking.experiment`"
            )
        return str(found.experiment_id)

    def _create_experiment(self, name: str) -> str:
        root = self.store.artifact_root
        location = (root / name.replace("/", "_")).as_posix() if root else None
        # With this tag MLflow opens its pages for runs instead of those for language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(self.client.create_experiment(name, location, tags))

    def set_views(self, experiment_id: str, views: Mapping[str, str]) -> None:
        """Store shared views in the experiment's tags."""
        for name, view in views.items():
            self.client.set_experiment_tag(experiment_id, name, view)

    def exists(self, run_id: str, execution: str) -> bool:
        """Whether the run exists, is not deleted, and belongs to the execution."""
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return bool(run.info.lifecycle_stage == "active" and run.data.tags.get("ipgl.execution") == execution)

    def search(self, experiment_id: str, tags: Mapping[str, str], running: bool = False) -> list[Run]:
        """Undeleted runs that have all these tags, the first started first; at most 1000."""
        conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        if running:
            conditions.append("attributes.status = 'RUNNING'")
        order = ["attributes.start_time ASC"]
        return list(self.client.search_runs([experiment_id], " and ".join(conditions), order_by=order))

    def create(self, experiment_id: str, name: str, tags: Mapping[str, str], started_at: float | None) -> Run:
        """A new run; `started_at` in seconds since the epoch, None is now."""
        start = milliseconds(time.time() if started_at is None else started_at)
        return self.client.create_run(experiment_id, start, self._redacted(tags), name)

    def reopen(self, run_id: str) -> None:
        """Show a run as running again."""
        self.set_tags(run_id, {"ipgl.status": "running"})
        self.client.update_run(run_id, status="RUNNING")

    def finish(self, run_id: str, state: str, tags: Mapping[str, str], ended: float = 0.0) -> None:
        """Give a run its final tags, then its final MLflow state; `ended` in seconds, 0 is now."""
        self.set_tags(run_id, tags)
        self.client.set_terminated(run_id, state, milliseconds(ended) or None)

    def log_missing_parameters(self, run: Run, parameters: Mapping[str, object]) -> None:
        """Log what `run` (as found or created) lacks; MLflow never changes a parameter's first value."""
        from mlflow.entities import Param

        texts = {key: self.store.redact(text) for key, text in parameter_texts(parameters).items()}
        known = run.data.params
        if changed := sorted(key for key in texts.keys() & known.keys() if texts[key] != known[key]):
            log.warning("run %s keeps its first values of %s in MLflow", run.info.run_id, ", ".join(changed))
        missing = [Param(key, text) for key, text in texts.items() if key not in known]
        for start in range(0, len(missing), PARAMETERS_PER_CALL):
            self.client.log_batch(run.info.run_id, params=missing[start : start + PARAMETERS_PER_CALL])

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Log metrics; a point that is there already is left alone."""
        from mlflow.entities import Metric

        for batch in point_batches([point] for point in points):
            metrics = [Metric(point.name, point.value, point.milliseconds, point.step) for point in batch]
            self.client.log_batch(run_id, metrics=metrics)

    def log_dataset(self, run_id: str, dataset: DatasetInput) -> None:
        """Make a data set an input of the run; one that is there already is left alone."""
        self.client.log_inputs(run_id, [dataset])

    def register(
        self,
        experiment_id: str,
        run_id: str,
        view: ModelView,
        name: str,
        alias: str,
        tags: Mapping[str, str],
        metrics: Sequence[Point],
        question: str,
    ) -> str:
        """Make sure that a run's model is a version of the registered model `name`; gives the version.

        Raises:
            ModelError: The server does not offer or allow it, or the model cannot be exported.
        """
        run = self.client.get_run(run_id)
        return register(
            self.client,
            view,
            name=name,
            alias=alias,
            experiment_id=experiment_id,
            run_id=run_id,
            tags=self._redacted(tags),
            description=f"{view.label} as the run {run.info.run_name} trained it. "
            f'Load it with `mlflow.pyfunc.load_model("models:/{name}@{alias}")`: '
            f"it predicts the probabilities of {', '.join(view.class_names)}.",
            parameters=run.data.params,
            metrics=metrics,
            question=self.store.redact(question),
        )

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags in one call; empty ones are left out."""
        from mlflow.entities import RunTag

        self.client.log_batch(
            run_id, tags=[RunTag(name, text) for name, text in self._redacted(tags).items()]
        )

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Attach text as the artifact `name`."""
        self.client.log_text(run_id, self.store.remove_own_credentials(text), name)

    def log_figure(self, run_id: str, figure: go.Figure, name: str) -> None:
        """Attach a Plotly figure as a page that needs no network (MLflow's default fetches plotly.js)."""
        self.client.log_figure(run_id, figure, f"figures/{name}.html", save_kwargs={"include_plotlyjs": True})

    def attach(self, run_id: str, files: Iterable[Path]) -> None:
        """Attach files by their names; text files lose the store's credentials."""
        for path in files:
            if not path.is_file():
                log.warning("%s is not there and so is not attached in MLflow", path)
            elif path.suffix in _REWRITABLE:
                self.log_text(run_id, path.read_text(encoding="utf-8", errors="replace"), path.name)
            else:
                self.client.log_artifact(run_id, str(path))

    def _redacted(self, tags: Mapping[str, str]) -> dict[str, str]:
        return {name: truncated(self.store.redact(text), LONGEST_TAG) for name, text in tags.items() if text}
