"""A stack of models against each of its models alone."""

from __future__ import annotations

import pytest
import torch
from narrowing import known
from torch import nn

from ipgl.models import MODELS, Classifier, StackedClassifier, joined, shared, stackable

SHAPE, CLASSES = (2, 3, 3), 4


def mlp(seed: int, **settings: int) -> Classifier:
    torch.manual_seed(seed)
    entry = MODELS["mlp"]
    return entry.build(entry.settings.model_validate({"width": 8, **settings}), SHAPE, CLASSES)


def clone(model: Classifier, seed: int) -> Classifier:
    copy = mlp(seed)
    copy.load_state_dict(model.state_dict())
    return copy


@pytest.mark.parametrize("alike", [True, False])
def test_outputs_hidden_layers_and_gradients_are_those_of_each_model_alone(alike: bool) -> None:
    members = [mlp(seed) for seed in range(3)]
    alone = [clone(member, 9) for member in members]
    own = torch.randn(3, 5, *SHAPE)
    x = shared(own[0], 3) if alike else own
    stack = StackedClassifier(members)
    with stack.recording_hidden() as hidden:
        logits = stack(x)
    assert logits.shape == (3, 5, CLASSES)
    logits.square().sum().backward()
    for number, model in enumerate(alone):
        with model.recording_hidden() as expected:
            out = model(x[number])
        out.square().sum().backward()
        torch.testing.assert_close(logits[number], out, rtol=1e-5, atol=1e-6)
        for layer, other in zip(hidden, expected, strict=True):
            torch.testing.assert_close(layer[number], other, rtol=1e-5, atol=1e-6)
        for stacked, parameter in zip(stack.parameters, model.parameters(), strict=True):
            torch.testing.assert_close(known(stacked.grad)[number], parameter.grad, rtol=1e-4, atol=1e-5)
            # A fused optimiser on the CPU takes any gradient for one in its parameter's layout.
            assert known(stacked.grad).stride() == stacked.stride()


def test_members_share_the_stack_s_memory() -> None:
    members = [mlp(seed) for seed in range(2)]
    before = [p.detach().clone() for p in members[1].parameters()]
    stack = StackedClassifier(members)
    for parameter, kept in zip(members[1].parameters(), before, strict=True):
        assert torch.equal(parameter, kept)
    with torch.no_grad():
        stack.parameters[0][1].zero_()
    first = next(iter(members[1].parameters()))
    assert not first.any()
    assert next(iter(members[0].parameters())).any()


def test_a_stack_may_be_made_again_of_other_models() -> None:
    a, b, c = (mlp(seed) for seed in range(3))
    StackedClassifier([a, b])
    stack = StackedClassifier([b, c])
    x = torch.randn(4, *SHAPE)
    torch.testing.assert_close(stack(shared(x, 2))[0], b(x), rtol=1e-5, atol=1e-6)


def test_features_are_the_inputs_of_a_head_alone() -> None:
    members = [Classifier(nn.Identity(), 6, 2) for _ in range(2)]
    assert stackable(members[0])
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(StackedClassifier(members)(x)[1], members[1](x[1]))


def test_what_can_be_stacked() -> None:
    assert stackable(mlp(0, depth=1))
    cnn = MODELS["cnn"]
    assert not stackable(cnn.build(cnn.settings.model_validate({"width": 8}), (2, 8, 8), 2))
    buffered = mlp(0)
    buffered.features.register_buffer("seen", torch.zeros(()))
    assert not stackable(buffered)


def test_batches_are_joined_and_what_is_shared_stays_shared() -> None:
    a, b = torch.randn(3, 2, 4), torch.randn(3, 5, 4)
    assert torch.equal(joined([a, b], 1), torch.cat([a, b], dim=1))
    assert torch.equal(joined([a[0], b[0]], 0), torch.cat([a[0], b[0]]))
    together = joined([shared(a[0], 6), shared(b[0], 6)], 1)
    assert together.shape == (6, 7, 4)
    assert together.stride(0) == 0
    assert torch.equal(together[5], torch.cat([a[0], b[0]]))
    assert torch.equal(joined([shared(a[0], 3), b], 1)[2], torch.cat([a[0], b[2]]))
