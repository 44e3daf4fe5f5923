"""How costs grow: the exponent of a power law fitted to measured times, beside the order that is expected."""

from __future__ import annotations

import math
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from narrowing import as_tensor
from small_study import finished_study
from torch import nn

from ipgl.config import EvaluationSettings, TrainingSettings
from ipgl.data import Dataset, PairSet, Split
from ipgl.evaluation import GroupCount, Predictions, run_curves
from ipgl.methods import METHODS
from ipgl.methods.ipg.discrepancy import rationale
from ipgl.models import MODELS
from ipgl.study.results import summarise
from ipgl.training.collective import Collective
from ipgl.training.optimisers import RunOptimisers

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

Curve = Mapping[int, float]


def curve(
    sizes: tuple[int, ...], make: Callable[[int], Callable[[], object]], calls: int, rounds: int = 7
) -> Curve:
    """Median seconds of one call at each size; the sizes take turns."""
    actions = {size: make(size) for size in sizes}
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size, action in actions.items():
            begin = time.perf_counter()
            for _ in range(calls):
                action()
            if number:  # the first warms up
                seconds[size].append((time.perf_counter() - begin) / calls)
    return {size: statistics.median(values) for size, values in seconds.items()}


def described(found: Curve, order: float) -> dict[str, float]:
    """Milliseconds at each size, the exponent of the power law that fits them best, and what is expected at most."""
    logs = [(math.log(size), math.log(seconds)) for size, seconds in found.items()]
    exponent, _ = statistics.linear_regression(*zip(*logs, strict=True))
    return {f"{size} (ms)": 1000 * value for size, value in found.items()} | {
        "exponent": exponent,
        "expected at most": order,
    }


@pytest.mark.parametrize("axis", ["pairs", "classes", "features"])
def test_rationale(axis: str, keep: Callable[[dict[str, float]], None]) -> None:
    """Forward and backward: order 1 in each, where matrices would be of order 1 in their product."""

    def make(size: int) -> Callable[[], object]:
        sizes = {"pairs": 256, "classes": 100, "features": 512} | {axis: size}
        head = nn.Linear(sizes["features"], sizes["classes"])
        z_a, z_b = torch.randn(2, sizes["pairs"], sizes["features"], requires_grad=True).unbind()
        return lambda: rationale(z_a, z_b, head).backward(retain_graph=True)

    keep(described(curve((256, 1024, 4096, 8192), make, calls=10), 1.0))


def toy(pairs: int) -> Dataset:
    """392 inputs, as ColoredMNIST has."""

    def split(size: int) -> Split:
        y = torch.randint(2, (size,))
        return Split(torch.randn(size, 392), y, y, torch.zeros_like(y))

    part = split(pairs)
    pair_set = PairSet(part.x, as_tensor(part.x).flip(0), part.y, torch.arange(pairs))
    names = ("0", "1")
    return Dataset(split(64), split(8), split(8), pair_set, pair_set, names, names, "toy")


def test_step_by_pairs(keep: Callable[[dict[str, float]], None]) -> None:
    """An additive step of a 256-wide network at batch 64: of order 1 once the pairs outweigh the batch."""
    entry, model = METHODS["ipg"], MODELS["mlp"]

    def make(pairs: int) -> Callable[[], object]:
        dataset = toy(pairs)
        network = model.build(model.settings.model_validate({"width": 256}), dataset.input_shape, 2)
        context = RunOptimisers(network, dataset, TrainingSettings(), 1000, Collective()).context
        settings = entry.settings.model_validate(
            {"update": "additive", "discrepancy": "logit", "adaptivity": "off", "pairs_per_step": pairs}
        )
        method = entry.build(settings, context)
        batch, pair_batch = dataset.train.batch(torch.arange(64)), dataset.pairs.batch(torch.arange(pairs))
        return lambda: method.step(network, batch, pair_batch)

    keep(described(curve((16, 64, 256, 1024), make, calls=10), 1.0))


@pytest.mark.parametrize("name", ["mixture", "worst_case_kl", "worst_case_tv"])
def test_curves_by_groups(name: str, keep: Callable[[dict[str, float]], None]) -> None:
    """A curve of one run with its intervals: each group in turn may be the worst, so of order 2 at most."""
    settings = EvaluationSettings(curves=tuple(dict.fromkeys(("mixture", name))))

    def make(size: int) -> Callable[[], object]:
        groups = [
            GroupCount(
                label=n // 2,
                attribute=n % 2,
                aligned=n % 2 == 0,
                count=100,
                correct=n % 100,
                training_count=100,
            )
            for n in range(size)
        ]
        nothing = np.zeros(0, dtype=np.int32)
        one = Predictions(nothing, nothing, nothing, np.zeros((0, 2), dtype=np.float32))
        return lambda: run_curves(groups, one, settings)

    keep(described(curve((4, 16, 64, 256), make, calls=1, rounds=3), 1.0 if name == "mixture" else 2.0))


def test_summary_by_trials(keep: Callable[[dict[str, float]], None], tmp_path: Path) -> None:
    """Everything that a study shows at its end, from storage: of order 1."""
    plan, folder = finished_study(tmp_path / "runs")
    searched = next(trial for trial in folder.trials() if "-search-" in trial.path.name)
    start, rows, result = searched.read_start(), searched.read_history(), searched.require_result()
    assert start
    found: dict[int, float] = {}
    made = 0
    for size in (100, 400, 1600):
        while made < size:
            config = start.model_copy(update={"seed": 1000 + made})
            trial = folder.trial(config.key)
            trial.create()
            trial.write_start(config)
            trial.write_history(rows)
            trial.write_result(result.model_copy(update={"trial": config.key, "seed": config.seed}))
            made += 1
        found |= curve((size,), lambda _: lambda: summarise(plan, folder), calls=1, rounds=3)
    keep(described(found, 1.0))


def _averaging(rank: int, workers: int, port: int, out: multiprocessing.Queue[float]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    collective, gradients = Collective(), [torch.randn(1000, 250) for _ in range(4)]
    seconds = []
    for number in range(12):
        dist.barrier()
        begin = time.perf_counter()
        collective.average(gradients)
        if number > 1:
            seconds.append(time.perf_counter() - begin)
    if rank == 0:
        out.put(statistics.median(seconds))
    dist.destroy_process_group()


def test_averaging_by_workers(keep: Callable[[dict[str, float]], None]) -> None:
    """A million gradients averaged over workers of one machine.

    In a ring each moves 2 (W - 1) / W of them, and here all share two cores: 2, 6 and 14 million are of order 1.4.
    """
    context = multiprocessing.get_context("spawn")
    found: dict[int, float] = {}
    for workers in (2, 4, 8):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        out = context.Queue()
        processes = [
            context.Process(target=_averaging, args=(rank, workers, port, out)) for rank in range(workers)
        ]
        for process in processes:
            process.start()
        found[workers] = out.get(timeout=120)
        for process in processes:
            process.join()
    keep(described(found, 1.4))
