"""Empirical risk minimisation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ipgl.methods.erm import Erm, ErmSettings

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-15}


def test_one_step_by_hand(toys: type[Toys]) -> None:
    # All logits are 0, so both classes have probability 1/2 and the loss is ln 2. The gradient of the head is
    # (p - onehot) x^T = (-1/2, 1/2)^T (1, 2); a step of 0.1 down it gives the values below.
    model = toys.hand_model()
    report = Erm(ErmSettings(), toys.context(model, lr=0.1)).step(model, toys.hand_batch(), None)

    expected = torch.tensor([[0.05, 0.1], [-0.05, -0.1]], dtype=torch.float64)
    torch.testing.assert_close(model.head.weight.detach(), expected, **EXACT)
    torch.testing.assert_close(
        model.head.bias.detach(), torch.tensor([0.05, -0.05], dtype=torch.float64), **EXACT
    )
    assert report.scalars["loss"].item() == pytest.approx(math.log(2), rel=1e-15)


def test_loss_is_the_mean_before_the_step(toys: type[Toys]) -> None:
    # Two examples of equal input and unlike label: each has loss ln 2, and their gradients cancel.
    model = toys.hand_model()
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    report = Erm(ErmSettings(), toys.context(model)).step(model, toys.batch(x, torch.tensor([0, 1])), None)

    assert report.scalars["loss"].item() == pytest.approx(math.log(2), rel=1e-15)
    assert model.head.weight.abs().max().item() == 0.0
