"""IPG's steps on a GPU: the numbers of the CPU, and no wait of the host for the device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.data import Dataset, PairSet, Split
from ipgl.methods.ipg import Ipg, IpgSettings
from ipgl.methods.ipg.update import UPDATES
from ipgl.models import MODELS, Classifier
from ipgl.training.collective import Collective
from ipgl.training.device import autocast
from ipgl.training.optimisers import RunOptimisers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SETTINGS = [
    *({"update": update} for update in UPDATES),
    {"scaled": "task", "norm": "plain"},
    {"balance_over": "layer", "discrepancy": "logit"},
    {"adaptivity": "proportional", "through": "both", "augment": {"shift_pixels": 1}},
]


def make_dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 2, 8, 8, generator=generator)
    y = torch.randint(2, (64,), generator=generator)
    part, names = Split(x, y, y, torch.zeros_like(y)), ("0", "1")
    return Dataset(
        part, part, part, PairSet(x, x.flip(1), y, y), PairSet(x, x.flip(1), y, y), names, names, "x"
    )


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def trained(
    model: Classifier, device: torch.device, given: dict[str, object], training: TrainingSettings
) -> list[float]:
    """Losses of three steps, of which the last two may not wait."""
    dataset = make_dataset().to(device)
    method = Ipg(IpgSettings(**given), RunOptimisers(model, dataset, training, 10, Collective()).context)
    index = torch.arange(32, device=device)
    batch, pairs = dataset.train.batch(index), dataset.pairs.batch(index)
    losses = []
    for number in range(3):
        with autocast(training, device):
            if number and device.type == "cuda":
                with waiting_is_an_error():
                    report = method.step(model, batch, pairs)
            else:
                report = method.step(model, batch, pairs)
        losses.append(report.scalars["loss"])
    return [loss.item() for loss in losses]


@pytest.mark.parametrize("given", SETTINGS, ids=str)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_steps_do_not_wait_and_agree_with_the_cpu(given: dict[str, object], precision: str) -> None:
    torch.manual_seed(0)
    model = MODELS["mlp"].build(MODELS["mlp"].settings.model_validate({"width": 16}), (2, 8, 8), 2)
    here, there = model, copy.deepcopy(model).to("cuda")
    # Plain descent: Adam would make a whole step of a gradient that is rounding.
    training = TrainingSettings(precision=precision, optimiser=OptimiserSettings(name="sgd", lr=0.1))
    found = trained(there, torch.device("cuda"), given, training)
    assert all(p.isfinite().all() for p in there.parameters())
    if precision == "float32" and "augment" not in given:  # random numbers differ between devices
        expected = trained(here, torch.device("cpu"), given, training)
        assert found == pytest.approx(expected, rel=1e-3)
        for p, q in zip(here.parameters(), there.parameters(), strict=True):
            torch.testing.assert_close(q.cpu(), p, rtol=1e-3, atol=1e-4)
