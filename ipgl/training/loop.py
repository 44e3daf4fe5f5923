"""The training loop: plain PyTorch, one method, data by index, resumable at every checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from ipgl.config import TrainingSettings
from ipgl.data import Batch, Dataset, PairBatch, ShuffledOrder, derive_seed
from ipgl.methods import Method, MethodContext, StepReport
from ipgl.models import Classifier
from ipgl.training.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    kept_checkpoints,
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from ipgl.training.collective import Collective
from ipgl.training.device import autocast
from ipgl.training.optimisers import RunOptimisers
from ipgl.training.reporter import Reporter
from ipgl.training.step_batches import StepBatches

TRACE_ROWS = 200  # of a run: enough to see what happens in it, and small beside its predictions

Evaluate = Callable[[Classifier], dict[str, float]]
_T = TypeVar("_T", Batch, PairBatch)
Trainer: TypeAlias = Callable[..., "TrainingOutcome"]  # `train`, or what takes its place


class NonFiniteError(ArithmeticError):
    """Training left the finite numbers; `step` (1-based) is the first step that shows it."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


@dataclass(frozen=True)
class TrainingOutcome:
    """What a finished training run hands over.

    Attributes:
        history: One row per evaluation: `evaluation` (from 1), `step`, `epoch`, `time` (seconds since the
            epoch), `train/...` means since the row before, and what the evaluation gave.
        trace: Means of what the method's steps reported, over at most some `TRACE_ROWS` equal spans of the run; each
            row holds `step` (the span's last), `epoch` and the names as the method reports them.
        steps: Steps done in all.
        seconds: Wall time over all attempts, evaluations included.
        notes: What went wrong on the way without harm to the result, a sentence each.
    """

    history: list[dict[str, float]]
    trace: list[dict[str, float]]
    steps: int
    seconds: float
    notes: tuple[str, ...] = ()


def evaluation_steps(total: int, evaluations: int) -> list[int]:
    """Numbers of steps after which to evaluate: evenly spaced, distinct, ending with `total`."""
    return sorted({max(1, round(total * (i + 1) / evaluations)) for i in range(evaluations)})


