from __future__ import annotations

import torch

from ipgl.data import Dataset, group_counts, group_index

# Class 0 carries attribute 2 twice and 0 once; class 1 carries 0 three times.
Y = torch.tensor([0, 1, 0, 1, 0, 1])
ATTRIBUTE = torch.tensor([2, 0, 0, 0, 2, 0])


def test_groups_are_numbered_label_first() -> None:
    assert group_index(Y, ATTRIBUTE, 3).tolist() == [2, 3, 0, 3, 2, 3]


def test_every_group_has_its_own_number() -> None:
    y, attribute = torch.meshgrid(torch.arange(4), torch.arange(3), indexing="ij")
    assert group_index(y, attribute, 3).flatten().tolist() == list(range(12))


def test_counts_have_a_place_for_empty_groups_too() -> None:
    assert group_counts(Y, ATTRIBUTE, 3, 3).tolist() == [[1, 0, 2], [3, 0, 0], [0, 0, 0]]


def test_colours_lead_in_their_labels_in_training(irm: Dataset) -> None:
    train = irm.train
    counts = group_counts(train.y, train.attribute, 2, 2)
    assert counts.sum() == 1000
    assert counts[0, 0] > 4 * counts[0, 1]
