"""Audit of invariance pairs by their pixels: differences, duplicates, and overlap with evaluation images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from ipgl.data.duplicates import dataset_copies
from ipgl.data.image_identity import contents_of
from ipgl.data.input_images import RgbImages, mean_colours, rgb_images
from ipgl.data.split_inputs import Inputs
from ipgl.data.types import Dataset, PairSet

_BATCH = 256
_FIELDS = 8
# Mean colours of 8 x 8 fields within 2 of 255 everywhere: a re-encoded copy, not another photograph.
_COPY = 2.0
# A pair whose members differ by less than one grey level on average hardly contributes to training.
_IDENTICAL = 1.0


@dataclass(frozen=True)
class Difference:
    """Mean absolute difference of the members' pixels, in grey levels of 255, over pairs."""

    mean: float
    least: float
    median: float
    largest: float


@dataclass(frozen=True)
class SetAudit:
    """One set of pairs.

    Attributes:
        name: `training` or `held-out`.
        count: Pairs.
        per_label: Pairs of each label, by class name.
        difference: None if there are no pairs.
        near_identical: Pairs whose members differ by less than one grey level on average.
        duplicates: Pairs that an earlier pair repeats, in either order of members.
        wrong_label: Pairs whose label is not that of the training example that they were made from.
        without_source: Pairs that were made from no training example.
    """

    name: str
    count: int
    per_label: dict[str, int]
    difference: Difference | None
    near_identical: int
    duplicates: int
    wrong_label: int
    without_source: int


@dataclass(frozen=True)
class PairAudit:
    """Audit of both sets of pairs and of their overlap.

    Attributes:
        copies: (set, split) -> pairs with a member that is a (possibly re-encoded) copy of an image of that split.
        identical: (set, split) -> pairs, counted in `copies` too, with a member that is so pixel for pixel.
        shared_sources: Training examples from which pairs of both sets were made.
        shared_pictures: Held-out pairs with a member that is also in a training pair.
        repeated: Images that the splits themselves hold twice: what is counted, in words -> count.
    """

    sets: tuple[SetAudit, SetAudit]
    copies: dict[tuple[str, str], int]
    identical: dict[tuple[str, str], int]
    shared_sources: int
    shared_pictures: int
    repeated: dict[str, int]

    @property
    def faults(self) -> list[str]:
        """Faults that invalidate results; empty if the pairs are sound."""
        found = [
            f"{count} {name} pairs hold an image of the {split} split"
            for (name, split), count in self.copies.items()
            if count
        ]
        found += [
            f"{s.wrong_label} {s.name} pairs have another label than their source"
            for s in self.sets
            if s.wrong_label
        ]
        if self.shared_sources:
            found.append(f"{self.shared_sources} training examples made both training and held-out pairs")
        if self.shared_pictures:
            found.append(
                f"{self.shared_pictures} held-out pairs show a picture that stands in a training pair"
            )
        return found

    @property
    def warnings(self) -> list[str]:
        """Warnings on useless pairs and on duplicates between the splits."""
        found = [f"{count} {what}" for what, count in self.repeated.items() if count]
        for s in self.sets:
            if not s.count:
                found.append(f"there are no {s.name} pairs")
            if s.near_identical:
                found.append(f"{s.near_identical} {s.name} pairs have members that are nearly identical")
            if s.duplicates:
                found.append(f"{s.duplicates} {s.name} pairs repeat another")
        return found

    def as_json(self) -> dict[str, object]:
        """Plain data for programs."""
        return {
            "sets": [asdict(s) for s in self.sets],
            "copies": [
                {"pairs": name, "split": split, "count": n, "identical": self.identical[name, split]}
                for (name, split), n in self.copies.items()
            ],
            "repeated": self.repeated,
            "shared_sources": self.shared_sources,
            "shared_pictures": self.shared_pictures,
            "faults": self.faults,
            "warnings": self.warnings,
        }