class TrainingRun:
    """One model on its way: where it stands, and what is done between two evaluations and at each.

    `train` drives one alone, and `ipgl.training.stack` several together.
    """

    def __init__(
        self,
        model: Classifier,
        build_method: Callable[[MethodContext], Method],
        dataset: Dataset,
        settings: TrainingSettings,
        *,
        seed: int,
        evaluate: Evaluate,
        reporter: Reporter,
        checkpoint_path: Path | None = None,
        config_hash: str = "",
        on_resume: Callable[[list[dict[str, float]]], None] | None = None,
    ) -> None:
        """Take up a run where its checkpoint left it, or at its beginning; arguments as for `train`."""
        self.model, self.dataset, self.settings, self.seed = model, dataset, settings, seed
        self._evaluate, self._reporter = evaluate, reporter
        self._checkpoint_path, self._config_hash = checkpoint_path, config_hash
        self._collective = Collective()
        self.device = next(model.parameters()).device
        data_device = dataset.train.y.device
        self._moves = data_device != self.device
        place = (data_device, self._collective.rank, self._collective.workers)
        self._steps_per_pass = ShuffledOrder(
            len(dataset.train), settings.batch_size, 0, *place
        ).steps_per_pass
        self.total = settings.epochs * self._steps_per_pass
        # What a method draws when it is built is alike on all workers.
        torch.manual_seed(derive_seed(seed, "training", 0))
        self.optimisers = RunOptimisers(model, dataset, settings, self.total, self._collective)
        self.method = build_method(self.optimisers.context)
        if self.method.restarts:
            self.optimisers.remember_initial_weights()
        order = _training_order(dataset, self.method, settings.batch_size, derive_seed(seed, "order"), place)
        pair_order = (
            ShuffledOrder(len(dataset.pairs), self.method.pairs_per_step, derive_seed(seed, "pairs"), *place)
            if self.method.pairs_per_step
            else None
        )
        self.batches = StepBatches(dataset, order, pair_order, seed, self._collective)
        self._marks = evaluation_steps(self.total, settings.evaluations)

        self._seen: tuple[Batch, PairBatch | None] | None = None
        self.done, self._history, self._seconds = 0, [], 0.0
        self._trace: list[dict[str, float]] = []
        self._restarted = self._unsaved = ""
        saved = self._saved()
        if saved:
            model.load_state_dict(saved.model)
            self.method.load_state_dict(saved.method)
            self.optimisers.load_state_dict(saved.optimisers)
            restore_random_state(saved.rng)
            self.done, self._history, self._seconds = saved.step, list(saved.history), saved.seconds
            self._trace = list(saved.trace)
            if on_resume is not None:
                on_resume(list(self._history))
        _draw_apart(self._collective, seed, self.done)
        self._started = self._saved_at = time.monotonic()
        model.train()

    def _saved(self) -> Checkpoint | None:
        """The newest checkpoint that is whole."""
        path, kept = self._checkpoint_path, self.settings.checkpoints_kept
        for place in kept_checkpoints(path, kept) if path else ():
            try:
                saved = load_checkpoint(place, self._config_hash)
            except DamagedCheckpointError:
                self._restarted = "the checkpoint was damaged, so training started again from its beginning"
                continue
            if saved:
                if self._restarted:
                    self._restarted = (
                        f"the last checkpoint was damaged, so training went on from step {saved.step}"
                    )
                return saved
        return None

    @property
    def steps_left(self) -> int:
        """Steps to the next evaluation; 0 at the end of the run."""
        return next((mark for mark in self._marks if mark > self.done), self.done) - self.done

    def batch(self, step: int) -> tuple[Batch, PairBatch | None]:
        """What step `step` (0-based) sees, on the model's device."""
        batch, pairs = self.batches(step)
        if self._moves:
            batch, pairs = _move(batch, self.device), pairs and _move(pairs, self.device)
        return batch, pairs

    def train_segment(self) -> dict[str, Tensor]:
        """Train to the next evaluation; what each step reported, `[steps]` by name."""
        reports: list[StepReport] = []
        for step in range(self.done, self.done + self.steps_left):
            self.optimisers.schedule(step)
            batch, pairs = self.batch(step)
            with autocast(self.settings, self.device):
                reports.append(self.method.step(self.model, batch, pairs))
        self.done += len(reports)
        self._seen = (batch, pairs)
        return columns(reports)

    def close_segment(self, reported: dict[str, Tensor]) -> None:
        """Evaluate, keep a checkpoint if it is time, report.

        Raises:
            NonFiniteError: The loss or a parameter is NaN or infinite.
        """
        model, method = self.model, self.method
        row = {
            "evaluation": float(len(self._history) + 1),
            "step": float(self.done),
            "epoch": self.done / self._steps_per_pass,
            "time": time.time(),
        }
        means, rows = _training_means(
            model, reported, self.done, self._collective, TRACE_ROWS // len(self._marks)
        )
        row |= means
        self._trace += [one | {"epoch": one["step"] / self._steps_per_pass} for one in rows]
        model.eval()
        diagnosis = method.diagnose(model, *(self._seen or self.batch(self.done - 1)))
        row |= {f"diagnostic/{name}": value for name, value in _averaged(diagnosis, self._collective)}
        self._collective.share_buffers(model.buffers())
        row |= self._evaluate(model)
        model.train()
        self._history.append(row)
        now = time.monotonic()
        if (
            self._checkpoint_path
            and self._collective.rank == 0
            and now - self._saved_at >= self.settings.checkpoint_seconds
        ):
            self._save(self._checkpoint_path, now)
        _draw_apart(self._collective, self.seed, self.done)
        self._reporter.report(row)

    def _save(self, path: Path, now: float) -> None:
        checkpoint = Checkpoint(
            step=self.done,
            model=self.model.state_dict(),
            method=self.method.state_dict(),
            optimisers=self.optimisers.state_dict(),
            rng=random_state(),
            history=self._history,
            seconds=self._seconds + now - self._started,
            config_hash=self._config_hash,
            trace=self._trace,
        )
        try:
            save_checkpoint(path, checkpoint, self.settings.checkpoints_kept)
            self._saved_at = time.monotonic()
        except OSError as error:  # the one before stands, and training has lost nothing yet
            reason = error.strerror or error
            self._unsaved = f"the checkpoint after step {self.done} could not be written ({reason})"

    def outcome(self) -> TrainingOutcome:
        """What the finished run hands over; its model is in evaluation mode afterwards."""
        self.model.eval()
        notes = tuple(note for note in (self._restarted, self._unsaved) if note)
        seconds = self._seconds + time.monotonic() - self._started
        return TrainingOutcome(self._history, self._trace, self.total, seconds, notes)


