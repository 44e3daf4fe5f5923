"""A recorded computation against the function that was recorded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import vmap

from ipgl.training.recording import Recording


def gradient(weight: Tensor, given: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Uses autograd, `vmap`, a constant, several outputs of one operation, and an input that nothing depends on."""
    losses = vmap(lambda w: (given["x"] @ w).clamp_min(0.1).square().sum())(weight)
    (found,) = torch.autograd.grad(losses.sum(), weight)
    first, second = torch.split(found, 1)
    return first + 2 * second, {"losses": losses.detach(), "largest": found.max(dim=1).indices}


def test_it_computes_the_same_of_other_inputs() -> None:
    def inputs(seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(seed)
        return torch.randn(2, 3, requires_grad=True), {"x": torch.randn(4, 3), "unused": torch.zeros(())}

    recording = Recording(gradient, *inputs(0))
    for seed in (0, 1, 2):
        found, expected = recording(*inputs(seed)), gradient(*inputs(seed))
        assert torch.equal(found[0], expected[0])
        assert found[1].keys() == expected[1].keys()
        for name, value in expected[1].items():
            assert torch.equal(found[1][name], value), name
        assert not found[0].requires_grad


def test_an_input_that_is_returned_is_the_one_of_each_call() -> None:
    recording = Recording(lambda x: {"same": x, "twice": 2 * x}, torch.ones(2))
    assert recording(torch.full((2,), 3.0))["same"].tolist() == [3.0, 3.0]


def test_casts_are_recorded() -> None:
    def product(x: Tensor) -> Tensor:
        return x @ x

    x = torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recording, expected = Recording(product, x), product(x)
    found = recording(x)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_what_is_not_given_is_refused() -> None:
    other = torch.ones(3)
    with pytest.raises(ValueError, match=r"may use its inputs alone, but got another tensor, \(3,\)"):
        Recording(lambda x: x + other, torch.ones(3))
    with pytest.raises(ValueError, match="may not make tensors of numbers on the host; pass them in"):
        Recording(lambda x: x + torch.tensor([1.0, 2.0, 3.0]), torch.ones(3))
