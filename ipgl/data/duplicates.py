"""Detection of duplicate images across splits (leakage), and within a split with different labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipgl.data.image_identity import contents_of
from ipgl.data.table import TEST, TRAIN, VALIDATION
from ipgl.data.types import Dataset

LISTED = 20

Match = tuple[int, int]


@dataclass(frozen=True)
class Copies:
    """Rows with equal images; each row is listed once, with the first row that it equals.

    Attributes:
        training: (training row, test row, or validation row if no test picture is equal).
        validation: (validation row, test row).
        conflicting: (row, earlier row of the same split with another label).
    """

    training: tuple[Match, ...]
    validation: tuple[Match, ...]
    conflicting: tuple[Match, ...]

    def counts(self) -> dict[str, int]:
        """Description of each kind of duplicate -> number of such rows."""
        return {
            "training images that are also in validation or test": len(self.training),
            "validation images that are also in test": len(self.validation),
            "images that stand in their split with another label, too": len(self.conflicting),
        }


def find_copies(contents: Sequence[bytes], split: NDArray[np.int64], label: NDArray[np.int64]) -> Copies:
    """Compare all rows of a data set.

    Args:
        contents: Of `contents_of`, one for each row.
        split: `TRAIN`, `VALIDATION` or `TEST`, int64 `[N]`.
        label: Class, int64 `[N]`.
    """
    first_of = {
        number: first_rows(contents, np.flatnonzero(split == number).tolist())
        for number in (TRAIN, VALIDATION, TEST)
    }
    training, validation, conflicting = [], [], []
    for row, (content, of) in enumerate(zip(contents, split.tolist(), strict=True)):
        in_test, in_validation = (first_of[number].get(content) for number in (TEST, VALIDATION))
        held = in_validation if in_test is None else in_test
        if of == TRAIN and held is not None:
            training.append((row, held))
        if of == VALIDATION and in_test is not None:
            validation.append((row, in_test))
        earlier = first_of[of][content]
        if label[earlier] != label[row]:
            conflicting.append((row, earlier))
    return Copies(tuple(training), tuple(validation), tuple(conflicting))


def first_rows(contents: Sequence[bytes], rows: Iterable[int]) -> dict[bytes, int]:
    """Content -> the first of `rows` that has it."""
    first: dict[bytes, int] = {}
    for row in rows:
        first.setdefault(contents[row], row)
    return first


def dataset_copies(dataset: Dataset) -> Copies:
    """As `find_copies`; rows count through training, then validation, then test."""
    splits = (dataset.train, dataset.validation, dataset.test)
    contents = [content for part in splits for content in contents_of(part.x)]
    split = np.repeat(np.array([TRAIN, VALIDATION, TEST]), [len(part) for part in splits])
    return find_copies(contents, split, np.concatenate([part.y.cpu().numpy() for part in splits]))


def listed(items: Sequence[str]) -> str:
    """The first 20, and how many more there are."""
    more = f"; and {len(items) - LISTED} more" if len(items) > LISTED else ""
    return "; ".join(items[:LISTED]) + more
