"""Predictions of a run on test examples and along held-out pairs, stored as Parquet.

Parquet's own checksums cover pages, not the footer that says what they hold, so that a damaged name or type would go
unnoticed. Each file therefore carries a digest of its columns, which is compared when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ipgl.core.atomic_files import write_atomically

if TYPE_CHECKING:
    import pyarrow

Classes = NDArray[np.int32]

_PROBABILITY = "probability_"
_CORRUPTED = "prediction_{name}={level}"
_INTERPOLATED = "prediction_t={t:g}"
_DIGEST = b"ipgl.sha256"
_PAIRS = b"ipgl.pairs"


@dataclass(frozen=True)
class Predictions:
    """One run's predictions.

    Attributes:
        label: Labels of the test examples, `[N]`.
        attribute: Their attributes, `[N]`.
        prediction: Predicted classes, `[N]`.
        probability: Class probabilities, `[N, K]`.
        corrupted: Corruption -> predicted classes at each level, `[L, N]`.
        levels: Corruption -> its levels, `[L]`.
        along: Predicted classes along the held-out pairs, `[T, P]`; `[0, 0]` if they were not followed.
    """

    label: Classes
    attribute: Classes
    prediction: Classes
    probability: NDArray[np.float32]
    corrupted: dict[str, Classes] = field(default_factory=dict)
    levels: dict[str, tuple[float, ...]] = field(default_factory=dict)
    along: Classes = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each test example was classified correctly, `[N]`."""
        right: NDArray[np.bool_] = self.prediction == self.label
        return right

    @property
    def examples(self) -> str:
        """Fingerprint of the test examples' labels and attributes: runs that share it can be paired."""
        digest = hashlib.sha256(self.label.tobytes())
        digest.update(self.attribute.tobytes())
        return digest.hexdigest()

    @property
    def consistent(self) -> NDArray[np.bool_]:
        """Whether each held-out pair is classified at each point as at its first member, `[T, P]`."""
        same: NDArray[np.bool_] = self.along == self.along[:1]
        return same

    def write(self, examples: Path, pairs: Path) -> None:
        """Write one row per test example to `examples` and, if pairs were followed, one per pair to `pairs`."""
        columns: dict[str, NDArray[np.generic]] = {
            "index": np.arange(len(self.label), dtype=np.int32),
            "label": self.label,
            "attribute": self.attribute,
            "prediction": self.prediction,
            "correct": self.correct,
        }
        for number in range(self.probability.shape[1]):
            columns[f"{_PROBABILITY}{number}"] = self.probability[:, number]
        for name, rows in self.corrupted.items():
            for level, row in zip(self.levels[name], rows, strict=True):
                exact = np.format_float_positional(level, trim="-")
                columns[_CORRUPTED.format(name=name, level=exact)] = row
        followed = self.along.shape[1]
        _write(examples, columns, followed)
        if followed:
            points = np.linspace(0, 1, len(self.along))
            along = {_INTERPOLATED.format(t=t): row for t, row in zip(points, self.along, strict=True)}
            _write(pairs, along, followed)


def read_predictions(examples: Path, pairs: Path) -> Predictions:
    """Read what `Predictions.write` wrote.

    Raises:
        OSError, ValueError, KeyError: A file is missing, damaged or of another format.
    """
    table, followed = _read(examples)
    names = [name for name in table if name.startswith(_PROBABILITY)]
    corrupted: dict[str, list[Classes]] = {}
    levels: dict[str, list[float]] = {}
    for column, row in table.items():
        name, separator, level = column.removeprefix("prediction_").partition("=")
        if separator:
            corrupted.setdefault(name, []).append(row.astype(np.int32))
            levels.setdefault(name, []).append(float(level))
    along = list(_read(pairs)[0].values()) if followed else []
    return Predictions(
        label=table["label"].astype(np.int32),
        attribute=table["attribute"].astype(np.int32),
        prediction=table["prediction"].astype(np.int32),
        probability=np.stack([table[name].astype(np.float32) for name in names], axis=1),
        corrupted={name: np.stack(rows) for name, rows in corrupted.items()},
        levels={name: tuple(values) for name, values in levels.items()},
        along=np.stack(along).astype(np.int32) if along else np.zeros((0, 0), dtype=np.int32),
    )


def _write(path: Path, columns: dict[str, NDArray[np.generic]], followed: int) -> None:
    import pyarrow
    import pyarrow.parquet

    notes = {_DIGEST: _digest(columns), _PAIRS: str(followed)}
    table: pyarrow.Table = pyarrow.table({name: _column(values) for name, values in columns.items()})
    table = table.replace_schema_metadata(notes)
    # A dictionary would make all NaNs one, so that the digest would no longer be that of the columns.
    options = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True}
    write_atomically(path, lambda file: pyarrow.parquet.write_table(table, file, **options))


def _column(values: NDArray[np.generic]) -> pyarrow.Array:
    """As `pyarrow.array(values)`, which imports pandas: half a second and 29 MB in every process of a study."""
    import pyarrow

    kind = pyarrow.from_numpy_dtype(values.dtype)
    packed: NDArray[np.generic] = np.ascontiguousarray(values)
    if packed.dtype == np.bool_:
        packed = np.packbits(packed.view(np.uint8), bitorder="little")
    return pyarrow.Array.from_buffers(kind, len(values), [None, pyarrow.py_buffer(packed)])


def _read(path: Path) -> tuple[dict[str, NDArray[np.generic]], int]:
    """The columns of a file, and the number of pairs that its run followed."""
    import pyarrow
    import pyarrow.parquet

    try:
        # Single-threaded, because the reader's thread pool would outlive the call.
        table = pyarrow.parquet.read_table(path, use_threads=False, page_checksum_verification=True)
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
    except pyarrow.ArrowException as error:  # some are no OSError or ValueError
        raise ValueError(f"{path.name}: {error}") from error
    notes = table.schema.metadata or {}
    if notes.get(_DIGEST) != _digest(columns).encode():
        raise ValueError(f"{path.name}: the columns are not those that were written")
    return columns, int(notes[_PAIRS])


def _digest(columns: Mapping[str, NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(f"{name}:{column.dtype}:{len(column)};".encode())
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
