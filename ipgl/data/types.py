"""Data sets in memory: splits, batches, invariance pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ipgl.data.augment import RandomResizedCrop
from ipgl.data.images import Images
from ipgl.data.split_inputs import Inputs, Readable, view

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
        boxes: Where images were cut, int64 `[B, 5]` on the CPU; None where they were not.
    """

    x: Tensor
    y: Tensor
    attribute: Tensor
    environment: Tensor
    index: Tensor
    boxes: Tensor | None = None


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
    """A split. Fields as in `Batch`, with the split's size in place of B."""

    x: Inputs
    y: Tensor
    attribute: Tensor
    environment: Tensor

    def __len__(self) -> int:
        return self.y.shape[0]

    def batch(self, index: Tensor, boxes: Tensor | None = None) -> Batch:
        """The examples at `index` (int64 `[B]`, on the device of `y`), images cut by `boxes` if these are given."""
        return Batch(
            view(self.x, index, boxes),
            self.y.index_select(0, index),
            self.attribute.index_select(0, index),
            self.environment.index_select(0, index),
            index,
            boxes,
        )


@dataclass(frozen=True)
class PairSet:
    """Invariance pairs.

    Attributes:
        a: First members, float32 `[P, ...]`.
        b: Second members, float32 `[P, ...]`.
        y: Label of both members, int64 `[P]`.
        source: Position in the training split from which the pair was made, int64 `[P]`; -1 if from elsewhere.
    """

    a: Inputs
    b: Inputs
    y: Tensor
    source: Tensor

    def __len__(self) -> int:
        return self.y.shape[0]

    def batch(self, index: Tensor, boxes: Tensor | None = None) -> PairBatch:
        """The pairs at `index` (int64 `[B]`, on the device of `y`), both members cut alike by `boxes` if given."""
        return PairBatch(
            view(self.a, index, boxes), view(self.b, index, boxes), self.y.index_select(0, index)
        )


@dataclass(frozen=True)
class Dataset:
    """Everything a trial reads.

    Attributes:
        pairs: Pairs that training may use.
        held_out_pairs: Pairs for the invariance condition's check; disjoint from `pairs`.
        input_range: Least and largest value that an input may hold: numbers, or tensors that broadcast against an
            input (normalised images have a range per channel).
        corruptions: Name -> the test split's inputs, in its order, with the spurious attribute corrupted at a strength
            in [0, 1]; 0 leaves them as they are.
        fingerprint: SHA-256 over content and settings; equal fingerprints mean equal tensors.
        augment: How training looks at images; None, and for tensors, as evaluation does.
        notes: What the user should know about this data set, a sentence each.
    """

    train: Split
    validation: Split
    test: Split
    pairs: PairSet
    held_out_pairs: PairSet
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    fingerprint: str
    input_range: tuple[float, float] | tuple[Tensor, Tensor] = (0.0, 1.0)
    augment: RandomResizedCrop | None = None
    notes: tuple[str, ...] = ()
    corruptions: Mapping[str, Callable[[float], Readable]] = field(default_factory=dict)

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

    @property
    def has_images(self) -> bool:
        """Whether inputs are made batch by batch from a cache on disk."""
        return isinstance(self.train.x, Images)

    def to(self, device: torch.device) -> Dataset:
        """The same data on `device`; tensors already there are not copied."""
        moved = self._each(lambda value: value.to(device))
        return replace(moved, input_range=_move_range(self.input_range, device))

    def inputs_on(self, device: torch.device) -> Dataset:
        """The same data, whose images become inputs on `device`; labels stay, for it is the host that picks rows."""
        moved = self._each(lambda value: value.to(device) if isinstance(value, Images) else value)
        return replace(moved, input_range=_move_range(self.input_range, device))

    def _each(self, change: Callable[[Inputs], Inputs]) -> Dataset:
        def changed(part: _T) -> _T:
            values: dict[str, Any] = {f.name: change(getattr(part, f.name)) for f in fields(part)}
            return type(part)(**values)

        return replace(
            self,
            train=changed(self.train),
            validation=changed(self.validation),
            test=changed(self.test),
            pairs=changed(self.pairs),
            held_out_pairs=changed(self.held_out_pairs),
        )


def _move_range(
    limits: tuple[float, float] | tuple[Tensor, Tensor], device: torch.device
) -> tuple[float, float] | tuple[Tensor, Tensor]:
    low, high = limits
    if isinstance(low, Tensor) and isinstance(high, Tensor):
        return low.to(device), high.to(device)
    return limits
