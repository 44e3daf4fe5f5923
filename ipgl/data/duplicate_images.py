"""Handling of duplicate images in a table of images."""

from __future__ import annotations

import numpy as np
import torch

from ipgl.data.duplicates import Copies, Match, find_copies, listed
from ipgl.data.fault_list import DataFaults
from ipgl.data.images import Images
from ipgl.data.table import SPLIT_NAMES, TRAIN, VALIDATION, ImageTable

_NEXT_STEP = (
    "Take them out of the train split (or all copies into one split), or leave the training copies out with "
    "--skip-bad."
)


def without_training_copies(
    table: ImageTable, images: Images, *, skip_bad: bool
) -> tuple[ImageTable, Images, tuple[str, ...]]:
    """Remove training images that are also validation or test images.

    Args:
        table: The checked rows.
        images: Their pixels, row for row.
        skip_bad: Leave the training rows out rather than raise; validation and test rows always stay.

    Returns:
        Table and images without them, and a sentence for each row left out.

    Raises:
        DataError: There are such rows: the first 20, each with the row that it equals, and a count.
    """
    copies = _find(table, images).training
    count = len(table.rows_of(TRAIN))
    faults = DataFaults(
        f"{table.file}: {len(copies)} of {count} training images are also in validation or test"
    )
    for row, evaluation_row in copies:
        faults.add(table.where(row), same_pixels(table, evaluation_row))
    if not skip_bad:
        faults.check(_NEXT_STEP)
    if not copies:
        return table, images, ()
    kept = np.delete(np.arange(len(table)), [row for row, _ in copies])
    notes = tuple(f"image left out: {where}: {what}" for where, what in faults.found)
    return table.take(kept), images.take(torch.from_numpy(kept)), notes


def copy_notes(table: ImageTable, images: Images) -> tuple[str, ...]:
    """A sentence for each kind of copies that the table holds, with the first 20 rows."""
    copies = _find(table, images)
    training, validation = (len(table.rows_of(split)) for split in (TRAIN, VALIDATION))
    kinds = (
        (
            f"of {training} training images have the pixels of a validation or test image, so that accuracies there "
            "are partly of images that were trained on",
            copies.training,
        ),
        (
            f"of {validation} validation images have the pixels of a test image, so that test images take part in "
            "selection",
            copies.validation,
        ),
        (
            f"of {len(table)} images have the pixels of another image of their split, but another label",
            copies.conflicting,
        ),
    )
    return tuple(
        f"{table.file}: {len(matches)} {what}: {listed([_match(table, match) for match in matches])}"
        for what, matches in kinds
        if matches
    )


def describe_evaluation_row(table: ImageTable, row: int) -> str:
    """A row of validation or test for messages: `the test image of line 9 in manifest.csv`."""
    return f"the {SPLIT_NAMES[table.split[row]]} image of line {table.line[row]} in {table.file.name}"


def same_pixels(table: ImageTable, row: int) -> str:
    """Fault text of an image that equals one of validation or test."""
    return f"has the pixels of {describe_evaluation_row(table, row)} ({table.paths[row]})"


def evaluation_rows_by_content(table: ImageTable, images: Images) -> dict[bytes, int]:
    """Content of each validation and test picture -> its row; a test row before a validation row."""
    contents = images.contents()
    rows = sorted(np.flatnonzero(table.split != TRAIN).tolist(), key=lambda row: -int(table.split[row]))
    rows_by_content: dict[bytes, int] = {}
    for row in rows:
        rows_by_content.setdefault(contents[row], row)
    return rows_by_content


def _find(table: ImageTable, images: Images) -> Copies:
    return find_copies(images.contents(), table.split, table.label)


def _match(table: ImageTable, match: Match) -> str:
    row, other = match
    unlike = (
        f", labels {table.class_names[table.label[row]]} and {table.class_names[table.label[other]]}"
        if table.split[row] == table.split[other]
        else ""
    )
    places = [f"{SPLIT_NAMES[table.split[r]]} line {table.line[r]} ({table.paths[r]})" for r in match]
    return f"{places[0]} and {places[1]}{unlike}"
