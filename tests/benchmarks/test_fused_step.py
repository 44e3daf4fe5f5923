"""Whole training steps with the optimiser's kernel called directly, against the same with the optimiser's `step()`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.data import Dataset
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.training import SilentReporter
from ipgl.training.loop import TrainingRun

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

ROUNDS, STEPS = 10, 100


class OwnStep:
    """`torch.optim`'s own step in the place of `FusedStep`."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self._optimiser = optimiser

    def __call__(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self._optimiser.param_groups[0]["params"], gradients, strict=True):
            parameter.grad = gradient
        self._optimiser.step()

    def let_go(self) -> None:
        """It holds nothing."""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_colored_mnist(ColoredMnistSettings(source="digits", pairs={"train": 60, "held_out": 20}))


@pytest.mark.parametrize("method", ["erm", "ipg"])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_whole_step(
    method: str, optimiser: str, dataset: Dataset, keep: Callable[[dict[str, float]], None]
) -> None:
    """A multi-layer perceptron 32 wide at batch 64, in CPU time; both end in the same bits."""
    entry, network = METHODS[method], MODELS["mlp"]

    def begin() -> TrainingRun:
        torch.manual_seed(0)
        return TrainingRun(
            network.build(
                network.settings.model_validate({"width": 32}), dataset.input_shape, dataset.num_classes
            ),
            lambda context: entry.build(entry.settings(), context),
            dataset,
            TrainingSettings(
                epochs=1000,
                batch_size=64,
                optimiser=OptimiserSettings(name=optimiser, lr=1e-3),
                device="cpu",
            ),
            seed=0,
            evaluate=lambda model: {},
            reporter=SilentReporter(),
        )

    runs = {"direct": begin(), "own": begin()}
    for made in runs["own"].optimisers.made:
        made._take_step = OwnStep(made._optimiser)  # type: ignore[assignment]
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS + 1):
        for name, run in runs.items():
            run._marks = [run.done + STEPS]
            begun = time.thread_time()
            run.train_segment()
            if number:
                seconds[name].append((time.thread_time() - begun) / STEPS)
    parameters = (run.model.parameters() for run in runs.values())
    assert all(torch.equal(p, q) for p, q in zip(*parameters, strict=True))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    keep(
        {"own against direct": medians["own"] / medians["direct"]}
        | {f"{n} (us)": 1e6 * s for n, s in medians.items()}
    )
