"""Runs in threads that train together, each as if it were alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import torch

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.data import Dataset
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.methods import METHODS
from ipgl.models import MODELS, Classifier
from ipgl.training import Pack, PackFailedError, TrainingOutcome, train
from ipgl.training import lockstep as pack
from ipgl.training.checkpoint import RandomState
from ipgl.training.loop import TrainingRun
from ipgl.training.stack import train_together

JOIN_SECONDS = 60


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_colored_mnist(ColoredMnistSettings(source="digits", pairs={"train": 60, "held_out": 20}))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


class Rows:
    """A reporter that keeps its rows, and may take its time."""

    def __init__(self, wait: Callable[[int], None] = lambda number: None) -> None:
        self.rows: list[dict[str, float]] = []
        self._wait = wait

    def report(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        self._wait(len(self.rows))


def fit(
    dataset: Dataset, number: int, trainer: Callable[..., TrainingOutcome], reporter: Rows, **more: Any
) -> Classifier:
    """Trial `number`: its own seed, rate and strength; a shift of the pairs draws random numbers in every step."""
    torch.manual_seed(number)
    network, entry = MODELS["mlp"], METHODS["ipg"]
    model = network.build(
        network.settings.model_validate({"width": 8}), dataset.input_shape, dataset.num_classes
    )
    settings = entry.settings.model_validate(
        {"update": "additive", "strength": 1.0 + number, "pairs_per_step": 16, "augment": {"shift_pixels": 1}}
    )
    rate = OptimiserSettings(lr=1e-3 * (1 + number))
    training = TrainingSettings(epochs=4, batch_size=64, evaluations=4, optimiser=rate, device="cpu")
    trainer(
        model,
        lambda context: entry.build(settings, context),
        dataset,
        training,
        seed=number,
        evaluate=lambda model: {"drawn": torch.rand(()).item()},  # leaves its mark in the random state
        reporter=reporter,
        **more,
    )
    return model


class Members:
    """Threads that each run a function as members of one pack; what they raised is kept."""

    def __init__(self, together: Pack) -> None:
        self._pack = together
        self._threads: list[threading.Thread] = []
        self.results: dict[int, Any] = {}
        self.errors: dict[int, BaseException] = {}

    def begin(self, number: int, work: Callable[[], object], late: float = 0.0) -> None:
        membership = self._pack.membership()

        def run() -> None:
            try:
                time.sleep(late)
                with membership:
                    self.results[number] = work()
            except BaseException as error:
                self.errors[number] = error

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive(), "a member waits for ever"


def assert_as_alone(dataset: Dataset, number: int, model: Classifier, rows: list[dict[str, float]]) -> None:
    alone = Rows()
    expected = fit(dataset, number, train, alone)
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-2, atol=1e-3)
    assert [row["drawn"] for row in rows] == [row["drawn"] for row in alone.rows]
    assert [row["step"] for row in rows] == [row["step"] for row in alone.rows]
    for row, other in zip(rows, alone.rows, strict=True):
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=1e-3)


def test_members_end_as_they_do_alone(dataset: Dataset) -> None:
    together = Pack(patience_seconds=10)
    members, reporters = Members(together), [Rows() for _ in range(4)]
    for number, reporter in enumerate(reporters):
        members.begin(number, partial(fit, dataset, number, together.train, reporter))
    members.join()
    assert members.errors == {}
    assert together.largest == 4
    for number, reporter in enumerate(reporters):
        assert_as_alone(dataset, number, members.results[number], reporter.rows)


def test_one_that_fails_or_leaves_takes_nobody_along_and_another_joins(dataset: Dataset) -> None:
    together = Pack(patience_seconds=10)
    members, reporters = Members(together), [Rows() for _ in range(4)]

    class LeftError(BaseException):
        pass

    def fails(number: int) -> None:
        if number == 2:
            members.begin(3, lambda: fit(dataset, 3, together.train, reporters[3]))
            raise ValueError("as a trial's reporter does")

    def leaves() -> None:
        if len(reporters[1].rows) == 2:
            raise LeftError

    reporters[0] = Rows(fails)
    members.begin(0, lambda: fit(dataset, 0, together.train, reporters[0]))
    members.begin(1, lambda: fit(dataset, 1, together.train, reporters[1], ready=leaves))
    members.begin(2, lambda: fit(dataset, 2, together.train, reporters[2]))
    while len(members._threads) < 4:
        time.sleep(0.01)
    members.join()
    assert (type(members.errors[0]), type(members.errors[1])) == (ValueError, LeftError)
    assert members.errors.keys() == {0, 1}
    for number in (2, 3):
        assert_as_alone(dataset, number, members.results[number], reporters[number].rows)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each stack that is trained has, one that a lone run would make included."""
    found: list[int] = []

    def counted(runs: Sequence[TrainingRun], random: list[RandomState]) -> list[dict[str, torch.Tensor]]:
        found.append(len(runs))
        return train_together(runs, random)

    def alone(self: Pack, ticket: pack._Ticket) -> None:
        found.append(1)
        train_alone(self, ticket)

    train_alone = Pack._train_alone
    monkeypatch.setattr(pack, "train_together", counted)
    monkeypatch.setattr(Pack, "_train_alone", alone)
    return found


