"""Where a study keeps what it knows. Storage is the truth: resuming, tables, reports and MLflow all read it.

```
<storage>/<study>/
    study.yaml              the study file, byte for byte
    study.json              configuration hash, plan, sessions
    trials/<key>/           one folder per run, search and final alike
        trial.json          configuration, when it began
        history.json        evaluation rows so far
        trace.json          of a final run: what its training steps reported, in some 200 rows
        checkpoint.pt       while it runs
        result.json         once it has ended
        model.pt            once it has completed
        predictions.parquet one row per test example
        pairs.parquet       one row per held-out pair: predictions on the way from one member to the other
    winners.json            once the search has ended
    summary.json, report.html   once the study has ended
    tracking.json           what the tracker has been told already
```
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ipgl.config import TrialConfig
from ipgl.core.atomic_files import write_atomically, write_text
from ipgl.core.errors import StudyStateError
from ipgl.core.retry import patiently
from ipgl.evaluation import Predictions, RunResult, StudySummary, read_predictions
from ipgl.storage.remote import Remote, is_uri, remote_at

_T = TypeVar("_T", bound=BaseModel)


class _Start(BaseModel):
    """What `trial.json` holds."""

    begun_at: float
    config: TrialConfig


@dataclass(frozen=True)
class TrialFolder:
    """One run's folder; `number` is its place in the order in which the study's runs began, from 1."""

    path: Path
    number: int = 0
    remote: Remote | None = None

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def model(self) -> Path:
        return self.path / "model.pt"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def pair_predictions(self) -> Path:
        return self.path / "pairs.parquet"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    def create(self) -> None:
        """Make the folder, and its parents."""
        self.path.mkdir(parents=True, exist_ok=True)

    def write_start(self, config: TrialConfig) -> None:
        """Note what is about to run, so that an interrupted run can be started again; the first note stays."""
        self.create()
        self._pull(self.path / "trial.json")
        if not (self.path / "trial.json").exists():
            note = {"begun_at": time.time(), "config": config.model_dump(mode="json")}
            self._write("trial.json", json.dumps(note))

    def read_start(self) -> TrialConfig | None:
        """The configuration that `write_start` noted; None if the run was never begun.

        Raises:
            StudyStateError: The file is damaged, or another version of ipgl wrote it.
        """
        self._pull(self.path / "trial.json")
        start = _read_model(self.path / "trial.json", _Start)
        return start.config if start else None

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Replace the history."""
        self._write("history.json", json.dumps(rows))

    def read_history(self) -> list[dict[str, float]]:
        """The evaluation rows so far."""
        self._pull(self.path / "history.json")
        return _read_json(self.path / "history.json") or []

    def write_trace(self, rows: list[dict[str, float]]) -> None:
        """Keep what the training steps reported, to six digits: it is there to be looked at."""
        short = [{name: float(f"{value:.6g}") for name, value in row.items()} for row in rows]
        self._write("trace.json", json.dumps(short))

    def read_trace(self) -> list[dict[str, float]]:
        """What the training steps reported; empty for one that is no completed final run, or from before it was kept.

        A figure is all that is made of it, so a damaged file counts as none.
        """
        self._pull(self.path / "trace.json")
        try:
            return _read_json(self.path / "trace.json") or []
        except StudyStateError:
            return []

    def write_result(self, result: RunResult) -> None:
        """Record the end of the run."""
        self._write("result.json", result.model_dump_json(indent=1))

    def read_result(self) -> RunResult | None:
        """The result; None while there is none.

        Raises:
            StudyStateError: The file is not a result.
        """
        self._pull(self.result)
        result = _read_model(self.result, RunResult)
        return result.model_copy(update={"number": self.number}) if result and self.number else result

    def require_result(self) -> RunResult:
        """The result.

        Raises:
            StudyStateError: There is none, or the file is not a result.
        """
        result = self.read_result()
        if result is None:
            raise StudyStateError(f"{self.result}: there is no result; the run has not ended")
        return result

    def write_predictions(self, predictions: Predictions) -> None:
        """Keep each test example's prediction, for intervals across runs."""
        patiently(lambda: predictions.write(self.predictions, self.pair_predictions))
        self._push(self.predictions, self.pair_predictions)

    def write_model(self, state: bytes | memoryview) -> None:
        """Keep the trained model's state, as `torch.save` gives it."""
        patiently(lambda: write_atomically(self.model, lambda file: file.write(state)))
        self._push(self.model)

    def fetch(self) -> None:
        """Make sure that what the run left can be read here; of use where the storage is a URI."""
        self._pull(self.result, self.model, self.predictions, self.pair_predictions)

    def fetch_checkpoints(self) -> None:
        """Make sure that the checkpoints can be read here."""
        if self.remote:
            self.remote.pull_below(self.path)

    def keep_checkpoints(self) -> None:
        """Make sure that the checkpoints outlive this machine."""
        if self.remote:
            self.remote.push(*self._checkpoints())

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of a run that has ended."""
        self.fetch_checkpoints()
        for path in self._checkpoints():
            if self.remote:
                self.remote.remove(path)
            else:
                path.unlink(missing_ok=True)

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint*.pt"))

    def read_predictions(self) -> Predictions:
        """What the run predicted.

        Raises:
            StudyStateError: The file is missing or damaged.
        """
        self._pull(self.predictions, self.pair_predictions)
        try:
            return read_predictions(self.predictions, self.pair_predictions)
        except (OSError, ValueError, KeyError) as error:
            raise StudyStateError(
                f"{self.predictions}: the predictions cannot be read ({error}); "
                f"remove {self.path} and resume the study to run it again"
            ) from None

    def _write(self, name: str, text: str) -> None:
        patiently(lambda: write_text(self.path / name, text))
        self._push(self.path / name)

    def _push(self, *paths: Path) -> None:
        if self.remote:
            self.remote.push(*paths)

    def _pull(self, *paths: Path) -> None:
        if self.remote:
            self.remote.pull(*paths)


@dataclass(frozen=True)
class StudyFolder:
    """One study's folder; where the storage is a URI, `path` is this process's copy of it."""

    path: Path
    remote: Remote | None = None

    @classmethod
    def at(cls, storage: str, name: str) -> StudyFolder:
        """The folder of the study `name` on a storage: a folder's path or a URI."""
        if not is_uri(storage):
            return cls(Path(storage).expanduser().resolve() / name)
        remote = remote_at(storage)
        return cls(remote.local / name, remote)

    def __reduce__(self) -> tuple[Any, ...]:
        return (StudyFolder.at, (self.storage, self.name))  # another process has copies of its own

    @classmethod
    def all_at(cls, storage: str) -> list[StudyFolder]:
        """Every study that was begun on a storage, by name."""
        root = cls.at(storage, "any")
        if root.remote:
            root.remote.pull_below(root.remote.local, ["study.json"])
        return [cls(path.parent, root.remote) for path in sorted(root.path.parent.glob("*/study.json"))]

    @property
    def storage(self) -> str:
        """The storage that the study lies on, as a study file names it."""
        return self.remote.uri if self.remote else str(self.path.parent)

    @property
    def shown(self) -> str:
        """Where the study lies, for people to read."""
        return f"{self.remote.shown}/{self.name}" if self.remote else str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    def command(self, verb: str, group: str = "study") -> str:
        """What to type for this study: `ipgl study resume NAME`, with its storage folder if that is not the default."""
        if self.remote:
            option = f" --storage {self.remote.shown}"
        else:
            storage = self.path.parent
            option = "" if storage == Path("runs").resolve() else f" --storage {storage}"
        return f"ipgl {group} {verb} {self.name}{option}"

    @property
    def source(self) -> Path:
        return self.path / "study.yaml"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def tracking(self) -> Path:
        return self.path / "tracking.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def lock(self) -> Path:
        return self.remote.lock(self.name) if self.remote else self.path / ".lock"

    def trial(self, key: str) -> TrialFolder:
        """The folder of the run with this key."""
        return TrialFolder(self.path / "trials" / key, remote=self.remote)

    def fetch(self) -> None:
        """Make sure that what the study left, its runs aside, can be read here; of use where the storage is a URI."""
        if self.remote:
            names = ("study.json", "study.yaml", "winners.json", "summary.json", "tracking.json")
            self.remote.pull(*(self.path / name for name in names))
            self.remote.pull_below(self.path / "imports")

    def publish(self) -> None:
        """Put what lies beside the runs on the storage: study file, imports, report, tables, the tracker's notes."""
        if self.remote:
            for path in sorted(self.path.iterdir()):
                if path.is_dir() and path.name not in ("trials", "ray"):
                    self.remote.push_below(path)
                elif path.is_file() and not path.name.startswith("."):
                    self.remote.push(path)

    def trials(self, damaged: list[str] | None = None) -> list[TrialFolder]:
        """Every run that was begun, numbered in that order.

        Args:
            damaged: Receives what is wrong with runs whose `trial.json` cannot be read, which are left out.

        Raises:
            StudyStateError: A `trial.json` is damaged, unless `damaged` is given.
        """
        if self.remote:
            self.remote.pull_below(self.path / "trials", ["trial.json"])
        begun = []
        for path in sorted(self.path.glob("trials/*/trial.json")):
            try:
                start = _read_model(path, _Start)
            except StudyStateError as error:
                if damaged is None:
                    raise
                damaged.append(str(error))
                continue
            if start:
                begun.append((start.begun_at, path.parent))
        return [
            TrialFolder(path, number, self.remote) for number, (_, path) in enumerate(sorted(begun), start=1)
        ]

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the study's state."""
        self._write(self.path / "study.json", json.dumps(state, indent=1))

    def read_state(self) -> dict[str, Any] | None:
        """The study's state; None if there is no study here."""
        state: dict[str, Any] | None = _read_json(self._current("study.json"))
        return state

    def write_winners(self, winners: dict[str, str | None]) -> None:
        """Fix each label's winner (a trial key, or None if no trial completed)."""
        self._write(self.path / "winners.json", json.dumps(winners, indent=1))

    def read_winners(self) -> dict[str, str | None] | None:
        """What `write_winners` fixed; None before the search has ended."""
        winners: dict[str, str | None] | None = _read_json(self._current("winners.json"))
        return winners

    def write_summary(self, summary: StudySummary) -> None:
        """Record the outcome."""
        self._write(self.summary, summary.model_dump_json(indent=1))

    def read_summary(self) -> StudySummary | None:
        """The outcome; None before the study has ended."""
        return _read_model(self._current("summary.json"), StudySummary)

    def unwritable(self, error: OSError) -> StudyStateError:
        """What to tell the user when the storage refuses a write."""
        return StudyStateError(
            f"{self.shown}: the storage must take the study's files, but refuses them ({error.strerror or error}); "
            f"what is there is whole: free space or mend it, then go on with `{self.command('resume')}`"
        )

    def refusal(self) -> OSError | None:
        """Why the storage takes no file of 64 KiB, less than any trial leaves; None if it takes one."""
        probe = self.path / ".writable"
        try:
            write_atomically(probe, lambda file: file.write(bytes(2**16)))
            if self.remote:
                self.remote.push(probe)
                self.remote.remove(probe)
            else:
                probe.unlink()
        except OSError as error:
            return error
        return None

    def _write(self, path: Path, text: str) -> None:
        try:
            with self.remote.guard if self.remote else nullcontext():
                patiently(lambda: write_text(path, text))
                if self.remote:
                    self.remote.push(path)
        except OSError as error:
            raise self.unwritable(error) from None

    def _current(self, name: str) -> Path:
        if self.remote:
            self.remote.pull(self.path / name)
        return self.path / name


def _read_json(path: Path) -> Any:
    try:
        return json.loads(patiently(lambda: path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise StudyStateError(
            f"{path}: not valid JSON ({error}); restore the file or remove the run"
        ) from None


def _read_model(path: Path, kind: type[_T]) -> _T | None:
    try:
        return kind.model_validate_json(patiently(path.read_bytes))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StudyStateError(
            f"{path}: not a valid {kind.__name__} ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
            "remove the file and resume the study to make it again"
        ) from None