def train(
    model: Classifier,
    build_method: Callable[[MethodContext], Method],
    dataset: Dataset,
    settings: TrainingSettings,
    *,
    seed: int,
    evaluate: Evaluate,
    reporter: Reporter,
    checkpoint_path: Path | None = None,
    config_hash: str = "",
    on_resume: Callable[[list[dict[str, float]]], None] | None = None,
) -> TrainingOutcome:
    """Train `model` in place, from its checkpoint if there is one.

    On the CPU with an equal number of threads, a run resumed from any checkpoint ends in the same bits as an
    unbroken one. A damaged checkpoint counts as none, and one that the storage does not take is left out (the
    next evaluation tries again); the outcome's notes say so.

    Args:
        model: On the device on which to train.
        build_method: Makes the method from its context.
        dataset: On the model's device, or on the CPU if it does not fit there; as `place` leaves it.
        settings: Optimiser, schedule, intervals, precision.
        seed: Seeds data order and the method's randomness.
        evaluate: Called on the model in evaluation mode; its metrics join the row.
        reporter: Receives each row; what it raises ends the run.
        checkpoint_path: Where the state is kept; None keeps none.
        config_hash: Guards against a checkpoint of another configuration.
        on_resume: Given the rows up to the checkpoint that the run goes on from. The last of them may be new to the
            caller: a kill after the checkpoint came before its report.

    Raises:
        NonFiniteError: The loss or a parameter is NaN or infinite.
    """
    run = TrainingRun(
        model,
        build_method,
        dataset,
        settings,
        seed=seed,
        evaluate=evaluate,
        reporter=reporter,
        checkpoint_path=checkpoint_path,
        config_hash=config_hash,
        on_resume=on_resume,
    )
    while run.steps_left:
        run.close_segment(run.train_segment())
    return run.outcome()


def columns(reports: Sequence[StepReport]) -> dict[str, Tensor]:
    """What steps reported, one after the other: `[steps]` by name, or `[steps, M]` of a stack.

    Where only every so many-th step is corrected, the others have less to say, and some columns are shorter.
    """
    names = dict.fromkeys(name for r in reports for name in r.scalars)
    return {
        name: torch.stack([r.scalars[name].float() for r in reports if name in r.scalars]) for name in names
    }


def _draw_apart(collective: Collective, seed: int, step: int) -> None:
    """Give each worker but the first random numbers of its own, from a state that a resumed run finds again."""
    if collective.rank:  # the first worker's state is the one that checkpoints keep
        torch.manual_seed(derive_seed(seed, "training", collective.rank, step))


def _training_order(
    dataset: Dataset, method: Method, batch_size: int, seed: int, place: tuple[torch.device, int, int]
) -> ShuffledOrder:
    """Which training examples each step sees: all, or as many draws from those that the method wants."""
    if method.train_index is None:
        return ShuffledOrder(len(dataset.train), batch_size, seed, *place, weights=method.sampling_weights)
    # A full pass keeps its number of steps, so that all methods of a study do equally many.
    index = method.train_index
    weights = torch.zeros(len(dataset.train), dtype=torch.float64)
    weights[index.cpu()] = 1.0
    return ShuffledOrder(len(dataset.train), batch_size, seed, *place, weights=weights)


def _training_means(
    model: Classifier, reported: dict[str, Tensor], step: int, collective: Collective, spans: int
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Means of the steps since the last evaluation, and of at most so many spans of them as rows of the trace.

    This is the one place where the host waits for the device.
    """
    flat = collective.sum(torch.cat(list(reported.values()))) / collective.workers
    found = torch.split(flat, [len(column) for column in reported.values()])
    by_name = dict(zip(reported, found, strict=True))
    losses = by_name["loss"]
    if not losses.isfinite().all():
        bad = int((~losses.isfinite()).nonzero()[0])
        first = step - len(losses) + 1 + bad
        raise NonFiniteError(
            f"the training loss must stay finite, but it is {losses[bad].item()} at step {first}; "
            "lower the learning rate or the correction strength, or set training.clip_norm",
            first,
        )
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise NonFiniteError(
            f"parameters must stay finite, but some are not after step {step}; "
            "lower the learning rate or the correction strength, or set training.clip_norm",
            step,
        )
    steps = len(losses)
    ends = evaluation_steps(steps, max(1, spans))
    # A column that only some steps have is cut as if they were evenly spread, which is how they come.
    cuts = {name: [round(end * len(column) / steps) for end in ends] for name, column in by_name.items()}
    parts = [column[a:b].mean() for name, column in by_name.items() for a, b in pairwise([0, *cuts[name]])]
    values = torch.stack([column.mean() for column in found] + parts).tolist()
    means = {f"train/{name}": value for name, value in zip(by_name, values, strict=False)}
    of_spans = iter(values[len(found) :])
    rows = [{"step": float(step - steps + end)} for end in ends]
    for name in by_name:
        for row, value in zip(rows, of_spans, strict=False):
            if not math.isnan(value):  # of no steps
                row[name] = value
    return means, rows


def _averaged(values: dict[str, Tensor], collective: Collective) -> Iterator[tuple[str, float]]:
    """0-dim tensors as numbers, averaged over workers; the host waits for the device once."""
    if values:
        together = collective.sum(torch.stack([value.float() for value in values.values()]))
        yield from zip(values, (together / collective.workers).tolist(), strict=True)


def _move(part: _T, device: torch.device) -> _T:
    moved = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(part).items()
        if value is not None and name != "boxes"  # those are read on the host
    }
    return replace(part, **moved)
