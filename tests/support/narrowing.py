"""What a test knows of a value that its declared type leaves open."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ipgl.data import Images

Keywords = dict[str, Any]  # arguments of a call, each of the type that its parameter has
_T = TypeVar("_T")
_Layer = TypeVar("_Layer", bound=nn.Module)


def known(value: _T | None) -> _T:
    assert value is not None
    return value


def of_kind(value: object, kind: type[_T]) -> _T:
    assert isinstance(value, kind), f"{value!r} is no {kind.__name__}"
    return value


def as_tensor(value: object) -> Tensor:
    return of_kind(value, Tensor)


def as_images(value: object) -> Images:
    return of_kind(value, Images)


def as_rows(value: object) -> NDArray[np.int64]:
    """Positions, where a pair source says which rows it took rather than what it made."""
    return of_kind(value, np.ndarray).astype(np.int64)


def layer_of(model: nn.Module, name: str, kind: type[_Layer]) -> _Layer:
    return of_kind(model.get_submodule(name), kind)


def total(tensors: Iterable[Tensor]) -> Tensor:
    """The sum of at least one tensor."""
    return as_tensor(sum(tensors))
