"""On a GPU: training against a plain loop, trials together against alone, and where an IPG step's time goes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from narrowing import as_tensor
from torch.nn.functional import cross_entropy
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.data import Dataset, PairSet, Split
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.methods import METHODS
from ipgl.models import MODELS, Classifier
from ipgl.training import SilentReporter, place, train
from ipgl.training.checkpoint import random_state
from ipgl.training.collective import Collective
from ipgl.training.device import autocast
from ipgl.training.loop import TrainingRun
from ipgl.training.optimisers import RunOptimisers
from ipgl.training.stack import train_together

pytestmark = [pytest.mark.bench, pytest.mark.gpu, pytest.mark.timeout(1800)]

DEVICE = torch.device("cuda")
BATCH, STEPS = 128, 10  # of a ResNet-50
IPG = {"update": "additive", "discrepancy": "logit", "adaptivity": "off", "strength": 1.0}


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def taken(action: Callable[[], object]) -> float:
    """Seconds of the second call, with all that it started on the GPU."""
    for _ in range(2):
        wait()
        begin = time.perf_counter()
        action()
        wait()
    return time.perf_counter() - begin


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    if not (Path(os.environ.get("IPGL_DATA", "data")) / "MNIST/raw").is_dir():
        pytest.skip("needs the real MNIST below $IPGL_DATA")
    return build_colored_mnist(ColoredMnistSettings(source="mnist"))


def network(name: str, shape: tuple[int, ...], **settings: object) -> Classifier:
    torch.manual_seed(0)
    return MODELS[name].build(MODELS[name].settings.model_validate(settings), shape, 2).to(DEVICE)


def settings(batch_size: int) -> TrainingSettings:
    return TrainingSettings(
        epochs=1,
        batch_size=batch_size,
        evaluations=1,
        optimiser=OptimiserSettings(name="adam", lr=1e-3),
        device="auto",
    )


@pytest.mark.mnist
@pytest.mark.parametrize(("name", "width"), [("mlp", 256), ("cnn", 16)])
def test_against_a_plain_loop(
    name: str, width: int, mnist: Dataset, keep: Callable[[dict[str, float]], None]
) -> None:
    """One epoch at batch 64; the target is 5."""
    tensors = TensorDataset(as_tensor(mnist.train.x), mnist.train.y)
    here = place(mnist, DEVICE)

    def plain() -> None:
        model = network(name, mnist.input_shape, width=width)
        adam = torch.optim.Adam(model.parameters(), lr=1e-3)
        for x, y in DataLoader(tensors, 64, shuffle=True, drop_last=True):
            adam.zero_grad()
            cross_entropy(model(x.to(DEVICE)), y.to(DEVICE)).backward()
            adam.step()

    def ours() -> None:
        train(
            network(name, mnist.input_shape, width=width),
            lambda context: METHODS["erm"].build(METHODS["erm"].settings(), context),
            here,
            settings(64),
            seed=0,
            evaluate=lambda model: {},
            reporter=SilentReporter(),
        )

    seconds = {"plain": taken(plain), "ours": taken(ours)}
    keep({"speed-up": seconds["plain"] / seconds["ours"], "at least": 5} | seconds)


@pytest.mark.mnist
@pytest.mark.parametrize("together", [8, 64])
def test_trials_together(together: int, mnist: Dataset, keep: Callable[[dict[str, float]], None]) -> None:
    """200 steps of 64-wide networks at batch 64; the target is 10."""
    here = place(mnist, DEVICE)
    entry = METHODS["ipg"]

    def begin(number: int) -> TrainingRun:
        method = entry.settings(**IPG | {"strength": 1.0 + number})
        run = TrainingRun(
            network("mlp", mnist.input_shape, width=64),
            lambda context: entry.build(method, context),
            here,
            settings(64),
            seed=0,
            evaluate=lambda model: {},
            reporter=SilentReporter(),
        )
        return run

    runs = [begin(number) for number in range(together)]
    states = [random_state() for _ in runs]

    def steps(action: Callable[[], object]) -> Callable[[], object]:
        def act() -> object:
            for run in runs:
                run._marks = [run.done + 200]
            return action()

        return act

    alone = taken(steps(lambda: [run.train_segment() for run in runs]))
    packed = taken(steps(lambda: train_together(runs, states)))
    keep({"speed-up": alone / packed, "at least": 10, "alone": alone, "together": packed})


@pytest.mark.parametrize("update", ["additive", "balanced"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_where_a_step_s_time_goes(
    precision: str, update: str, keep: Callable[[dict[str, float]], None]
) -> None:
    """Ten IPG steps of a ResNet-50 at batch 128: the share of time in kernels, whose target is 0.9.

    The profiler's picture is written to `.benchmarks/`; `chrome://tracing` and Perfetto open it.
    """
    x = torch.randn(BATCH, 3, 224, 224)
    y = torch.randint(2, (BATCH,))
    part, names = Split(x, y, y, torch.zeros_like(y)), ("0", "1")
    pairs = PairSet(x[: BATCH // 2], x[: BATCH // 2].flip(3), y[: BATCH // 2], y[: BATCH // 2])
    dataset = Dataset(part, part, part, pairs, pairs, names, names, "random").to(DEVICE)
    model = network("resnet50", dataset.input_shape)
    given = TrainingSettings(precision=precision)
    context = RunOptimisers(model, dataset, given, 1000, Collective()).context
    method = METHODS["ipg"].build(
        METHODS["ipg"].settings(**IPG | {"update": update, "pairs_per_step": len(pairs)}), context
    )
    batch = dataset.train.batch(torch.arange(BATCH, device=DEVICE))
    pair_batch = dataset.pairs.batch(torch.arange(len(pairs), device=DEVICE))

    def run() -> None:
        for _ in range(STEPS):
            with autocast(given, DEVICE):
                method.step(model, batch, pair_batch)

    seconds = taken(run)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        run()
        wait()
    kernels = sum(event.self_device_time_total for event in seen.key_averages()) / 1e6
    picture = Path(".benchmarks") / f"ipg_step_{update}_{precision}.json"
    picture.parent.mkdir(exist_ok=True)
    seen.export_chrome_trace(str(picture))
    keep({"a step (ms)": 1000 * seconds / STEPS, "share in kernels": kernels / seconds, "at least": 0.9})
