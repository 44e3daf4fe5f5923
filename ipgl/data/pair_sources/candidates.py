"""Candidate pairs of a source, and the seeded selection of training and held-out pairs from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipgl.core.errors import DataError
from ipgl.data.batch_order import derive_seed
from ipgl.data.images import ImageSource
from ipgl.data.pair_sources.settings import ImagePairSettings

# One side of all pairs: rows of the table, whose pixels are cached already, or pictures to decode.
Side = NDArray[np.int64] | Sequence[ImageSource]


@dataclass(frozen=True)
class Candidates:
    """Pairs before the choice.

    Attributes:
        a: First members.
        b: Second members.
        label: Label of both members, int64 `[P]`.
        source: Position in the training split, int64 `[P]`; -1 if from elsewhere.
        unit: Pairs of one unit share a picture and never part into training and held-out ones, int64 `[P]`.
        names: Text of each pair that is the same on every machine.
        notes: What the user should know about the whole, a sentence each.
    """

    a: Side
    b: Side
    label: NDArray[np.int64]
    source: NDArray[np.int64]
    unit: NDArray[np.int64]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: NDArray[np.int64]) -> Candidates:
        """The pairs at `index`, with all notes."""
        a, b = (
            side[index] if isinstance(side, np.ndarray) else [side[i] for i in index]
            for side in (self.a, self.b)
        )
        names = tuple(self.names[i] for i in index)
        return Candidates(a, b, self.label[index], self.source[index], self.unit[index], names, self.notes)


def choose(
    candidates: Candidates, settings: ImagePairSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the training pairs and of the held-out pairs; the latter are from other units.

    Whole units are drawn in a seeded order: first for the held-out pairs, then for training.

    Raises:
        DataError: There are too few pairs, or too few that share no picture.
    """
    order = np.random.default_rng(derive_seed(settings.seed, "choose pairs")).permutation(len(candidates))
    by_unit: dict[int, list[int]] = {}
    for position in order.tolist():
        by_unit.setdefault(int(candidates.unit[position]), []).append(position)
    # A unit that is larger than the held-out share would leave training nothing.
    held_out: list[int] = []
    training: list[int] = []
    for members in by_unit.values():
        wanted = settings.held_out - len(held_out)
        (held_out if wanted > 0 and len(members) <= wanted else training).extend(members)
    wanted_train = len(training) if settings.train is None else settings.train
    if len(held_out) < settings.held_out or len(training) < wanted_train:
        asked = "all others" if settings.train is None else settings.train
        shared = (
            ""
            if len(by_unit) == len(candidates)
            else f", of which {len(by_unit)} share no picture with another"
        )
        raise DataError(
            f"pairs: {asked} for training and {settings.held_out} held out are asked for, but source "
            f"{settings.source} has {len(candidates)} pairs{shared}; lower pairs.train or pairs.held_out"
        )
    return np.array(training[:wanted_train], dtype=np.int64), np.array(held_out, dtype=np.int64)


def units_of(first: Sequence[object], second: Sequence[object]) -> NDArray[np.int64]:
    """Connected components of pairs: two pairs that share a picture, directly or through others, are one unit."""
    from scipy.sparse import coo_array  # slow to import: not for every data set's sake
    from scipy.sparse.csgraph import connected_components

    numbers: dict[object, int] = {}
    edges = np.array(
        [
            [numbers.setdefault(a, len(numbers)), numbers.setdefault(b, len(numbers))]
            for a, b in zip(first, second, strict=True)
        ],
        dtype=np.int64,
    ).reshape(-1, 2)
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(numbers), len(numbers)))
    _, component = connected_components(graph, directed=False)
    return np.asarray(component[edges[:, 0]], dtype=np.int64)
