"""Two or four processes that share every batch against one that has it to itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from narrowing import as_tensor
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from ipgl.config import OptimiserSettings, ScheduleSettings, TrainingSettings
from ipgl.data import Dataset, PairSet, ShuffledOrder, Split
from ipgl.methods import METHODS
from ipgl.models import Classifier
from ipgl.training import Collective, train
from ipgl.training.optimisers import RunOptimisers
from ipgl.training.step_batches import StepBatches

Found = dict[str, Any]  # what a run or a worker saved, by name

WORKERS = 2
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "erm": ("erm", {}),
    "balanced": ("ipg", {"pairs_per_step": 8, "invariance_threshold": 0.1}),
    "task scaled": ("ipg", {"pairs_per_step": 8, "scaled": "task", "norm": "plain", "balance_over": "layer"}),
    "sequential": (
        "ipg",
        {"pairs_per_step": 8, "update": "sequential", "invariance_threshold": 0.1, "strength": 2.0},
    ),
    "additive": ("ipg", {"pairs_per_step": 8, "update": "additive", "discrepancy": "logit", "strength": 2.0}),
    "lagrangian": ("ipg", {"pairs_per_step": 8, "update": "lagrangian", "invariance_threshold": 0.1}),
    "projected": ("ipg", {"pairs_per_step": 8, "update": "projected", "adaptivity": "off"}),
    "discrepancy": (
        "ipg",
        {"pairs_per_step": 8, "update": "sequential", "measure": "discrepancy", "adaptivity": "proportional"},
    ),
    "clp": ("clp", {"pairs_per_step": 8}),
    "ridg": ("ridg", {"strength": 1.0}),
    "group_dro": ("group_dro", {"balanced": False, "step_size": 0.1}),
    "jtt": ("jtt", {}),
    "lff": ("lff", {}),
    "irm": ("irm", {"strength": 20.0}),
    "vrex": ("vrex", {"strength": 20.0}),
    "mixup": ("mixup", {}),
    "adversarial": (
        "ipg",
        {"pairs_per_step": 8, "update": "sequential", "adversarial": {"steps": 1, "random_start": True}},
    ),
}
# Every way in which a correction joins the task's gradient, with every way of deciding how much of it.
UPDATES = ("balanced", "sequential", "additive", "lagrangian", "projected")
ADAPTIVITIES = ("gate", "proportional", "off")
FOLLOWED: dict[str, tuple[str, dict[str, Any]]] = {
    f"{update}, {adaptivity}": (
        "ipg",
        {
            "pairs_per_step": 8,
            "update": update,
            "through": "both",
            "adaptivity": adaptivity,
            "invariance_threshold": 0.1,
            "strength": 2.0,
        },
    )
    for update in UPDATES
    for adaptivity in ADAPTIVITIES
} | {name: CASES[name] for name in ("erm", "irm", "vrex")}
PARAMETERS = 4 * 6 + 6 + 6 * 2 + 2
CORRECTED = PARAMETERS - 2  # the rationale does not see the head's bias
MOMENTS = 3 + 2  # what decides the condition: three sums, and one for each class
# Whether predictions are of one class depends on how a batch is shared out.
DIAGNOSED_APART = {"diagnostic/collapsed", "diagnostic/overshot"}
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
        return Split(x, y, attribute, torch.arange(size) % 3)

    def pair_set(size: int) -> PairSet:
        part = split(size)
        a, b = as_tensor(part.x).clone(), as_tensor(part.x).clone()
        a[:, 1], b[:, 1] = -1.5, 1.5
        return PairSet(a, b, part.y, torch.arange(size))

    names = ("0", "1")
    return Dataset(split(50), split(20), split(20), pair_set(20), pair_set(10), names, names, "toy")


def make_model() -> Classifier:
    torch.manual_seed(1)
    # The running statistics differ between workers until an evaluation shares rank 0's.
    model = Classifier(nn.Sequential(nn.Linear(4, 6), nn.Tanh()), 6, 2)
    model.features.register_buffer("seen", torch.zeros(()))
    model.features.register_forward_pre_hook(lambda module, x: module.seen.add_(x[0].sum()) and None)
    return model


def fit(case: str, path: Path | None = None, raise_after: int = 0, evaluations: int = 3) -> Found:
    """Train with global batches of 16, whatever the number of workers."""
    name, settings = (CASES | FOLLOWED)[case]
    entry, dataset, model = METHODS[name], make_dataset(), make_model()
    passed: list[Tensor] = []

    def evaluate(model: Classifier) -> dict[str, float]:
        passed.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        buffer = model.features.get_buffer("seen").item()
        loss = nn.functional.cross_entropy(model(dataset.validation.x), dataset.validation.y).item()
        return {"validation/loss": loss, "buffer": buffer}

    reporter = Rows(raise_after)
    outcome = train(
        model,
        lambda context: entry.build(entry.settings(**settings), context),
        dataset,
        TrainingSettings(
            epochs=6,
            batch_size=16,
            optimiser=OptimiserSettings(name="sgd", lr=0.1, momentum=0.9),
            schedule=ScheduleSettings(name="cosine"),
            clip_norm=1.0,
            evaluations=evaluations,
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
        "passed": torch.stack(passed),
    }


def averaged(case: str, steps: int = 12) -> list[tuple[bool, list[int]]]:
    """Of each step: whether it was corrected, and how many numbers each all-reduce took."""
    name, settings = FOLLOWED[case]
    entry, dataset, model, collective = METHODS[name], make_dataset(), make_model(), Collective()
    place = (torch.device("cpu"), collective.rank, collective.workers)
    optimiser = OptimiserSettings(name="sgd", lr=0.1)
    optimisers = RunOptimisers(model, dataset, TrainingSettings(optimiser=optimiser), steps, collective)
    method = entry.build(entry.settings(**settings), optimisers.context)
    pair_order = ShuffledOrder(20, method.pairs_per_step, 1, *place) if method.pairs_per_step else None
    batches = StepBatches(dataset, ShuffledOrder(50, 16, 0, *place), pair_order, 0, collective)
    found = []
    for step in range(steps):
        with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as all_reduce:
            scalars = method.step(model, *batches(step)).scalars
        sizes = [call.args[0].numel() for call in all_reduce.call_args_list]
        found.append((bool(scalars.get("corrected", torch.zeros(())).item()), sizes))
    return found


def follow(rank: int, folder: Path, workers: int) -> None:
    """One worker: each case with an evaluation and a checkpoint after every step."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers)
    try:
        found = {
            case: fit(case, folder / f"{case}.pt", evaluations=18) | {"averaged": averaged(case)}
            for case in FOLLOWED
        }
        torch.save(found, folder / f"rank{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def followed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[Found]:
    """What each of several workers found."""
    folder = tmp_path_factory.mktemp("followed")
    spawn(follow, args=(folder, request.param), nprocs=request.param)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone() -> Found:
    """What one worker finds."""
    with torch.random.fork_rng(devices=[]):
        return {case: fit(case, evaluations=18) for case in FOLLOWED}


def work(rank: int, folder: Path) -> None:
    """One worker: each case unbroken, then interrupted after its second evaluation and resumed."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORKERS)
    try:
        found: Found = {}
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
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each of two workers found."""
    folder = tmp_path_factory.mktemp("workers")
    spawn(work, args=(folder,), nprocs=WORKERS)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES.keys() - RANDOM))
