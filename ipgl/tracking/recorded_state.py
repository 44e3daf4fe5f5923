"""How far a study has been recorded: a small file, so that a resumed driver need not ask about every run.

It is a cache: whatever it lacks is found again on the server by tags, so losing it costs time, not truth.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ipgl.core.atomic_files import write_text


class RunCursor(BaseModel):
    """One run: its MLflow id, the last step logged (-1 is none), and whether it is closed for good."""

    model_config = ConfigDict(extra="forbid")

    run_id: str
    last_step: int = -1
    closed: bool = False


class Cursor(BaseModel):
    """One execution of a study: where it is recorded (`store` without credentials) and how far."""

    model_config = ConfigDict(extra="forbid")

    store: str = ""
    experiment_id: str = ""
    execution: str = ""
    parent: str = ""
    runs: dict[str, RunCursor] = {}


def load_cursor(path: Path) -> Cursor:
    """Read the file; one that is missing, damaged or of another format gives an empty cursor."""
    try:
        return Cursor.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError):
        return Cursor()


def save_cursor(cursor: Cursor, path: Path) -> None:
    """Replace the file in one step, so that a kill at any moment leaves the old or the new content.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, cursor.model_dump_json(indent=1))
