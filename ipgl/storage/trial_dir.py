"""A trial's folder on storage: its records (start, history, result), its artifacts and its checkpoints."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from ipgl.config import TrialConfig
from ipgl.core.atomic_files import write_atomically, write_text
from ipgl.core.errors import StudyStateError
from ipgl.core.retry import retrying
from ipgl.evaluation import Predictions, RunResult, read_predictions
from ipgl.storage.json_files import read_json, read_model
from ipgl.storage.layout import TrialFiles
from ipgl.storage.remote import Remote, download, upload


class TrialStart(BaseModel):
    """Content of `trial.json`."""

    begun_at: float
    config: TrialConfig


def read_start_time(files: TrialFiles) -> float | None:
    """When a trial was started, in seconds since the epoch; None if it never was. Nothing is downloaded.

    Raises:
        StudyStateError: The file is damaged, or another version of ipgl wrote it.
    """
    start = read_model(files.start, TrialStart)
    return start.begun_at if start else None


@dataclass(frozen=True)
class TrialFolder:
    """A trial's folder.

    Attributes:
        path: The folder; where the storage is a URI, this process's local copy of it.
        number: Position in the order in which the study's trials were started, from 1; 0 if not known.
        remote: The storage, if it is a URI.
    """

    path: Path
    number: int = 0
    remote: Remote | None = None

    @property
    def files(self) -> TrialFiles:
        """Paths of the files."""
        return TrialFiles(self.path)

    @property
    def artifacts(self) -> TrialArtifacts:
        """The trained model and its predictions."""
        return TrialArtifacts(self.files, self.remote)

    @property
    def checkpoints(self) -> TrialCheckpoints:
        """The checkpoints of a trial that is running."""
        return TrialCheckpoints(self.files, self.remote)

    def create(self) -> None:
        """Make the folder, and its parents."""
        self.path.mkdir(parents=True, exist_ok=True)

    def fetch(self) -> None:
        """Download the result and the artifacts, if the storage is a URI."""
        files = self.files
        download(self.remote, files.result, files.model, files.predictions, files.pair_predictions)

    def write_start(self, config: TrialConfig) -> None:
        """Record the configuration and the time of the start; a restarted trial keeps its first record."""
        self.create()
        download(self.remote, self.files.start)
        if not self.files.start.exists():
            start = {"begun_at": time.time(), "config": config.model_dump(mode="json")}
            self._write(self.files.start, json.dumps(start))

    def read_start(self) -> TrialConfig | None:
        """The configuration that `write_start` recorded; None if the trial was never started.

        Raises:
            StudyStateError: The file is damaged, or another version of ipgl wrote it.
        """
        download(self.remote, self.files.start)
        start = read_model(self.files.start, TrialStart)
        return start.config if start else None

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Replace the evaluation rows."""
        self._write(self.files.history, json.dumps(rows))

    def read_history(self) -> list[dict[str, float]]:
        """The evaluation rows so far; empty before the first.

        Raises:
            StudyStateError: The file is not valid JSON.
        """
        download(self.remote, self.files.history)
        return cast(list[dict[str, float]] | None, read_json(self.files.history)) or []

    def write_trace(self, rows: list[dict[str, float]]) -> None:
        """Record values of the training steps, rounded to six significant digits: only figures use them."""
        short = [{name: float(f"{value:.6g}") for name, value in row.items()} for row in rows]
        self._write(self.files.trace, json.dumps(short))

    def read_trace(self) -> list[dict[str, float]]:
        """The values that `write_trace` recorded; empty if there are none, or if the file is damaged.

        Only completed final runs have them, and not those of early versions. Damage is no error, because nothing but
        a figure depends on this file.
        """
        download(self.remote, self.files.trace)
        try:
            return cast(list[dict[str, float]] | None, read_json(self.files.trace)) or []
        except StudyStateError:
            return []

    def write_result(self, result: RunResult) -> None:
        """Record the end of the trial."""
        self._write(self.files.result, result.model_dump_json(indent=1))

    def read_result(self) -> RunResult | None:
        """The result, with this folder's `number` if that is known; None while there is none.

        Raises:
            StudyStateError: The file is not a result.
        """
        download(self.remote, self.files.result)
        result = read_model(self.files.result, RunResult)
        return result.model_copy(update={"number": self.number}) if result and self.number else result

    def require_result(self) -> RunResult:
        """The result.

        Raises:
            StudyStateError: There is none, or the file is not a result.
        """
        result = self.read_result()
        if result is None:
            raise StudyStateError(f"{self.files.result}: there is no result; the run has not ended")
        return result

    def _write(self, path: Path, text: str) -> None:
        retrying(lambda: write_text(path, text))
        upload(self.remote, path)


@dataclass(frozen=True)
class TrialArtifacts:
    """The trained model and the predictions of a completed trial."""

    files: TrialFiles
    remote: Remote | None = None

    def write_model(self, state: bytes | memoryview) -> None:
        """Write the trained model's state, as `torch.save` gives it."""
        retrying(lambda: write_atomically(self.files.model, lambda file: file.write(state)))
        upload(self.remote, self.files.model)

    def write_predictions(self, predictions: Predictions) -> None:
        """Write the predictions on test examples and held-out pairs."""
        tables = self.files.predictions, self.files.pair_predictions
        retrying(lambda: predictions.write(*tables))
        upload(self.remote, *tables)

    def read_predictions(self) -> Predictions:
        """The predictions on test examples and held-out pairs.

        Raises:
            StudyStateError: A file is missing or damaged.
        """
        tables = self.files.predictions, self.files.pair_predictions
        download(self.remote, *tables)
        try:
            return read_predictions(*tables)
        except (OSError, ValueError, KeyError) as error:
            raise StudyStateError(
                f"{self.files.predictions}: the predictions cannot be read ({error}); "
                f"remove {self.files.folder} and resume the study to run it again"
            ) from None


@dataclass(frozen=True)
class TrialCheckpoints:
    """The checkpoints of a trial: one file, or one per worker of a distributed trial."""

    files: TrialFiles
    remote: Remote | None = None

    def fetch(self) -> None:
        """Download the checkpoints, if the storage is a URI."""
        if self.remote:
            self.remote.pull_below(self.files.folder)

    def publish(self) -> None:
        """Upload the checkpoints, if the storage is a URI, so that another machine can continue from them."""
        upload(self.remote, *self._paths())

    def remove(self) -> None:
        """Remove the checkpoints, here and on the storage."""
        self.fetch()
        for path in self._paths():
            if self.remote:
                self.remote.remove(path)
            else:
                path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self.files.folder.glob("checkpoint*.pt"))