def test_two_workers_agree_with_one(two_workers: list[Found], case: str) -> None:
    alone = fit(case)
    shared = two_workers[0][case]["unbroken"]
    for mine, theirs in zip(alone["parameters"], shared["parameters"], strict=True):
        torch.testing.assert_close(theirs, mine, rtol=1e-4, atol=1e-5)
    assert len(shared["history"]) == 3
    for mine, theirs in zip(alone["history"], shared["history"], strict=True):
        assert theirs.keys() == mine.keys()
        # What is in the buffer depends on how a batch is shared out, too.
        for name in mine.keys() - {"time", "buffer", *DIAGNOSED_APART}:
            assert theirs[name] == pytest.approx(mine[name], rel=1e-3, abs=1e-6), name
    if case in (
        "balanced",
        "sequential",
    ):  # the gate was open in some steps and closed in others, at the same ones
        shares = [row["train/corrected"] for row in alone["history"]]
        assert any(0 < share < 1 for share in shares)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(FOLLOWED))
def test_every_step_agrees_with_one_worker(followed: list[Found], alone: Found, case: str) -> None:
    mine, theirs = alone[case], followed[0][case]
    assert mine["passed"].shape == (18, PARAMETERS)
    torch.testing.assert_close(theirs["passed"], mine["passed"], rtol=1e-4, atol=1e-5)
    for name in {
        "train/loss",
        "train/measure",
        "train/corrected",
        "train/multiplier",
        "train/penalty",
        "train/task_length",
    }:
        if name in mine["history"][0]:
            shared = [row[name] for row in theirs["history"]]
            assert shared == pytest.approx([row[name] for row in mine["history"]], rel=1e-3, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(FOLLOWED))
