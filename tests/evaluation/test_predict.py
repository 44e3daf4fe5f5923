"""Predictions over a whole split."""

from __future__ import annotations

import pytest
import torch
from narrowing import as_tensor
from torch import nn

from ipgl.data import PairSet
from ipgl.evaluation import predict_between, predict_logits
from ipgl.models import Classifier


def make_model(dtype: torch.dtype = torch.float32) -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU()), 4, 3).to(dtype).eval()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 1000])
def test_equals_a_single_forward_pass(batch_size: int) -> None:
    model, x = make_model(), torch.randn(10, 2, 3)
    found = predict_logits(model, x, batch_size)
    assert found.shape == (10, 3)
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-6, atol=1e-7)
    assert not found.requires_grad


def test_logits_are_single_precision() -> None:
    assert predict_logits(make_model(torch.float64), torch.randn(4, 6).double(), 3).dtype == torch.float32


def test_no_batch_is_larger_than_asked_for() -> None:
    sizes = []
    model = make_model()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    predict_logits(model, torch.randn(10, 6), 4)
    assert sizes == [4, 4, 2]


def pairs_of(count: int) -> PairSet:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, count, 2, 3, generator=generator)
    zeros = torch.zeros(count, dtype=torch.int64)
    return PairSet(a, b, zeros, zeros)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 1000])
def test_between_equals_a_forward_pass_at_each_point(batch_size: int) -> None:
    model, pairs, points = make_model(), pairs_of(10), (0.0, 0.3, 1.0)
    with torch.no_grad():
        model.head.weight.copy_(5 * torch.eye(3, 4) - 1)  # so that the inputs decide the class
        model.head.bias.zero_()
    found = predict_between(model, pairs, points, batch_size)
    expected = [model((1 - t) * as_tensor(pairs.a) + t * as_tensor(pairs.b)).argmax(dim=1) for t in points]
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(found[0], predict_logits(model, pairs.a, 4).argmax(dim=1))
    assert torch.equal(found[-1], predict_logits(model, pairs.b, 4).argmax(dim=1))
    assert len(found.unique()) > 1


def test_without_points_or_pairs_there_is_nothing_between() -> None:
    model = make_model()
    assert predict_between(model, pairs_of(5), (), 3).shape == (0, 0)
    assert predict_between(model, pairs_of(0), (0.0, 1.0), 3).shape == (2, 0)
