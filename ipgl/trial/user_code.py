"""Import of the user's Python files and modules, which register methods, models or data sets."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from ipgl.core.errors import IpglError

FOLDER = "imports"


class ImportFailedError(IpglError):
    """An entry of `imports` cannot be imported; `position` is its index in the list."""

    def __init__(self, position: int, message: str) -> None:
        self.position = position
        super().__init__(message)


def load_imports(entries: Iterable[str], folder: Path) -> None:
    """Import every entry once per process; a file is imported again if it has changed.

    Args:
        entries: Files, which end in `.py`, or names of modules on the import path.
        folder: Folder to which files are relative: that of the study file, or the study's folder with its copies.

    Raises:
        ImportFailedError: A file or module is missing or fails.
    """
    for position, entry in enumerate(entries):
        try:
            if entry.endswith(".py"):
                _load_file(_found(entry, folder))
            else:
                importlib.import_module(entry)
        except FileNotFoundError as error:
            raise ImportFailedError(
                position,
                f"no such file: {error}; a file is relative to the study file, a module is written without `.py`",
            ) from None
        except Exception as error:  # the user's code may fail in any way
            raise ImportFailedError(
                position, f"{entry!r} cannot be imported ({type(error).__name__}: {error}); correct it"
            ) from error


def copy_imports(entries: Iterable[str], source: Path, study: Path) -> None:
    """Copy the files of `entries` into the study's folder, for resumed studies and other nodes of a cluster."""
    for entry in entries:
        if entry.endswith(".py"):
            target = study / FOLDER / Path(entry).name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(_found(entry, source), target)


def _found(entry: str, folder: Path) -> Path:
    for path in (folder / entry, folder / FOLDER / Path(entry).name):
        if path.is_file():
            return path
    raise FileNotFoundError(str(folder / entry))


def module_name(module: str) -> str:
    """A module's name; that of a file under `imports` is the file's, as if it had been imported by name."""
    return _LOADED.sub(r"\1", module)


_LOADED = re.compile(r"^_ipgl_(.+)_[0-9a-f]{12}$")


def _load_file(path: Path) -> None:
    content = path.read_bytes()
    # The name contains a hash of the content, so that copies of one file are imported once.
    name = f"_ipgl_{path.stem}_{hashlib.sha256(content).hexdigest()[:12]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
