"""Checkpoints: everything that a run needs to continue with the same bits."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ipgl.core.atomic_files import write_atomically
from ipgl.core.errors import StudyStateError

RandomState: TypeAlias = dict[str, Any]  # of the CPU's generator, and of each GPU's


class DamagedCheckpointError(StudyStateError):
    """A checkpoint's bytes are not those that were written."""


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` steps.

    Attributes:
        step: Steps done; the data order is a function of seed and step, so this is the data position too.
        model: The model's state.
        method: The method's own state.
        optimisers: State of each optimiser of the method, by name.
        rng: Random state of the CPU and of each visible GPU.
        history: Evaluation rows so far.
        seconds: Wall time spent so far.
        config_hash: Hash of the trial's configuration; another configuration must not continue from here.
        trace: Rows of `TrainingOutcome.trace` so far.
    """

    step: int
    model: dict[str, Any]
    method: dict[str, Any]
    optimisers: dict[str, Any]
    rng: dict[str, Any]
    history: list[dict[str, float]]
    seconds: float
    config_hash: str
    trace: list[dict[str, float]] = field(default_factory=list)


def kept_checkpoints(path: Path, kept: int) -> list[Path]:
    """Where the last `kept` checkpoints of a run are, the newest first; some may not be there."""
    return [path, *(path.with_suffix(f".{age}{path.suffix}") for age in range(1, kept))]


def save_checkpoint(path: Path, checkpoint: Checkpoint, kept: int = 1) -> None:
    """Write atomically: a kill at any moment leaves the checkpoint before.

    Args:
        path: Where the newest checkpoint is.
        checkpoint: The state.
        kept: How many to keep, this one included.

    Raises:
        OSError: The storage does not take it; the checkpoint before is left.
    """
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    state = saved_bytes(content)
    places = kept_checkpoints(path, kept)
    for newer, older in reversed(list(pairwise(places))):
        if newer.exists():
            newer.replace(older)
    write_atomically(path, lambda file: file.write(state))


def saved_bytes(content: object) -> memoryview:
    """What `torch.save` makes of it; of a full disk `torch.save` itself says no more than that a write failed."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def load_checkpoint(path: Path, config_hash: str) -> Checkpoint | None:
    """Read a checkpoint; None if there is none.

    Raises:
        DamagedCheckpointError: The file is damaged.
        StudyStateError: The file belongs to another configuration.
        OSError: The storage cannot be read.
    """
    try:
        content = io.BytesIO(
            path.read_bytes()
        )  # of its own, since `torch.load` meets damage with OSError too
    except FileNotFoundError:
        return None
    try:
        checkpoint = Checkpoint(**torch.load(content, map_location="cpu", weights_only=True))
    except Exception as error:  # damaged bytes make the unpickler raise errors of many kinds
        raise DamagedCheckpointError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__}: {error}); "
            "remove it so that the run starts from its beginning"
        ) from None
    if checkpoint.config_hash != config_hash:
        raise StudyStateError(
            f"{path}: the checkpoint belongs to another configuration "
            f"({checkpoint.config_hash[:10]}, but this run is {config_hash[:10]}); remove it or use another folder"
        )
    return checkpoint


def random_state() -> RandomState:
    """The state of torch's generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: RandomState) -> None:
    """Take back what `random_state` gave; GPUs beyond those visible now are left out."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        for number, value in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(value, number)
