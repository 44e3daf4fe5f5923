"""Serialisation of data sets into buffers that several processes can map into their memory without copies."""

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
    """Pickles the content of tensors out of band, and refuses memory-mapped files."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, PixelFile):
            raise pickle.PicklingError(f"{value.path} is mapped")
        if isinstance(value, torch.Tensor) and value.device.type == "cpu":
            return _tensor, (value.detach().numpy(),)
        return NotImplemented


def to_buffers(dataset: Dataset) -> list[NDArray[np.uint8]] | None:
    """Serialise a data set.

    Returns:
        Byte arrays, uint8 `[bytes]`: first the pickle, then the content of each tensor, which is not copied. None if
        the data set cannot be pickled (as with a lambda of the user's), or if it maps a file, which the processes of
        a machine share already.
    """
    buffers: list[pickle.PickleBuffer] = []
    out = io.BytesIO()
    try:
        _Pickler(out, protocol=5, buffer_callback=buffers.append).dump(dataset)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    return [np.frombuffer(part, dtype=np.uint8) for part in (out.getbuffer(), *(b.raw() for b in buffers))]


def from_buffers(parts: Sequence[NDArray[np.uint8]]) -> Dataset:
    """Restore a data set from `to_buffers`; its tensors use the memory of `parts`, and are read-only if that is."""
    whole, *buffers = parts
    dataset: Dataset = pickle.loads(whole.tobytes(), buffers=buffers)
    return dataset


def _tensor(content: NDArray[np.generic]) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of read-only memory
        return torch.from_numpy(content)
