"""Predictions over a whole split."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ipgl.evaluation import predict_logits
from ipgl.models import Classifier


def make_model(dtype=torch.float32):
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU()), 4, 3).to(dtype).eval()


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 1000])
def test_equals_a_single_forward_pass(batch_size):
    model, x = make_model(), torch.randn(10, 2, 3)
    found = predict_logits(model, x, batch_size)
    assert found.shape == (10, 3)
    torch.testing.assert_close(found, model(x).detach(), rtol=1e-6, atol=1e-7)
    assert not found.requires_grad


def test_logits_are_single_precision():
    assert predict_logits(make_model(torch.float64), torch.randn(4, 6).double(), 3).dtype == torch.float32


def test_no_batch_is_larger_than_asked_for():
    sizes = []
    model = make_model()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    predict_logits(model, torch.randn(10, 6), 4)
    assert sizes == [4, 4, 2]
