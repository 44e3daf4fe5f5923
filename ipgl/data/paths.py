"""Normalised paths of tables and pair lists, and the identity of files on disk."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Sequence
from pathlib import Path

_Identity = tuple[int, int]


def normal_path(text: str) -> str:
    r"""`text` with `/` between folders, and without `.`, inner `..` and doubled slashes: `.\a\b.png` is `a/b.png`.

    Raises:
        ValueError: The path is empty, holds a NUL, is absolute, or leaves the folder that it is relative to.
    """
    if not text:
        raise ValueError("the path is empty")
    if "\0" in text:
        raise ValueError(f"the path holds a NUL character: {text!r}")
    path = posixpath.normpath(text.replace("\\", "/"))
    first = path.split("/")[0]
    if not first or first in (".", "..") or ":" in first:
        raise ValueError(f"the path must stay below the root, but got {text!r}")
    return path


def as_on_disk(root: Path, path: str) -> str:
    """`path`, or its composed or decomposed Unicode form (NFC, NFD) if only a file of that name lies below `root`."""
    if path.isascii():
        return path
    spellings = (path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD")))
    return next((spelling for spelling in spellings if (root / spelling).exists()), path)


class KnownFiles:
    """Finds a table's row by any name of its file: other case where the file system ignores it, links of both kinds."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        """Args: folder that `paths` are relative to; paths in normal form, whose positions are the rows."""
        self._root, self._paths = root, paths
        self._by_name = {path: row for row, path in enumerate(paths)}
        self._by_identity: dict[_Identity, int] | None = None

    def row(self, path: str) -> int | None:
        """The row of a path in normal form; None if the table does not hold the file.

        Raises:
            OSError: There is no such file.
        """
        if path in self._by_name:
            return self._by_name[path]
        identity = _identity(self._root / path)
        if self._by_identity is None:  # asks the file system about every row
            self._by_identity = {
                _identity(self._root / known): row for row, known in reversed(list(enumerate(self._paths)))
            }
        return self._by_identity.get(identity)


def _identity(path: Path) -> _Identity:
    """Device and inode."""
    status = path.stat()
    return status.st_dev, status.st_ino
