"""Choice of the device for a trial and its data, and mixed precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from ipgl.config import TrainingSettings
from ipgl.core.errors import ResourceError
from ipgl.data import Dataset


def choose_device(settings: TrainingSettings) -> torch.device:
    """The study file's device; `auto` takes a GPU where this process sees one.

    Raises:
        ResourceError: A GPU is asked for and this process sees none.
    """
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise ResourceError(
            "training.device is cuda, but this process sees no GPU; set resources.use_gpu: true so that "
            "trials are given one, or training.device: auto"
        )
    return torch.device("cuda" if available and settings.device != "cpu" else "cpu")


def place(dataset: Dataset, device: torch.device) -> Dataset:
    """Move the data to a GPU if it takes at most half of the free memory; else it stays, and batches move.

    Images stay on disk: their bytes move batch by batch, and become inputs on the GPU.
    """
    if device.type != "cuda":
        return dataset
    if dataset.has_images:
        return dataset.inputs_on(device)
    tensors = [t for part in vars(dataset).values() if hasattr(part, "__dict__") for t in vars(part).values()]
    size = sum(t.nbytes for t in tensors if isinstance(t, torch.Tensor))
    free, _ = torch.cuda.mem_get_info(device)
    return dataset.to(device) if size <= free / 2 else dataset


def autocast(settings: TrainingSettings, device: torch.device) -> AbstractContextManager[object]:
    """Automatic mixed precision if the study file asks for it."""
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
