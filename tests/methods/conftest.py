"""One thread, a context as the trainer lends it, and small models whose gradients can be written out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.data import Batch, Dataset, PairBatch, PairSet, Split
from ipgl.methods import MethodContext
from ipgl.models import Classifier
from ipgl.training.collective import Collective
from ipgl.training.optimisers import RunOptimisers


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a test that draws without a seed of its own draws the same each time
        yield
    torch.set_num_threads(threads)


def toy_data(size: int = 32, seed: int = 0) -> tuple[Batch, PairBatch]:
    """Classes apart by their first input; the second is the attribute, which a pair's members differ in.

    Labels, attributes and environments are as even as can be; pair i is made from example i.
    """
    generator = torch.Generator().manual_seed(seed)
    position = torch.arange(size)
    y, attribute, environment = position % 2, position // 2 % 2, position // 4 % 2
    noise = 0.2 * torch.randn(size, generator=generator)
    x = torch.stack([2.0 * y - 1, 2.0 * attribute - 1, noise], dim=1)
    a, b = x[: size // 2].clone(), x[: size // 2].clone()
    a[:, 1], b[:, 1] = -1.0, 1.0
    return Batch(x, y, attribute, environment, position), PairBatch(a, b, y[: size // 2])


def make_dataset(
    train: Batch | None = None,
    pairs: PairBatch | None = None,
    source: torch.Tensor | None = None,
    *,
    size: int = 0,
) -> Dataset:
    """A data set around one batch and its pairs, or of `size` toy examples; two classes and two attributes."""
    if size:
        train, pairs = toy_data(size)
        source = torch.arange(len(pairs.y))
    train = train or hand_batch()
    pairs = pairs or hand_pairs()
    split = Split(train.x, train.y, train.attribute, train.environment)
    source = torch.full_like(pairs.y, -1) if source is None else source
    pair_set = PairSet(pairs.a, pairs.b, pairs.y, source)
    names = ("0", "1")
    return Dataset(split, split, split, pair_set, pair_set, names, names, "toy")


def make_context(
    model: Classifier,
    name: str = "sgd",
    lr: float = 0.1,
    momentum: float = 0.0,
    total_steps: int = 100,
    dataset: Dataset | None = None,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
) -> MethodContext:
    """What `train` lends, on one worker."""
    optimiser = OptimiserSettings(name=name, lr=lr, momentum=momentum, weight_decay=weight_decay)
    settings = TrainingSettings(optimiser=optimiser, clip_norm=clip_norm)
    optimisers = RunOptimisers(model, dataset or make_dataset(), settings, total_steps, Collective())
    optimisers.remember_initial_weights()
    return optimisers.context


def make_batch(
    x: torch.Tensor,
    y: torch.Tensor,
    attribute: torch.Tensor | None = None,
    environment: torch.Tensor | None = None,
) -> Batch:
    zeros = torch.zeros_like(y)
    return Batch(
        x,
        y,
        zeros if attribute is None else attribute,
        zeros if environment is None else environment,
        torch.arange(len(y)),
    )


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

    context = staticmethod(make_context)
    dataset = staticmethod(make_dataset)
    data = staticmethod(toy_data)
    batch = staticmethod(make_batch)
    hand_model = staticmethod(hand_model)
    hand_batch = staticmethod(hand_batch)
    hand_pairs = staticmethod(hand_pairs)


@pytest.fixture
def toys() -> type[Toys]:
    return Toys
