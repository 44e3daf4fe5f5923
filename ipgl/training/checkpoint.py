"""A run's state on disk: all that is needed to go on as if nothing had happened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ipgl.errors import StudyStateError
from ipgl.files import write_atomically


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` steps.

    Attributes:
        step: Steps done; the data order is a function of seed and step, so this is the data position too.
        model: The model's state.
        method: The method's own state.
        optimisers: State of each optimiser that the method is lent, by name.
        rng: Random state of the CPU and of each visible GPU.
        history: Evaluation rows so far.
        seconds: Wall time spent so far.
        config_hash: Hash of the trial's configuration; another configuration must not continue from here.
    """

    step: int
    model: dict[str, Any]
    method: dict[str, Any]
    optimisers: dict[str, Any]
    rng: dict[str, Any]
    history: list[dict[str, float]]
    seconds: float
    config_hash: str


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically: a kill while writing leaves the checkpoint before."""
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    write_atomically(path, lambda file: torch.save(content, file))


def load_checkpoint(path: Path, config_hash: str) -> Checkpoint | None:
    """Read a checkpoint; None if there is none.

    Raises:
        StudyStateError: The file is damaged, or belongs to another configuration.
    """
    if not path.exists():
        return None
    try:
        checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # damaged bytes make the unpickler raise errors of many kinds
        raise StudyStateError(
            f"{path}: the checkpoint cannot be read ({type(error).__name__}: {error}); "
            "remove it so that the run starts from its beginning"
        ) from None
    if checkpoint.config_hash != config_hash:
        raise StudyStateError(
            f"{path}: the checkpoint belongs to another configuration "
            f"({checkpoint.config_hash[:10]}, but this run is {config_hash[:10]}); remove it or use another folder"
        )
    return checkpoint


def random_state() -> dict[str, Any]:
    """The state of torch's generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_random_state(state: dict[str, Any]) -> None:
    """Take back what `random_state` gave; GPUs beyond those visible now are left out."""
    torch.set_rng_state(state["cpu"])
    if torch.cuda.is_available():
        for number, value in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(value, number)