def test_workers_hold_the_same_bits_after_every_step(followed: list[Found], case: str) -> None:
    first, *others = (found[case] for found in followed)
    for other in others:
        assert torch.equal(first["passed"], other["passed"])
        for name in first["history"][0].keys() - {"time"}:
            assert [row[name] for row in first["history"]] == [row[name] for row in other["history"]], name


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(FOLLOWED))
def test_one_all_reduce_for_a_gradient_and_none_for_a_skipped_correction(
    followed: list[Found], case: str
) -> None:
    expected = {
        "erm": [PARAMETERS],
        # Sums of three or two statistics, of the examples and of the workers, of three environments each.
        "irm": [5 * 3, PARAMETERS],
        "vrex": [4 * 3, PARAMETERS],
        "additive": [MOMENTS, PARAMETERS],
        "lagrangian": [MOMENTS, PARAMETERS],
        "projected": [MOMENTS, PARAMETERS, PARAMETERS],
    }
    for found in followed:
        assert found[case]["averaged"] == followed[0][case]["averaged"]  # every worker takes the same branch
        for corrected, sizes in found[case]["averaged"]:
            if case.startswith("sequential"):
                assert sizes == [PARAMETERS, MOMENTS, *([CORRECTED] if corrected else [])]
            elif case.startswith("balanced"):
                assert sizes == [MOMENTS, PARAMETERS, *([PARAMETERS] if corrected else [])]
            else:
                assert sizes == expected[case.split(",")[0]]
    if case == "sequential, gate":
        assert {corrected for corrected, _ in followed[0][case]["averaged"]} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES))
def test_workers_hold_the_same_bits(two_workers: list[Found], case: str) -> None:
    first, second = (found[case]["unbroken"] for found in two_workers)
    assert all(torch.equal(p, q) for p, q in zip(first["parameters"], second["parameters"], strict=True))
    for mine, theirs in zip(first["history"], second["history"], strict=True):
        for name in mine.keys() - {"time"}:
            assert mine[name] == theirs[name], name


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(CASES))
def test_resumed_workers_end_in_the_same_bits(two_workers: list[Found], case: str) -> None:
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
def test_collective(two_workers: list[Found]) -> None:
    for rank, found in enumerate(two_workers):
        assert found["collective"] == {"rank": rank, "workers": 2, "sum": 3.0, "kept": 1.0 + rank}


def test_one_worker_is_the_case_in_which_nothing_happens() -> None:
    collective, value = Collective(), torch.tensor([2.0])
    assert (collective.rank, collective.workers) == (0, 1)
    assert collective.sum(value) is value
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    collective.average_gradients([parameter])
    assert parameter.grad.tolist() == [1.0, 2.0]
