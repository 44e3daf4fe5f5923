"""The training loop, its optimisers, checkpoints, and the training of several models as one."""

from ipgl.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ipgl.training.collective import Collective
from ipgl.training.device import choose_device, place
from ipgl.training.lockstep import Pack, PackFailedError
from ipgl.training.loop import NonFiniteError, Trainer, TrainingOutcome, evaluation_steps, train
from ipgl.training.reporter import Reporter, SilentReporter
from ipgl.training.system_metrics import system_metrics

__all__ = [
    "Checkpoint",
    "Collective",
    "NonFiniteError",
    "Pack",
    "PackFailedError",
    "Reporter",
    "SilentReporter",
    "Trainer",
    "TrainingOutcome",
    "choose_device",
    "evaluation_steps",
    "load_checkpoint",
    "place",
    "save_checkpoint",
    "system_metrics",
    "train",
]
