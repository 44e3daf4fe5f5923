"""One thread, a toolbox as the trainer lends it, and small models whose gradients can be written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from ipgl.config import OptimiserSettings
from ipgl.data import Batch, PairBatch
from ipgl.methods import Toolbox
from ipgl.models import Classifier
from ipgl.training.collective import Collective
from ipgl.training.optimiser import OptimiserDescent, make_optimiser


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


def lend_toolbox(model: nn.Module, name: str = "sgd", lr: float = 0.1, momentum: float = 0.0) -> Toolbox:
    """The optimisers that `train` lends, on one worker."""
    parameters = list(model.parameters())
    settings = OptimiserSettings(name=name, lr=lr, momentum=momentum)
    collective = Collective()
    task = OptimiserDescent(make_optimiser(settings, parameters), parameters, collective)
    corrective = OptimiserDescent(torch.optim.SGD(parameters, lr=lr, fused=True), parameters, collective)
    return Toolbox(task, corrective, collective.sum)


def make_batch(x: torch.Tensor, y: torch.Tensor) -> Batch:
    zeros = torch.zeros_like(y)
    return Batch(x, y, zeros, zeros, torch.arange(len(y)))


def hand_model() -> Classifier:
    """Two inputs, which are the features, and a head of zeros, in double precision."""
    model = Classifier(nn.Identity(), 2, 2).double()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return model


def hand_batch() -> Batch:
    return make_batch(torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.tensor([0]))


def hand_pairs() -> PairBatch:
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    return PairBatch(a.double(), b.double(), torch.tensor([0]))


class Toys:
    """The builders by name, so that one fixture hands them all to a test."""

    toolbox: Callable[..., Toolbox] = staticmethod(lend_toolbox)
    batch = staticmethod(make_batch)
    hand_model = staticmethod(hand_model)
    hand_batch = staticmethod(hand_batch)
    hand_pairs = staticmethod(hand_pairs)


@pytest.fixture
def toys() -> type[Toys]:
    return Toys