def test_those_who_begin_together_stay_together(dataset: Dataset, sizes: list[int]) -> None:
    """However slowly their threads start, and whatever they do between two evaluations."""
    together = Pack(patience_seconds=0.0)
    members = Members(together)

    def slow(number: int) -> Callable[[int], None]:
        return lambda row: time.sleep(0.05 * number)

    for number in range(3):
        members.begin(
            number,
            partial(fit, dataset, number, together.train, Rows(slow(number))),
            late=0.2 * number,
        )
    members.join()
    assert members.errors == {}
    assert sizes == [3, 3, 3, 3]


@pytest.mark.parametrize("filled", [True, False])
def test_the_place_of_one_that_ended_is_kept_until_it_is_known_who_takes_it(
    dataset: Dataset, sizes: list[int], filled: bool
) -> None:
    together = Pack(patience_seconds=2.0)
    members, ended = Members(together), threading.Event()

    def ends(row: int) -> None:
        if row == 2:
            together.vacate()
            ended.set()
            raise ValueError("as a trial's reporter does")

    members.begin(0, lambda: fit(dataset, 0, together.train, Rows(ends)))
    members.begin(1, lambda: fit(dataset, 1, together.train, Rows()))
    assert ended.wait(JOIN_SECONDS)
    time.sleep(0.2)
    assert sizes == [2, 2]
    if filled:
        members.begin(2, lambda: fit(dataset, 2, together.train, Rows()))
    together.close_places(1)
    members.join()
    assert sizes == [2, 2, *([2, 2, 1, 1] if filled else [1, 1])]


def test_one_that_waits_holds_nobody_up(dataset: Dataset) -> None:
    """A member that steps aside lets the others work; they go on without it once their patience ends."""
    together = Pack(patience_seconds=0.05)
    members, reporters, go_on = Members(together), [Rows() for _ in range(3)], threading.Event()

    def wait() -> None:
        go_on.wait(JOIN_SECONDS)

    def waits() -> None:
        if len(reporters[0].rows) == 1:
            together.step_aside(wait)

    members.begin(0, lambda: fit(dataset, 0, together.train, reporters[0], ready=waits))
    for number in (1, 2):
        members.begin(number, partial(fit, dataset, number, together.train, reporters[number]))
    deadline = time.monotonic() + JOIN_SECONDS
    while not members.results.keys() >= {1, 2}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert 0 not in members.results
    go_on.set()
    members.join()
    for number, reporter in enumerate(reporters):
        assert_as_alone(dataset, number, members.results[number], reporter.rows)


def test_where_training_together_fails_everybody_is_told(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(runs: Sequence[TrainingRun], random: list[RandomState]) -> list[dict[str, torch.Tensor]]:
        if len(runs) == 2 and runs[0].done:
            raise RuntimeError("out of memory")
        return train_together(runs, random)

    monkeypatch.setattr(pack, "train_together", broken)
    together = Pack(patience_seconds=10)
    members = Members(together)
    for number in range(2):
        members.begin(number, partial(fit, dataset, number, together.train, Rows()))
    members.join()
    assert [type(members.errors[number]) for number in range(2)] == [PackFailedError] * 2
    assert not isinstance(members.errors[0], Exception)  # so that no handler takes it for the trial's failure


def test_kinds_that_do_not_fit_together_take_turns(dataset: Dataset) -> None:
    together = Pack(patience_seconds=10)
    members = Members(together)

    def erm(batch_size: int) -> TrainingOutcome:
        network, entry = MODELS["mlp"], METHODS["erm"]
        model = network.build(
            network.settings.model_validate({"width": 8}), dataset.input_shape, dataset.num_classes
        )
        settings = TrainingSettings(epochs=2, batch_size=batch_size, evaluations=2, device="cpu")
        return together.train(
            model,
            lambda context: entry.build(entry.settings(), context),
            dataset,
            settings,
            seed=0,
            evaluate=lambda model: {},
            reporter=Rows(),
        )

    for number, size in enumerate((32, 50, 100)):
        members.begin(number, partial(erm, size))
    members.join()
    assert members.errors == {}
    assert together.largest == 1
    assert [len(members.results[number].history) for number in range(3)] == [2, 2, 2]
