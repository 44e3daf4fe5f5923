"""The state file of a tracker: which runs of a study MLflow holds, and up to which step.

The file is a cache: whatever it lacks is found again on the server by tags, so losing it costs time, never results.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ipgl.core.atomic_files import write_text


class RecordedRun(BaseModel):
    """One recorded run.

    Attributes:
        run_id: Its id in MLflow.
        last_step: Last training step whose metrics were logged; -1 before the first.
        closed: Whether it has its final state and is never written again.
    """

    model_config = ConfigDict(extra="forbid")

    run_id: str
    last_step: int = -1
    closed: bool = False


class RecordedStudy(BaseModel):
    """One recorded execution of a study.

    Attributes:
        store: Address of the server or database, without credentials.
        experiment_id: Id of the MLflow experiment.
        execution: The execution's name, `StudyView.execution`.
        parent: MLflow id of the study's run; empty before it exists.
        runs: The trials' runs by `RunView.key`.
    """

    model_config = ConfigDict(extra="forbid")

    store: str = ""
    experiment_id: str = ""
    execution: str = ""
    parent: str = ""
    runs: dict[str, RecordedRun] = {}


def load_recorded(path: Path) -> RecordedStudy:
    """Read the file; one that is missing, damaged or of another format gives an empty `RecordedStudy`."""
    try:
        return RecordedStudy.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return RecordedStudy()


def save_recorded(recorded: RecordedStudy, path: Path) -> None:
    """Replace the file in one step, so that a kill at any moment leaves the old or the new content.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, recorded.model_dump_json(indent=1))
