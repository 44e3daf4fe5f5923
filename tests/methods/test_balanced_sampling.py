"""Balanced sampling: weights by hand, and the frequencies that the trainer's order makes of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import known

from ipgl.data import Dataset, PairSet, ShuffledOrder, Split
from ipgl.methods.balanced_sampling import BalancedSettings, ClassBalanced, GroupBalanced
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


LABELS, ATTRIBUTES = [0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 1, 0]


def make_dataset(y: list[int], attribute: list[int]) -> Dataset:
    label, other = torch.tensor(y), torch.tensor(attribute)
    x = torch.stack([label.double(), other.double()], dim=1)
    split = Split(x, label, other, torch.zeros_like(label))
    pairs = PairSet(x[:1], x[:1], label[:1], torch.tensor([-1]))
    return Dataset(split, split, split, pairs, pairs, ("no", "yes"), ("red", "green"), "by hand")


def build(
    toys: type[Toys],
    kind: type[ClassBalanced],
    y: list[int] = LABELS,
    attribute: list[int] = ATTRIBUTES,
    model: Classifier | None = None,
) -> ClassBalanced:
    return kind(
        BalancedSettings(), toys.context(model or toys.hand_model(), dataset=make_dataset(y, attribute))
    )


def test_weights_are_one_over_the_size_of_the_class(toys: type[Toys]) -> None:
    expected = torch.tensor([1 / 4, 1 / 4, 1 / 4, 1 / 2, 1 / 2, 1 / 4], dtype=torch.float64)
    assert torch.equal(known(build(toys, ClassBalanced).sampling_weights), expected)


def test_weights_are_one_over_the_size_of_the_group(toys: type[Toys]) -> None:
    # (0, 0) has three, (0, 1) one, (1, 0) none, (1, 1) two.
    expected = torch.tensor([1 / 3, 1 / 3, 1, 1 / 2, 1 / 2, 1 / 3], dtype=torch.float64)
    assert torch.equal(known(build(toys, GroupBalanced).sampling_weights), expected)


def test_what_they_may_read() -> None:
    assert not ClassBalanced.needs.groups
    assert GroupBalanced.needs.groups


@pytest.mark.parametrize(("kind", "strata"), [(ClassBalanced, 2), (GroupBalanced, 4)])
def test_every_stratum_is_drawn_equally_often(
    toys: type[Toys], kind: type[ClassBalanced], strata: int
) -> None:
    # Nine tenths of each class carry the class's attribute, and class 1 is a fifth of all.
    y = torch.tensor([0] * 160 + [1] * 40)
    attribute = torch.where(torch.arange(200) % 10 == 0, 1 - y, y)
    method = build(toys, kind, y.tolist(), attribute.tolist())
    order = ShuffledOrder(200, 50, seed=4, weights=method.sampling_weights)
    drawn = torch.cat([order(step) for step in range(400)])  # 20,000 draws
    stratum = y if strata == 2 else 2 * y + attribute
    found = stratum[drawn].bincount(minlength=strata) / len(drawn)
    share = 1 / strata
    tolerance = 4 * math.sqrt(share * (1 - share) / len(drawn))
    assert (found - share).abs().max().item() < tolerance
    # Within a stratum no example is preferred: the rarest group's four examples by themselves.
    if strata == 4:
        rare = (stratum == 2).nonzero().squeeze(1)
        counts = drawn.bincount(minlength=200)[rare].double()
        assert (counts - 1250).abs().max().item() < 4 * math.sqrt(1250)


@pytest.mark.parametrize("kind", [ClassBalanced, GroupBalanced])
def test_a_step_is_that_of_erm(toys: type[Toys], kind: type[ClassBalanced]) -> None:
    # As in test_erm: the batch is balanced already by how it was drawn, so the loss has no weights.
    model = toys.hand_model()
    report = build(toys, kind, model=model).step(model, toys.hand_batch(), None)
    expected = torch.tensor([[0.05, 0.1], [-0.05, -0.1]], dtype=torch.float64)
    torch.testing.assert_close(model.head.weight.detach(), expected, rtol=0.0, atol=1e-15)
    assert report.scalars["loss"].item() == pytest.approx(math.log(2), rel=1e-15)
