"""Reading JSON files, with retries and with errors that name the file and the next step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from ipgl.core.errors import StudyStateError
from ipgl.core.retry import retrying

_T = TypeVar("_T", bound=BaseModel)


def read_json(path: Path) -> JsonValue:
    """The decoded content of a JSON file; None if there is no such file.

    Raises:
        StudyStateError: The file is not valid JSON.
        OSError: It cannot be read.
    """
    try:
        content: JsonValue = json.loads(retrying(lambda: path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise StudyStateError(
            f"{path}: not valid JSON ({error}); restore the file or remove the run"
        ) from None
    return content


def read_model(path: Path, kind: type[_T]) -> _T | None:
    """A JSON file validated as a pydantic model; None if there is no such file.

    Raises:
        StudyStateError: The file does not hold such a model; the message names the first field that is wrong.
        OSError: It cannot be read.
    """
    try:
        return kind.model_validate_json(retrying(path.read_bytes))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StudyStateError(
            f"{path}: not a valid {kind.__name__} ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
            "remove the file and resume the study to make it again"
        ) from None
