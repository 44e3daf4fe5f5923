"""Pair source `manifest`: pairs named in a CSV file, `image_a,image_b[,label]`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ipgl.core.errors import DataError
from ipgl.data.duplicate_images import describe_evaluation_row, same_pixels
from ipgl.data.fault_list import DataFaults
from ipgl.data.images import FileImage
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources.candidates import Candidates, Side, units_of
from ipgl.data.pair_sources.settings import ImagePairSettings
from ipgl.data.paths import KnownFiles, as_on_disk, normal_path
from ipgl.data.table import TRAIN, ImageTable

_COLUMNS = ("image_a", "image_b", "label")


class _RefusedError(Exception):
    """One row's fault."""


@dataclass(frozen=True)
class _Member:
    """A path below the root in normal form, and its row if the table holds it."""

    path: str
    row: int | None


@dataclass(frozen=True)
class _Pair:
    """One row of the file."""

    a: _Member
    b: _Member
    label: int
    source: int
    line: int


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
    position = {int(row): i for i, row in enumerate(table.rows_of(TRAIN))}
    files, contents = KnownFiles(table.root, table.paths), request.images.contents()
    faults = DataFaults(f"{file}: some pairs break a rule")
    found: list[_Pair] = []
    for line, record in _records(file):
        try:
            a, b = (_member(request, files, contents, record[name]) for name in ("image_a", "image_b"))
            if a.path == b.path:
                raise _RefusedError(f"image_a and image_b must differ, but both are {a.path!r}")
            rows = [member.row for member in (a, b) if member.row is not None]
            label = _label(table, record.get("label") or "", rows)
        except _RefusedError as fault:
            faults.add(f"{file}, line {line}", str(fault))
            continue
        found.append(_Pair(a, b, label, position[rows[0]] if rows else -1, line))
    if not request.skip_bad:
        faults.check("Mend the rows, or leave them out with --skip-bad.")
    first, second = [pair.a for pair in found], [pair.b for pair in found]
    lines = [pair.line for pair in found]
    return Candidates(
        _side(table, file, first, lines),
        _side(table, file, second, lines),
        np.array([pair.label for pair in found], dtype=np.int64),
        np.array([pair.source for pair in found], dtype=np.int64),
        units_of([member.path for member in first], [member.path for member in second]),
        tuple(f"{pair.a.path} {pair.b.path} {pair.label}" for pair in found),
        tuple(f"pair skipped: {where}: {what}" for where, what in faults.found),
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


def _member(request: PairRequest, files: KnownFiles, contents: list[bytes], text: str) -> _Member:
    """The file that a row names; a validation or test image is refused, under whatever name and with its pixels."""
    table = request.table
    if not text:
        raise _RefusedError("image_a and image_b must name files, but one is empty")
    try:
        path = as_on_disk(table.root, normal_path(text))
    except ValueError as error:
        raise _RefusedError(str(error)) from None
    try:
        row = files.row(path)
    except OSError:
        raise _RefusedError(f"{table.root / path} is missing") from None
    if row is None:
        return _Member(path, None)
    evaluation_row = row if table.split[row] != TRAIN else request.evaluation_contents.get(contents[row])
    if evaluation_row is not None:
        how = (
            f"is {describe_evaluation_row(table, evaluation_row)}"
            if evaluation_row == row
            else same_pixels(table, evaluation_row)
        )
        raise _RefusedError(f"{text!r} {how}; pairs may use training images, and images outside the table")
    return _Member(table.paths[row], row)


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


def _side(table: ImageTable, file: Path, members: list[_Member], lines: list[int]) -> Side:
    rows = [member.row for member in members if member.row is not None]
    if len(rows) == len(members):
        known: NDArray[np.int64] = np.array(rows, dtype=np.int64)
        return known
    return [
        FileImage(table.root / member.path, f"{file}, line {line} ({member.path})")
        for member, line in zip(members, lines, strict=True)
    ]
