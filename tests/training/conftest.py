"""One thread, and a data set, a model and settings so small that whole runs take a fraction of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from narrowing import as_tensor
from torch import nn

from ipgl.config import OptimiserSettings, ScheduleSettings, TrainingSettings
from ipgl.data import Dataset, PairSet, Split
from ipgl.methods import METHODS, Method, MethodContext
from ipgl.models import Classifier


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a test that draws without a seed of its own draws the same each time
        yield
    torch.set_num_threads(threads)


def toy_dataset(dtype: torch.dtype = torch.float32, train: int = 50, pairs: int = 20) -> Dataset:
    """Four inputs: the label (weak), the attribute (strong), and noise; pairs differ in the second input."""
    generator = torch.Generator().manual_seed(5)

    def split(size: int) -> Split:
        y = torch.randint(2, (size,), generator=generator)
        disagree = torch.rand(size, generator=generator) < 0.2
        attribute = torch.where(disagree, 1 - y, y)
        x = torch.randn(size, 4, generator=generator, dtype=dtype)
        x[:, 0] += 2.0 * y - 1
        x[:, 1] = 3.0 * attribute - 1.5
        return Split(x, y, attribute, torch.arange(size) % 2)

    def pair_set(size: int) -> PairSet:
        part = split(size)
        a, b = as_tensor(part.x).clone(), as_tensor(part.x).clone()
        a[:, 1], b[:, 1] = -1.5, 1.5
        return PairSet(a, b, part.y, torch.arange(size))

    return Dataset(
        split(train), split(20), split(20), pair_set(pairs), pair_set(10), ("no", "yes"), ("0", "1"), "toy"
    )


def toy_model(dtype: torch.dtype = torch.float32, seed: int = 1) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(nn.Sequential(nn.Linear(4, 6), nn.Tanh()), 6, 2).to(dtype)


def toy_settings(**changes: object) -> TrainingSettings:
    """Batches of 16 of 50 examples: three steps an epoch, the remainder left out; a checkpoint each evaluation."""
    fields: dict[str, object] = {
        "epochs": 4,
        "batch_size": 16,
        "optimiser": OptimiserSettings(name="sgd", lr=0.1),
        "schedule": ScheduleSettings(),
        "evaluations": 4,
        "checkpoint_seconds": 0.0,
        "device": "cpu",
    }
    return TrainingSettings(**(fields | changes))


def method_builder(name: str, **settings: object) -> Callable[[MethodContext], Method]:
    """What `train` calls with its context."""
    entry = METHODS[name]
    return lambda context: entry.build(entry.settings.model_validate(settings), context)


def accuracy(dataset: Dataset) -> Callable[[Classifier], dict[str, float]]:
    """An evaluation as a trial has it."""

    def evaluate(model: Classifier) -> dict[str, float]:
        assert not model.training
        with torch.inference_mode():
            hit = model(dataset.validation.x).argmax(dim=1) == dataset.validation.y
        return {"validation/accuracy": hit.double().mean().item()}

    return evaluate


class Rows:
    """A reporter that keeps its rows, and may raise after one of them or do something after each."""

    def __init__(
        self, raise_after: int = 0, after: Callable[[dict[str, float]], object] = lambda row: None
    ) -> None:
        self.rows: list[dict[str, float]] = []
        self._raise_after, self._after = raise_after, after

    def report(self, row: dict[str, float]) -> None:
        self.rows.append(dict(row))
        self._after(row)
        if len(self.rows) == self._raise_after:
            raise Stop


class Stop(Exception):
    """Stands for whatever ends a process."""


class Toys:
    """The builders by name, so that one fixture hands them all to a test."""

    dataset = staticmethod(toy_dataset)
    model = staticmethod(toy_model)
    settings = staticmethod(toy_settings)
    method = staticmethod(method_builder)
    accuracy = staticmethod(accuracy)
    Rows, Stop = Rows, Stop


@pytest.fixture
def toys() -> type[Toys]:
    return Toys
