"""Read and check a CSV table of images; each fault is reported with its line."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ipgl.core.errors import DataError
from ipgl.core.registry import suggestion
from ipgl.data.fault_list import DataFaults
from ipgl.data.paths import as_on_disk, normal_path
from ipgl.data.table import ImageTable

SPLITS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "0": 0, "1": 1, "2": 2}
ENVIRONMENT = "environment"


@dataclass(frozen=True)
class Columns:
    """Names of the columns.

    Attributes:
        path: Image files, relative to the root.
        label: Classes.
        attribute: The spurious attribute.
        split: One of `SPLITS`.
        class_names: Names of the labels, which may also be written as numbers from 0; None takes those in the file.
        attribute_names: Likewise for the attribute.
    """

    path: str = "path"
    label: str = "label"
    attribute: str = "attribute"
    split: str = "split"
    class_names: tuple[str, ...] | None = None
    attribute_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RawTable:
    """Text by column, and the line of each row in the file."""

    file: Path
    columns: Mapping[str, Sequence[str]]
    line: Sequence[int]
    faults: DataFaults

    def __len__(self) -> int:
        return len(self.line)


def read_csv(file: Path) -> RawTable:
    """Read a CSV file with a header; rows of another length are noted in `faults` and left out.

    Raises:
        DataError: The file is missing, is not UTF-8 text, or has no header or names a column twice.
    """
    faults = DataFaults(f"{file}: some rows cannot be used")
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows, line = [], []
            one: dict[str, str] = {}  # a large table repeats a few values: keep one object of each
            for row in reader:
                if len(row) == len(header):
                    rows.append([one.setdefault(value, value) for value in map(str.strip, row)])
                    line.append(reader.line_num)
                elif row:
                    faults.add(
                        f"line {reader.line_num}", f"{len(row)} values, but the header has {len(header)}"
                    )
    except FileNotFoundError:
        raise DataError(f"{file} is missing") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file}: cannot be read as a CSV file ({error}); save it as UTF-8 text with commas"
        ) from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if not header or twice:
        what = f"the header names {', '.join(twice)} twice" if twice else "the file is empty"
        raise DataError(f"{file}: {what}; its first line must name each column once")
    columns = {name: [row[n] for row in rows] for n, name in enumerate(header)}
    return RawTable(file, columns, line, faults)


def check_table(
    raw: RawTable, root: Path, columns: Columns, *, skip_bad: bool = False
) -> tuple[ImageTable, tuple[str, ...]]:
    """Turn text into a checked table.

    Paths are compared in normal form; where symbolic links below the root lead is not checked.

    Args:
        raw: Content of the file.
        root: The folder that paths are relative to.
        columns: Names of the columns.
        skip_bad: Leave faulty rows out rather than raise.

    Returns:
        The table, and a sentence for each row left out.

    Raises:
        DataError: A column is missing, or rows are faulty; all faults in one message.
    """
    _require_columns(raw, columns)
    classes = _Names(raw, columns.label, columns.class_names)
    attributes = _Names(raw, columns.attribute, columns.attribute_names)
    if len(classes.names) < 2:
        raise DataError(
            f"{raw.file}: the column {columns.label!r} must hold at least 2 classes, but holds {len(classes.names)}"
        )
    paths, kept = _faultless_rows(raw, root, columns, (classes, attributes, _Environments(raw)))
    if not skip_bad:
        raw.faults.check("Correct these rows, or leave them out with --skip-bad.")
    if not kept:
        raise DataError(f"{raw.file}: no row can be used; write one line per image below the header")
    position, split, label, attribute, environment = np.array(kept, dtype=np.int64).T
    own = {columns.path, columns.split}
    table = ImageTable(
        raw.file,
        root,
        tuple(paths),
        label,
        attribute,
        split,
        environment,
        np.array(raw.line, dtype=np.int64)[position],
        classes.names,
        attributes.names,
        {name: np.array(values)[position] for name, values in raw.columns.items() if name not in own},
    )
    return table, tuple(f"row left out: {raw.file}, {where}: {what}" for where, what in raw.faults.found)


def _faultless_rows(
    raw: RawTable, root: Path, columns: Columns, coded: tuple[_Names, _Names, _Environments]
) -> tuple[list[str], list[tuple[int, ...]]]:
    """Check every row, and add the faults that are found to `raw.faults`.

    Args:
        raw: Content of the file.
        root: The folder that paths are relative to.
        columns: Names of the columns.
        coded: The columns of classes, attributes and environments, whose values become integers.

    Returns:
        Of every row without a fault: its path, and (position, split, class, attribute, environment).
    """
    seen: dict[str, int] = {}
    paths: list[str] = []
    kept: list[tuple[int, ...]] = []
    classes, attributes, environments = coded
    for position, (line, text, split) in enumerate(
        zip(raw.line, raw.columns[columns.path], raw.columns[columns.split], strict=True)
    ):
        path, path_fault = _path(root, text, seen)
        faults = [
            path_fault,
            classes.fault(position),
            attributes.fault(position),
            None
            if split.lower() in SPLITS
            else f"{columns.split} must be train, val, test or 0, 1, 2, but got {split!r}",
            environments.fault(position),
        ]
        for fault in filter(None, faults):
            raw.faults.add(f"line {line}", fault)
        seen.setdefault(path, line)
        if not any(faults):
            paths.append(path)
            kept.append((position, SPLITS[split.lower()], *(column.number(position) for column in coded)))
    return paths, kept


def _require_columns(raw: RawTable, columns: Columns) -> None:
    wanted = (columns.path, columns.label, columns.attribute, columns.split)
    missing = [name for name in wanted if name not in raw.columns]
    if missing:
        raise DataError(
            f"{raw.file}: the column {missing[0]!r} is missing: {suggestion(missing[0], raw.columns)}"
            if len(missing) == 1
            else f"{raw.file}: the columns {', '.join(map(repr, missing))} are missing; "
            f"found: {', '.join(raw.columns)}"
        )


def _path(root: Path, text: str, seen: Mapping[str, int]) -> tuple[str, str | None]:
    """A row's path in normal form, and what is wrong with it; `seen` holds earlier rows' paths and lines."""
    try:
        path = as_on_disk(root, normal_path(text))
    except ValueError as error:
        return text, str(error)
    return path, f"{text} stands in line {seen[path]} already" if path in seen else None


class _Names:
    """A column of classes: names, or numbers from 0."""

    def __init__(self, raw: RawTable, column: str, names: tuple[str, ...] | None) -> None:
        self._column, self._values = column, raw.columns[column]
        given = names or self._found()
        self.names = given
        self._number = {str(number): number for number in range(len(given))} | {
            name: number for number, name in enumerate(given)
        }

    def _found(self) -> tuple[str, ...]:
        values = {value for value in self._values if value}
        if all(value.isdecimal() for value in values):
            # Consecutive numbers only, so that a mistyped number does not become a class.
            count = 0
            numbers = {int(value) for value in values}
            while count in numbers:
                count += 1
            return tuple(map(str, range(count)))
        return tuple(sorted(values))

    def fault(self, position: int) -> str | None:
        value = self._values[position]
        if value in self._number:
            return None
        if not value:
            return f"{self._column} is empty"
        if not self.names:
            return f"{self._column} must count from 0, but no row has 0; got {value!r}"
        allowed = (
            f"one of {', '.join(self.names)}"
            if len(self.names) <= 10
            else f"one of {len(self.names)} names or 0 to {len(self.names) - 1}"
        )
        return f"{self._column} must be {allowed}, but got {value!r}"

    def number(self, position: int) -> int:
        return self._number[self._values[position]]


class _Environments:
    """The optional column `environment`: whole numbers from 0; zeros where there is none."""

    def __init__(self, raw: RawTable) -> None:
        self._values = raw.columns.get(ENVIRONMENT)

    def fault(self, position: int) -> str | None:
        if self._values is None or self._values[position].isdecimal():
            return None
        return f"{ENVIRONMENT} must be a whole number from 0, but got {self._values[position]!r}"

    def number(self, position: int) -> int:
        return 0 if self._values is None else int(self._values[position])
