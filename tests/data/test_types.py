from __future__ import annotations

import dataclasses

import pytest
import torch

from ipgl.core.registry import UnknownNameError, lookup
from ipgl.data import DATASETS, Dataset, PairSet, Split

SPLIT = Split(
    x=torch.tensor([[1.0], [2.0], [3.0]]),
    y=torch.tensor([0, 1, 0]),
    attribute=torch.tensor([1, 1, 0]),
    environment=torch.tensor([0, 1, 2]),
)


def test_a_batch_takes_examples_by_position() -> None:
    batch = SPLIT.batch(torch.tensor([2, 0]))
    assert batch.x.tolist() == [[3.0], [1.0]]
    assert batch.y.tolist() == [0, 0]
    assert batch.attribute.tolist() == [0, 1]
    assert batch.environment.tolist() == [2, 0]
    assert batch.index.tolist() == [2, 0]
    assert len(SPLIT) == 3


def test_a_batch_of_pairs_keeps_members_together() -> None:
    pairs = PairSet(
        torch.tensor([[1.0], [2.0]]),
        torch.tensor([[10.0], [20.0]]),
        torch.tensor([0, 1]),
        torch.tensor([5, 6]),
    )
    batch = pairs.batch(torch.tensor([1, 1, 0]))
    assert (batch.a.tolist(), batch.b.tolist()) == ([[2.0], [2.0], [1.0]], [[20.0], [20.0], [10.0]])
    assert batch.y.tolist() == [1, 1, 0]
    assert len(pairs) == 2


def test_moving_to_where_the_data_are_copies_nothing(irm: Dataset) -> None:
    moved = irm.to(torch.device("cpu"))
    for name in ("train", "validation", "test", "pairs", "held_out_pairs"):
        for field in dataclasses.fields(getattr(irm, name)):
            here, there = (getattr(getattr(d, name), field.name) for d in (irm, moved))
            assert here.data_ptr() == there.data_ptr()
    assert moved.fingerprint == irm.fingerprint


def test_moving_reaches_every_tensor(irm: Dataset) -> None:
    moved = irm.to(torch.device("meta"))
    for name in ("train", "validation", "test", "pairs", "held_out_pairs"):
        for field in dataclasses.fields(getattr(moved, name)):
            assert getattr(getattr(moved, name), field.name).device.type == "meta"


def test_an_unknown_data_set_lists_the_choices() -> None:
    with pytest.raises(UnknownNameError) as caught:
        lookup("dataset", DATASETS, "colored_mnits")
    assert str(caught.value) == (
        f"unknown dataset 'colored_mnits': did you mean 'colored_mnist'? Choices: {', '.join(sorted(DATASETS))}."
    )
