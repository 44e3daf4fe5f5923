"""Two processes that share every batch against one that has it to itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from ipgl.config import OptimiserSettings, ScheduleSettings, TrainingSettings
from ipgl.data import Dataset, PairSet, Split
from ipgl.methods import METHODS
from ipgl.models import Classifier
from ipgl.training import Collective, train

WORKERS = 2
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "erm": ("erm", {}),
    "ipg": ("ipg", {"pairs_per_step": 8, "adaptivity": "gate", "invariance_threshold": 0.1, "strength": 2.0}),
    "additive": ("ipg", {"pairs_per_step": 8, "update": "additive", "discrepancy": "logit", "strength": 2.0}),
    "lagrangian": ("ipg", {"pairs_per_step": 8, "update": "lagrangian", "invariance_threshold": 0.1}),
    "projected": ("ipg", {"pairs_per_step": 8, "update": "projected", "adaptivity": "off"}),
    "discrepancy": ("ipg", {"pairs_per_step": 8, "measure": "discrepancy", "adaptivity": "proportional"}),
    "clp": ("clp", {"pairs_per_step": 8}),
    "ridg": ("ridg", {"strength": 1.0}),
    "group_dro": ("group_dro", {"balanced": False, "step_size": 0.1}),
    "jtt": ("jtt", {}),
    "lff": ("lff", {}),
    "mixup": ("mixup", {}),
    "adversarial": ("ipg", {"pairs_per_step": 8, "adversarial": {"steps": 1, "random_start": True}}),
}
# Each worker draws its own random numbers, so that these cannot agree with one worker.
RANDOM = {"mixup", "adversarial"}


class Stop(Exception):
    """Stands for whatever ends a process."""


class Rows:
    """A reporter that keeps its rows; in the run that is to be interrupted it raises after the second."""

    def __init__(self, raise_after: int = 0) -> None:
        self.rows: list[dict[str, float]] = []
        self._raise_after = raise_after

    def report(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        if len(self.rows) == self._raise_after:
            raise Stop


def make_dataset() -> Dataset:
    generator = torch.Generator().manual_seed(5)

    def split(size: int) -> Split:
        y = torch.randint(2, (size,), generator=generator)
        attribute = torch.where(torch.rand(size, generator=generator) < 0.2, 1 - y, y)
        x = torch.randn(size, 4, generator=generator)
        x[:, 0] += 2.0 * y - 1
        x[:, 1] = 3.0 * attribute - 1.5
        return Split(x, y, attribute, torch.zeros_like(y))

    def pair_set(size: int) -> PairSet:
        part = split(size)
        a, b = part.x.clone(), part.x.clone()
        a[:, 1], b[:, 1] = -1.5, 1.5
        return PairSet(a, b, part.y, torch.arange(size))

    names = ("0", "1")
    return Dataset(split(50), split(20), split(20), pair_set(20), pair_set(10), names, names, "toy")


def fit(case: str, path: Path | None = None, raise_after: int = 0) -> dict[str, Any]:
    """Train with global batches of 16, whatever the number of workers."""
    name, settings = CASES[case]
    entry, dataset = METHODS[name], make_dataset()
    torch.manual_seed(1)
    # The running statistics differ between workers until an evaluation shares rank 0's.
    model = Classifier(nn.Sequential(nn.Linear(4, 6), nn.Tanh()), 6, 2)
    model.features.register_buffer("seen", torch.zeros(()))
    model.features.register_forward_pre_hook(lambda module, x: module.seen.add_(x[0].sum()) and None)

    def evaluate(model: Classifier) -> dict[str, float]:
        buffer = model.features.seen.item()
        loss = nn.functional.cross_entropy(model(dataset.validation.x), dataset.validation.y).item()
        return {"validation/loss": loss, "buffer": buffer}

    reporter = Rows(raise_after)
    outcome = train(
        model,
        lambda toolbox: entry.build(entry.settings(**settings), toolbox),
        dataset,
        TrainingSettings(
            epochs=6,
            batch_size=16,
            optimiser=OptimiserSettings(name="sgd", lr=0.1, momentum=0.9),
            schedule=ScheduleSettings(name="cosine"),
            clip_norm=1.0,
            evaluations=3,
            checkpoint_seconds=0.0,
        ),
        seed=0,
        evaluate=evaluate,
        reporter=reporter,
        checkpoint_path=path,
    )
    return {
        "history": outcome.history,
        "rows": reporter.rows,
        "parameters": [p.detach().clone() for p in model.parameters()],
    }


def work(rank: int, folder: Path) -> None:
    """One worker: each case unbroken, then interrupted after its second evaluation and resumed."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORKERS)
    try:
        found: dict[str, Any] = {}
        for case in CASES:
            unbroken = fit(case, folder / f"{case}-unbroken.pt")
            path = folder / f"{case}.pt"
            stopped = False
            try:
                fit(case, path, raise_after=2)
            except Stop:
                stopped = True
            dist.barrier()  # a real restart comes after the death of all workers
            found[case] = {"unbroken": unbroken, "resumed": fit(case, path), "stopped": stopped}
        collective = Collective()
        value = torch.tensor([1.0 + rank])
        found["collective"] = {
            "rank": collective.rank,
            "workers": collective.workers,
            "sum": collective.sum(value).item(),
            "kept": value.item(),
        }
        torch.save(found, folder / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()
    # Now and then gloo's threads outlive their group and abort the interpreter's exit, when all is saved already.
    os._exit(0)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two workers found."""
    folder = tmp_path_factory.mktemp("workers")
    torch.multiprocessing.spawn(work, args=(folder,), nprocs=WORKERS)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES.keys() - RANDOM))
def test_two_workers_agree_with_one(two_workers, case):
    alone = fit(case)
    shared = two_workers[0][case]["unbroken"]
    for mine, theirs in zip(alone["parameters"], shared["parameters"], strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)
    assert len(shared["history"]) == 3
    for mine, theirs in zip(alone["history"], shared["history"], strict=True):
        assert theirs.keys() == mine.keys()
        # Whether a batch's predictions are of one class depends on how the batch is shared out; `buffer` likewise.
        for name in mine.keys() - {"time", "buffer", "train/collapsed"}:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-3, abs=1e-6), name
    if case == "ipg":  # the gate was open in some steps and closed in others, at the same ones
        shares = [row["train/corrected"] for row in alone["history"]]
        assert any(0 < share < 1 for share in shares)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES))
def test_workers_hold_the_same_bits(two_workers, case):
    first, second = (found[case]["unbroken"] for found in two_workers)
    assert all(torch.equal(p, q) for p, q in zip(first["parameters"], second["parameters"], strict=True))
    for mine, theirs in zip(first["history"], second["history"], strict=True):
        for name in mine.keys() - {"time"}:
            assert mine[name] == theirs[name], name


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES))
def test_resumed_workers_end_in_the_same_bits(two_workers, case):
    for found in two_workers:
        unbroken, resumed = found[case]["unbroken"], found[case]["resumed"]
        assert found[case]["stopped"]
        assert [row["evaluation"] for row in resumed["rows"]] == [3.0]
        assert all(
            torch.equal(p, q) for p, q in zip(unbroken["parameters"], resumed["parameters"], strict=True)
        )
        for mine, theirs in zip(unbroken["history"], resumed["history"], strict=True):
            for name in mine.keys() - {"time"}:
                assert mine[name] == theirs[name], name


@pytest.mark.slow
def test_collective(two_workers):
    for rank, found in enumerate(two_workers):
        assert found["collective"] == {"rank": rank, "workers": 2, "sum": 3.0, "kept": 1.0 + rank}


def test_one_worker_is_the_case_in_which_nothing_happens():
    collective, value = Collective(), torch.tensor([2.0])
    assert (collective.rank, collective.workers) == (0, 1)
    assert collective.sum(value) is value
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    collective.average_gradients([parameter])
    assert parameter.grad.tolist() == [1.0, 2.0]
