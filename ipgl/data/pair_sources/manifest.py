"""`manifest`: a CSV file that names the pairs, `image_a,image_b[,label]`."""

from __future__ import annotations

import csv
import os
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ipgl.data.images import FileImage
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources.candidates import Candidates, Side, units_of
from ipgl.data.pair_sources.settings import ImagePairSettings
from ipgl.data.problems import DataProblems
from ipgl.data.table import SPLIT_NAMES, TRAIN, ImageTable
from ipgl.errors import DataError

_COLUMNS = ("image_a", "image_b", "label")


class _RefusedError(Exception):
    """One row's fault."""


def manifest_pairs(settings: ImagePairSettings, request: PairRequest) -> Candidates:
    """The file's rows. Paths are relative to the data set's root; the label may be left out for training images.

    Raises:
        DataError: The file is missing or breaks a rule: each faulty row with its line, the first 20 and a count. A
            pair with a validation or test image is refused, and so is a path that leaves the root.
    """
    table = request.table
    file = table.root / settings.file
    if PurePosixPath(settings.file).is_absolute() or ".." in PurePosixPath(settings.file).parts:
        raise DataError(f"pairs.file must stay below {table.root}, but got {settings.file!r}")
    rows_of = {path: row for row, path in enumerate(table.paths)}
    position = {int(row): i for i, row in enumerate(table.rows_of(TRAIN))}
    held = _held(table)
    problems = DataProblems(f"{file}: some pairs break a rule")
    found: list[tuple[str, str, int, int, int]] = []
    for line, record in _records(file):
        try:
            a, b = (_member(table, record[name], rows_of, held) for name in ("image_a", "image_b"))
            if a == b:
                raise _RefusedError(f"image_a and image_b must differ, but both are {a!r}")
            rows = [rows_of[name] for name in (a, b) if name in rows_of]
            label = _label(table, record.get("label") or "", rows)
        except _RefusedError as fault:
            problems.add(f"{file}, line {line}", str(fault))
            continue
        found.append((a, b, label, position[rows[0]] if rows else -1, line))
    if not request.skip_bad:
        problems.check("Mend the rows, or leave them out with --skip-bad.")
    first, second = [pair[0] for pair in found], [pair[1] for pair in found]
    lines = [pair[4] for pair in found]
    label_of, source = (np.array([pair[i] for pair in found], dtype=np.int64) for i in (2, 3))
    return Candidates(
        _side(table, file, first, lines, rows_of),
        _side(table, file, second, lines, rows_of),
        label_of,
        source,
        units_of(first, second),
        tuple(f"{a} {b} {label}" for a, b, label, _, _ in found),
        tuple(f"pair skipped: {where}: {what}" for where, what in problems.found),
    )


def _records(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Rows with their line numbers, header checked."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            header = reader.fieldnames or []
            if missing := [name for name in _COLUMNS[:2] if name not in header]:
                raise DataError(
                    f"{file}, line 1: the columns are image_a,image_b[,label], but {', '.join(missing)} is missing; "
                    f"found: {','.join(header) or 'an empty file'}"
                )
            return [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]
    except FileNotFoundError:
        raise DataError(
            f"{file}: there is no such file; pairs.file names the CSV of pairs, below the data set's root"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV in UTF-8 ({error})") from None


def _member(table: ImageTable, text: str, rows_of: dict[str, int], held: dict[tuple[int, int], int]) -> str:
    """The path below the root, normalised; a validation or test image is refused, under whatever name."""
    if not text:
        raise _RefusedError("image_a and image_b must name files, but one is empty")
    name = os.path.normpath(text)
    if PurePosixPath(name).is_absolute() or name.split("/")[0] == "..":
        raise _RefusedError(f"a path must stay below {table.root}, but got {text!r}")
    try:
        row = held.get(_identity(table.root / name))
    except OSError:
        raise _RefusedError(f"{table.root / name} is missing") from None
    row = rows_of.get(name) if row is None else row
    if row is not None and table.split[row] != TRAIN:
        raise _RefusedError(
            f"{text!r} is the {SPLIT_NAMES[table.split[row]]} image of line {table.line[row]} in {table.file.name}; "
            "pairs may use training images, and images outside the table"
        )
    return name


def _identity(path: Path) -> tuple[int, int]:
    """Device and inode: the same for all names of a file, links included."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _held(table: ImageTable) -> dict[tuple[int, int], int]:
    """The files of validation and test, as rows by identity."""
    rows = np.flatnonzero(table.split != TRAIN).tolist()
    return {_identity(table.root / table.paths[row]): row for row in rows}


def _label(table: ImageTable, text: str, rows: list[int]) -> int:
    known = {int(table.label[row]) for row in rows}
    classes = len(table.class_names)
    if len(known) > 1:
        raise _RefusedError(
            f"both members must have one label, but the table says {' and '.join(map(str, sorted(known)))}"
        )
    if not text:
        if not known:
            raise _RefusedError("neither image is in the table, so that the column label is needed")
        return known.pop()
    if not text.isdecimal() or int(text) >= classes:
        raise _RefusedError(f"label must be one of 0 to {classes - 1}, but got {text!r}")
    if known and int(text) not in known:
        raise _RefusedError(f"label is {text}, but the table says {known.pop()}")
    return int(text)


def _side(table: ImageTable, file: Path, names: list[str], lines: list[int], rows_of: dict[str, int]) -> Side:
    if all(name in rows_of for name in names):
        rows: NDArray[np.int64] = np.array([rows_of[name] for name in names], dtype=np.int64)
        return rows
    return [
        FileImage(table.root / name, f"{file}, line {line}") for name, line in zip(names, lines, strict=True)
    ]
