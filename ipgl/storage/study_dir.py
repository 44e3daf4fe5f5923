"""A study's folder on storage: its state, winners and summary, and the folders of its trials."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from ipgl.core.atomic_files import write_atomically, write_text
from ipgl.core.errors import StudyStateError
from ipgl.core.retry import retrying
from ipgl.evaluation import StudySummary
from ipgl.storage.json_files import read_json, read_model
from ipgl.storage.layout import StudyFiles, TrialFiles
from ipgl.storage.remote import Remote, download, is_uri, remote_at
from ipgl.storage.trial_dir import TrialFolder, read_start_time


class StudyState(TypedDict, total=False):
    """Content of `study.json`.

    Attributes:
        execution: Identifier of the study's execution; the same after it is resumed.
        config_hash: Hash of the study file's meaning.
        file: The study file, as the user named it.
        created_at: When the study was created, in seconds since the epoch.
        seconds: Time that the study has run, over all sessions.
        sessions: How often the study was started or resumed.
        phase: `search`, `final`, `component` or `finished`.
        skip_bad: Whether the data set leaves out faulty rows, whatever the study file says.
        environment: Facts about the last session, such as the Ray address, by name.
    """

    execution: str
    config_hash: str
    file: str
    created_at: float
    seconds: float
    sessions: int
    phase: str
    skip_bad: bool
    environment: dict[str, str]


@dataclass(frozen=True)
class StudyFolder:
    """A study's folder.

    Attributes:
        path: The folder; where the storage is a URI, this process's local copy of it.
        remote: The storage, if it is a URI.
    """

    path: Path
    remote: Remote | None = None

    @classmethod
    def at(cls, storage: str, name: str) -> StudyFolder:
        """The folder of the study `name` on a storage, which is a folder's path or a URI."""
        if not is_uri(storage):
            return cls(Path(storage).expanduser().resolve() / name)
        remote = remote_at(storage)
        return cls(remote.local / name, remote)

    def __reduce__(self) -> tuple[Callable[[str, str], StudyFolder], tuple[str, str]]:
        return (StudyFolder.at, (self.storage, self.name))  # another process has local copies of its own

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def storage(self) -> str:
        """The storage that holds the study, as a study file names it."""
        return self.remote.uri if self.remote else str(self.path.parent)

    @property
    def display_uri(self) -> str:
        """The folder's path or URI for messages, without credentials."""
        return f"{self.remote.display_uri}/{self.name}" if self.remote else str(self.path)

    @property
    def files(self) -> StudyFiles:
        """Paths of the files."""
        return StudyFiles(self.path)

    def trial(self, key: str) -> TrialFolder:
        """The folder of the trial with this key."""
        return TrialFolder(self.files.trials / key, remote=self.remote)

    def trials(self, damaged: list[str] | None = None) -> list[TrialFolder]:
        """The folders of all trials that were started, numbered in that order.

        Args:
            damaged: Receives an error message for each trial whose `trial.json` cannot be read; these are left out.

        Raises:
            StudyStateError: A `trial.json` is damaged, unless `damaged` is given.
        """
        start_file = TrialFiles(self.path).start.name
        if self.remote:
            self.remote.pull_below(self.files.trials, [start_file])
        started = []
        for path in sorted(self.files.trials.glob(f"*/{start_file}")):
            try:
                time = read_start_time(TrialFiles(path.parent))
            except StudyStateError as error:
                if damaged is None:
                    raise
                damaged.append(str(error))
                continue
            if time is not None:
                started.append((time, path.parent))
        return [
            TrialFolder(path, number, self.remote)
            for number, (_, path) in enumerate(sorted(started), start=1)
        ]

    def fetch(self) -> None:
        """Download the study's own files and imports, but no trials, if the storage is a URI."""
        if self.remote:
            files = self.files
            self.remote.pull(files.state, files.source, files.winners, files.summary, files.tracking)
            self.remote.pull_below(files.imports)

    def publish(self) -> None:
        """Upload everything but the trials, if the storage is a URI: study file, imports, report, tables, tracking."""
        if self.remote:
            for path in sorted(self.path.iterdir()):
                if path.is_dir() and path.name not in ("trials", "ray"):
                    self.remote.push_below(path)
                elif path.is_file() and not path.name.startswith("."):
                    self.remote.push(path)

    def write_state(self, state: StudyState) -> None:
        """Replace the study's state.

        Raises:
            StudyStateError: The storage refuses the file; this holds for the other `write_` methods, too.
        """
        self._write(self.files.state, json.dumps(state, indent=1))

    def read_state(self) -> StudyState | None:
        """The study's state; None if there is no study here.

        Raises:
            StudyStateError: The file is damaged; this holds for the other `read_` methods, too.
        """
        return cast(StudyState | None, read_json(self._current(self.files.state)))

    def write_winners(self, winners: dict[str, str | None]) -> None:
        """Record the winner of each label: a trial key, or None if no trial completed."""
        self._write(self.files.winners, json.dumps(winners, indent=1))

    def read_winners(self) -> dict[str, str | None] | None:
        """The winners by label; None before the search has ended."""
        return cast(dict[str, str | None] | None, read_json(self._current(self.files.winners)))

    def write_summary(self, summary: StudySummary) -> None:
        """Record the results of the finished study."""
        self._write(self.files.summary, summary.model_dump_json(indent=1))

    def read_summary(self) -> StudySummary | None:
        """The results of the finished study; None before it has finished."""
        return read_model(self._current(self.files.summary), StudySummary)

    def _write(self, path: Path, text: str) -> None:
        try:
            with self.remote.guard if self.remote else nullcontext():
                retrying(lambda: write_text(path, text))
                if self.remote:
                    self.remote.push(path)
        except OSError as error:
            raise write_error(self, error) from None

    def _current(self, path: Path) -> Path:
        download(self.remote, path)
        return path


def studies_at(storage: str) -> list[StudyFolder]:
    """The folders of all studies on a storage, by name."""
    root = StudyFolder.at(storage, "any")
    state_file = root.files.state.name
    if root.remote:
        root.remote.pull_below(root.remote.local, [state_file])
    return [
        StudyFolder(path.parent, root.remote) for path in sorted(root.path.parent.glob(f"*/{state_file}"))
    ]


def study_command(folder: StudyFolder, verb: str, group: str = "study") -> str:
    """A command about a study, for messages: `ipgl study resume NAME`, with `--storage` unless that is the default."""
    if folder.remote:
        option = f" --storage {folder.remote.display_uri}"
    else:
        storage = folder.path.parent
        option = "" if storage == Path("runs").resolve() else f" --storage {storage}"
    return f"ipgl {group} {verb} {folder.name}{option}"


def try_to_write(folder: StudyFolder) -> OSError | None:
    """The error of writing 64 KiB to a study's folder, which is less than any trial needs; None if it works."""
    probe = folder.path / ".writable"
    try:
        write_atomically(probe, lambda file: file.write(bytes(2**16)))
        if folder.remote:
            folder.remote.push(probe)
            folder.remote.remove(probe)
        else:
            probe.unlink()
    except OSError as error:
        return error
    return None


def write_error(folder: StudyFolder, error: OSError) -> StudyStateError:
    """The error for the user when the storage refuses a write."""
    return StudyStateError(
        f"{folder.display_uri}: the storage must take the study's files, but refuses them ({error.strerror or error}); "
        f"what is there is whole: free space or mend it, then go on with `{study_command(folder, 'resume')}`"
    )
