"""Every form of the balanced step is the reference's, which is the algorithm written out in plain PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ipg_reference import LR, make_data, make_model, rho

from ipgl.data import Batch, PairBatch
from ipgl.methods.ipg import Ipg, IpgSettings
from ipgl.methods.ipg.reference import ipg_step
from ipgl.models import Classifier
from ipgl.training.stack import Stack

SHARE = 0.4


def reference(model: Classifier, batch: Batch, pairs: PairBatch, **given: Any) -> tuple[Classifier, float]:
    """A copy of the model after the reference's step, and the measure before it."""
    moved = copy.deepcopy(model)
    found = ipg_step(
        moved.features, moved.head, (batch.x, batch.y), (pairs.a, pairs.b), LR, task_share=SHARE, **given
    )
    return moved, found


def settings(scale_task: bool, threshold: float) -> IpgSettings:
    return IpgSettings(
        through="representation",
        task_share=SHARE,
        scaled="task" if scale_task else "corrective",
        least_spread=0.0,
        invariance_threshold=threshold,
    )


def assert_equal(model: Classifier, expected: Classifier, rtol: float = 1e-9) -> None:
    for found, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found.detach(), other.detach(), rtol=rtol, atol=rtol / 100)


@pytest.mark.parametrize("scale_task", [True, False])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.003, 10.0], ids=["violated", "holds"])
def test_the_method_takes_the_reference_s_step(
    toys: Any, scale_task: bool, seed: int, threshold: float
) -> None:
    model, (batch, pairs) = make_model(), make_data(seed)
    expected, measure = reference(model, batch, pairs, scale_task=scale_task, threshold=threshold)
    assert measure == pytest.approx(rho([p.detach() for p in model.parameters()], pairs))
    assert 0.003 < measure < 10
    ipg = Ipg(settings(scale_task, threshold), toys.context(model, "sgd", lr=LR, momentum=0.0))
    report = ipg.step(model, batch, pairs)
    assert_equal(model, expected)
    assert report.scalars["measure"].item() == pytest.approx(measure, rel=1e-6)
    assert report.scalars["corrected"].item() == (measure > threshold)


@pytest.mark.parametrize("scale_task", [True, False])
def test_each_model_under_vmap_takes_the_reference_s_step(toys: Any, scale_task: bool) -> None:
    """Also where the condition holds for some models and is violated for others."""
    models = [make_model() for _ in range(3)]
    for number, model in enumerate(models):
        with torch.no_grad():
            model.head.weight.mul_(1 + number)
    batch, pairs = make_data()
    thresholds = [0.003, 10.0, 0.003]
    expected = [
        reference(model, batch, pairs, scale_task=scale_task, threshold=threshold)[0]
        for model, threshold in zip(models, thresholds, strict=True)
    ]
    contexts = [toys.context(model, "sgd", lr=LR, momentum=0.0) for model in models]
    methods = [Ipg(settings(scale_task, t), context) for t, context in zip(thresholds, contexts, strict=True)]
    stack = Stack(models, methods, [context.optimiser for context in contexts], key=None)
    seen = {"x": batch.x, "y": batch.y, "a": pairs.a, "b": pairs.b, "labels": pairs.y}
    report = stack.step(seen, shared=True)
    assert report.scalars["corrected"].tolist() == [1.0, 0.0, 1.0]
    for model, other in zip(models, expected, strict=True):
        assert_equal(model, other)


def test_it_fits_on_one_screen() -> None:
    """The step itself, without its signature and docstring, is at most 40 lines."""
    import ast
    import inspect

    source = inspect.getsource(ipg_step)
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert function.body[-1].end_lineno is not None
    assert function.body[-1].end_lineno - function.body[1].lineno < 40
