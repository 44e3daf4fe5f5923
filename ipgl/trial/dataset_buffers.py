"""A data set in pieces that several processes can map instead of each having its own."""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ipgl.data import Dataset
from ipgl.data.pixel_file import PixelFile


class _Pickler(pickle.Pickler):
    """Puts the content of tensors beside the pickle; mapped files are shared as they are."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, PixelFile):
            raise pickle.PicklingError(f"{value.path} is mapped")
        if isinstance(value, torch.Tensor) and value.device.type == "cpu":
            return _tensor, (value.detach().numpy(),)
        return NotImplemented


def to_buffers(dataset: Dataset) -> list[NDArray[np.uint8]] | None:
    """The data set as bytes, its tensors' content apart from the rest and not copied.

    None if it cannot be pickled, as with a function of the user's that has no name, or if it maps a file, which all
    processes of a machine share anyway.
    """
    buffers: list[pickle.PickleBuffer] = []
    out = io.BytesIO()
    try:
        _Pickler(out, protocol=5, buffer_callback=buffers.append).dump(dataset)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return [np.frombuffer(part, dtype=np.uint8) for part in (out.getbuffer(), *(b.raw() for b in buffers))]


def from_buffers(parts: Sequence[NDArray[np.uint8]]) -> Dataset:
    """The data set again, its tensors where `parts` are: if those cannot be written, nor can they."""
    whole, *buffers = parts
    dataset: Dataset = pickle.loads(whole.tobytes(), buffers=buffers)
    return dataset


def _tensor(content: NDArray[Any]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it cannot be written is the point
        return torch.from_numpy(content)