@dataclass(frozen=True)
class _PixelStatistics:
    """Pixel statistics of a set of pairs."""

    differences: NDArray[np.float64]
    digests: list[tuple[bytes, bytes]]
    fields: NDArray[np.float32]


def audit_pairs(dataset: Dataset) -> PairAudit:
    """Audit every pair, and compare every member with every validation and test image."""
    named = {"training": dataset.pairs, "held-out": dataset.held_out_pairs}
    statistics = {name: _pixel_statistics(pairs, dataset) for name, pairs in named.items()}
    training, held_out = (_set_audit(name, pairs, statistics[name], dataset) for name, pairs in named.items())
    splits = {"validation": dataset.validation, "test": dataset.test}
    copies, identical = {}, {}
    for split, data in splits.items():
        contents = set(contents_of(data.x))
        search = NearestNeighbors(n_neighbors=1, metric="chebyshev").fit(_fields(data.x, dataset))
        for name, found in statistics.items():
            near = (
                search.kneighbors(found.fields)[0][:, 0] <= _COPY if len(found.fields) else np.zeros(0, bool)
            )
            copies[name, split] = int(near.reshape(2, -1).any(axis=0).sum())
            members = zip(*(contents_of(x) for x in (named[name].a, named[name].b)), strict=True)
            identical[name, split] = sum(not contents.isdisjoint(pair) for pair in members)
    known = {digest for pair in statistics["training"].digests for digest in pair}
    sources = [set(pairs.source[pairs.source >= 0].tolist()) for pairs in named.values()]
    return PairAudit(
        (training, held_out),
        copies,
        identical,
        len(sources[0] & sources[1]),
        sum(bool(known & set(pair)) for pair in statistics["held-out"].digests),
        dataset_copies(dataset).counts(),
    )


def _set_audit(name: str, pairs: PairSet, found: _PixelStatistics, dataset: Dataset) -> SetAudit:
    label, source = pairs.y.cpu(), pairs.source.cpu()
    made = source >= 0
    unlike = label[made] != dataset.train.y.cpu()[source[made]]
    counts = torch.bincount(label, minlength=dataset.num_classes).tolist()
    d = found.differences
    return SetAudit(
        name,
        len(pairs),
        dict(zip(dataset.class_names, counts, strict=True)),
        Difference(*(float(f(d)) for f in (np.mean, np.min, np.median, np.max))) if len(d) else None,
        int((d < _IDENTICAL).sum()),
        len(found.digests) - len({frozenset(pair) for pair in found.digests}),
        int(unlike.sum()),
        int((~made).sum()),
    )


def _pixel_statistics(pairs: PairSet, dataset: Dataset) -> _PixelStatistics:
    differences: list[float] = []
    digests: list[tuple[bytes, bytes]] = []
    fields: tuple[list[NDArray[np.float32]], ...] = ([], [])
    for a, b in zip(_batches(pairs.a, dataset), _batches(pairs.b, dataset), strict=True):
        gap = np.abs(a.astype(np.int16) - b.astype(np.int16))
        differences += gap.reshape(len(a), -1).mean(axis=1).tolist()
        digests += [
            (hashlib.sha256(x.tobytes()).digest(), hashlib.sha256(y.tobytes()).digest())
            for x, y in zip(a, b, strict=True)
        ]
        for side, batch in zip(fields, (a, b), strict=True):
            side.append(mean_colours(batch, _FIELDS).reshape(len(batch), -1))
    nothing = np.empty((0, _FIELDS * _FIELDS * 3), dtype=np.float32)
    return _PixelStatistics(np.array(differences), digests, np.concatenate([nothing, *fields[0], *fields[1]]))


def _fields(x: Inputs, dataset: Dataset) -> NDArray[np.float32]:
    return np.concatenate(
        [mean_colours(batch, _FIELDS).reshape(len(batch), -1) for batch in _batches(x, dataset)]
    )


def _batches(x: Inputs, dataset: Dataset) -> Iterator[RgbImages]:
    for start in range(0, len(x), _BATCH):
        yield rgb_images(x, torch.arange(start, min(start + _BATCH, len(x))), dataset)
