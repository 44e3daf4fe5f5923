"""The training loop: plain PyTorch, one method, data by index, resumable at every checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from ipgl.config import TrainingSettings
from ipgl.data import Batch, Dataset, PairBatch, ShuffledOrder, derive_seed
from ipgl.methods import Method, StepReport, Toolbox
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
from ipgl.training.feed import Feed
from ipgl.training.reporter import Reporter
from ipgl.training.workshop import Workshop

Evaluate = Callable[[Classifier], dict[str, float]]
_T = TypeVar("_T", Batch, PairBatch)


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
        steps: Steps done in all.
        seconds: Wall time over all attempts, evaluations included.
        notes: What went wrong on the way without harm to the result, a sentence each.
    """

    history: list[dict[str, float]]
    steps: int
    seconds: float
    notes: tuple[str, ...] = ()


def evaluation_steps(total: int, evaluations: int) -> list[int]:
    """Numbers of steps after which to evaluate: evenly spaced, distinct, ending with `total`."""
    return sorted({max(1, round(total * (i + 1) / evaluations)) for i in range(evaluations)})


def train(
    model: Classifier,
    build_method: Callable[[Toolbox], Method],
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
        build_method: Makes the method from what it is lent.
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
    collective = Collective()
    device = next(model.parameters()).device
    data_device = dataset.train.y.device
    place = (data_device, collective.rank, collective.workers)
    steps_per_pass = ShuffledOrder(len(dataset.train), settings.batch_size, 0, *place).steps_per_pass
    total = settings.epochs * steps_per_pass
    # What a method draws when it is built is alike on all workers.
    torch.manual_seed(derive_seed(seed, "training", 0))
    workshop = Workshop(model, dataset, settings, total, collective)
    method = build_method(workshop.toolbox)
    if method.restarts:
        workshop.remember_initial_weights()
    order = _training_order(dataset, method, settings.batch_size, derive_seed(seed, "order"), place)
    pair_order = (
        ShuffledOrder(len(dataset.pairs), method.pairs_per_step, derive_seed(seed, "pairs"), *place)
        if method.pairs_per_step
        else None
    )
    feed = Feed(dataset, order, pair_order, seed, collective)
    marks = set(evaluation_steps(total, settings.evaluations))

    done, history, seconds = 0, [], 0.0
    saved, restarted, unsaved = None, "", ""
    for kept in kept_checkpoints(checkpoint_path, settings.checkpoints_kept) if checkpoint_path else ():
        try:
            saved = load_checkpoint(kept, config_hash)
        except DamagedCheckpointError:
            restarted = "the checkpoint was damaged, so training started again from its beginning"
            continue
        if saved:
            restarted = (
                restarted and f"the last checkpoint was damaged, so training went on from step {saved.step}"
            )
            break
    if saved:
        model.load_state_dict(saved.model)
        method.load_state_dict(saved.method)
        workshop.load_state_dict(saved.optimisers)
        restore_random_state(saved.rng)
        done, history, seconds = saved.step, list(saved.history), saved.seconds
        if on_resume is not None:
            on_resume(list(history))

    _draw_apart(collective, seed, done)
    started = saved_at = time.monotonic()
    reports: list[StepReport] = []
    model.train()
    for step in range(done, total):
        workshop.schedule(step)
        batch, pairs = feed(step)
        if data_device != device:
            batch, pairs = _move(batch, device), pairs and _move(pairs, device)
        with autocast(settings, device):
            reports.append(method.step(model, batch, pairs))

        if step + 1 in marks:
            row = {
                "evaluation": float(len(history) + 1),
                "step": float(step + 1),
                "epoch": (step + 1) / steps_per_pass,
                "time": time.time(),
            }
            row |= _training_means(model, reports, step + 1, collective)
            reports.clear()
            model.eval()
            diagnosis = method.diagnose(model, batch, pairs)
            row |= {f"diagnostic/{name}": float(value) for name, value in diagnosis.items()}
            collective.share_buffers(model.buffers())
            row |= evaluate(model)
            model.train()
            history.append(row)
            now = time.monotonic()
            if checkpoint_path and collective.rank == 0 and now - saved_at >= settings.checkpoint_seconds:
                checkpoint = Checkpoint(
                    step=step + 1,
                    model=model.state_dict(),
                    method=method.state_dict(),
                    optimisers=workshop.state_dict(),
                    rng=random_state(),
                    history=history,
                    seconds=seconds + now - started,
                    config_hash=config_hash,
                )
                try:
                    save_checkpoint(checkpoint_path, checkpoint, settings.checkpoints_kept)
                    saved_at = time.monotonic()
                except OSError as error:  # the one before stands, and training has lost nothing yet
                    unsaved = f"the checkpoint after step {step + 1} could not be written ({error.strerror or error})"
            _draw_apart(collective, seed, step + 1)
            reporter.report(row)
    model.eval()
    notes = tuple(note for note in (restarted, unsaved) if note)
    return TrainingOutcome(history, total, seconds + time.monotonic() - started, notes)


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
    model: Classifier, reports: list[StepReport], step: int, collective: Collective
) -> dict[str, float]:
    """Means of the steps since the last evaluation; the one place where the host waits for the device."""
    # A step reports what it saw: where only every so many-th step is corrected, the others have less to say.
    names = list(dict.fromkeys(name for r in reports for name in r.scalars))
    columns = [torch.stack([r.scalars[name].float() for r in reports if name in r.scalars]) for name in names]
    flat = collective.sum(torch.cat(columns)) / collective.workers
    columns = list(torch.split(flat, [len(column) for column in columns]))
    losses = columns[names.index("loss")]
    if not losses.isfinite().all():
        bad = int((~losses.isfinite()).nonzero()[0])
        first = step - len(reports) + 1 + bad
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
    means = torch.stack([column.mean() for column in columns]).tolist()
    return {f"train/{name}": value for name, value in zip(names, means, strict=True)}


def _move(part: _T, device: torch.device) -> _T:
    moved = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(part).items()
        if value is not None and name != "boxes"  # those are read on the host
    }
    return replace(part, **moved)
