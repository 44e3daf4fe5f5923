"""Data as the trainer sees it: whole splits in memory, batches by index, pairs apart from both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T", "Split", "PairSet")


@dataclass(frozen=True)
class Batch:
    """Examples of one step.

    Attributes:
        x: Inputs, float32 `[B, ...]`.
        y: Class labels, int64 `[B]`.
        attribute: Spurious attribute, int64 `[B]`; only methods that declare `groups` may read it.
        environment: Training environment, int64 `[B]`; only methods that declare `environments` may read it.
        index: Position in the training split, int64 `[B]`.
    """

    x: Tensor
    y: Tensor
    attribute: Tensor
    environment: Tensor
    index: Tensor


@dataclass(frozen=True)
class PairBatch:
    """Invariance pairs of one step: `a[i]` and `b[i]` differ only in the spurious attribute.

    Attributes:
        a: First members, float32 `[P, ...]`.
        b: Second members, float32 `[P, ...]`.
        y: The label that both members carry, int64 `[P]`.
    """

    a: Tensor
    b: Tensor
    y: Tensor


@dataclass(frozen=True)
class Split:
    """A split held in memory. Fields as in `Batch`, with the split's size in place of B."""

    x: Tensor
    y: Tensor
    attribute: Tensor
    environment: Tensor

    def __len__(self) -> int:
        return self.y.shape[0]

    def batch(self, index: Tensor) -> Batch:
        """The examples at `index` (int64 `[B]`, on the split's device)."""
        return Batch(
            self.x.index_select(0, index),
            self.y.index_select(0, index),
            self.attribute.index_select(0, index),
            self.environment.index_select(0, index),
            index,
        )


@dataclass(frozen=True)
class PairSet:
    """Invariance pairs held in memory.

    Attributes:
        a: First members, float32 `[P, ...]`.
        b: Second members, float32 `[P, ...]`.
        y: Label of both members, int64 `[P]`.
        source: Position in the training split from which the pair was made, int64 `[P]`; -1 if from elsewhere.
    """

    a: Tensor
    b: Tensor
    y: Tensor
    source: Tensor

    def __len__(self) -> int:
        return self.y.shape[0]

    def batch(self, index: Tensor) -> PairBatch:
        """The pairs at `index` (int64 `[B]`, on the set's device)."""
        return PairBatch(
            self.a.index_select(0, index), self.b.index_select(0, index), self.y.index_select(0, index)
        )


@dataclass(frozen=True)
class Dataset:
    """Everything a trial reads.

    Attributes:
        pairs: Pairs that training may use.
        held_out_pairs: Pairs for the invariance condition's check; disjoint from `pairs`.
        input_range: Least and largest value that an input may hold.
        corruptions: Name -> the test split's inputs, in its order, with the spurious attribute corrupted at a strength
            in [0, 1]; 0 leaves them as they are.
        fingerprint: SHA-256 over content and settings; equal fingerprints mean equal tensors.
    """

    train: Split
    validation: Split
    test: Split
    pairs: PairSet
    held_out_pairs: PairSet
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    fingerprint: str
    input_range: tuple[float, float] = (0.0, 1.0)
    corruptions: Mapping[str, Callable[[float], Tensor]] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def num_attributes(self) -> int:
        return len(self.attribute_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch dimension."""
        return tuple(self.train.x.shape[1:])

    def to(self, device: torch.device) -> Dataset:
        """The same data on `device`; tensors already there are not copied."""
        return replace(
            self,
            train=_move(self.train, device),
            validation=_move(self.validation, device),
            test=_move(self.test, device),
            pairs=_move(self.pairs, device),
            held_out_pairs=_move(self.held_out_pairs, device),
        )


def _move(part: _T, device: torch.device) -> _T:
    return type(part)(**{f.name: getattr(part, f.name).to(device) for f in fields(part)})
