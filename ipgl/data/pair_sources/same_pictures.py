"""Duplicates among invariance pairs: no evaluation image in a pair, no image in both sets of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ipgl.data.duplicate_images import same_pixels
from ipgl.data.duplicates import listed
from ipgl.data.fault_list import DataFaults
from ipgl.data.images import Images
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources.candidates import Candidates, Side, units_of
from ipgl.data.table import TRAIN


def without_evaluation_images(candidates: Candidates, request: PairRequest) -> Candidates:
    """The candidates of which no member, and no source, is a training row with a validation or test row's pixels.

    They are left out without an error, because the user did not name them: a source found them in the training split.
    """
    table, rows = request.table, _table_rows(candidates, request)
    contents = request.images.contents()
    copies = [row for row in table.rows_of(TRAIN).tolist() if contents[row] in request.evaluation_contents]
    bad = np.isin(rows, copies)
    if not bad.any():
        return candidates
    evaluation_rows = request.evaluation_contents
    places = [
        f"line {table.line[row]} ({table.paths[row]}) {same_pixels(table, evaluation_rows[contents[row]])}"
        for row in np.unique(rows[bad]).tolist()
    ]
    note = (
        f"{table.file}: {int(bad.any(axis=1).sum())} of {len(candidates)} possible pairs left out, because their "
        f"training image is also in validation or test: {listed(places)}"
    )
    kept = candidates.take(np.flatnonzero(~bad.any(axis=1)))
    return replace(kept, notes=(*candidates.notes, note))


def joined_units(candidates: Candidates, request: PairRequest) -> Candidates:
    """The candidates with units joined where their training rows have equal pixels under different names."""
    contents = request.images.contents()
    units: list[object] = candidates.unit.tolist()
    first, second = list(units), list(units)  # a unit without a row of the table is joined to itself alone
    for column in _table_rows(candidates, request).T.tolist():
        for unit, row in zip(units, column, strict=True):
            if row >= 0:
                first.append(unit)
                second.append(contents[row])
    return replace(candidates, unit=units_of(first, second)[: len(candidates)])


def note_evaluation_images(
    side: Side, chosen: NDArray[np.int64], images: Images, request: PairRequest, faults: DataFaults
) -> NDArray[np.int64]:
    """Note the members of one side that were decoded for the pairs and have a validation or test row's pixels.

    Args:
        side: One side of all candidates.
        chosen: Which of them `images` are, int64 `[n]`.
        images: Their pixels.
        request: The table and its pixels.
        faults: Where to note them.

    Returns:
        Positions in `chosen` of those members, int64.
    """
    if isinstance(side, np.ndarray):  # rows of the table: `without_evaluation_images` has seen them
        return np.empty(0, dtype=np.int64)
    found = []
    for position, content in enumerate(images.contents()):
        if content in request.evaluation_contents:
            found.append(position)
            where = side[int(chosen[position])].where
            faults.add(where, same_pixels(request.table, request.evaluation_contents[content]))
    return np.array(found, dtype=np.int64)


def _table_rows(candidates: Candidates, request: PairRequest) -> NDArray[np.int64]:
    """Rows of the table that each candidate shows or comes from, int64 `[P, 3]`; -1 where it is none."""
    train = request.table.rows_of(TRAIN)
    nothing = np.full(len(candidates), -1)
    source = np.where(candidates.source >= 0, train[candidates.source], -1) if len(train) else nothing
    sides: Sequence[Side] = (candidates.a, candidates.b)
    return np.stack([source, *(side if isinstance(side, np.ndarray) else nothing for side in sides)], axis=1)
