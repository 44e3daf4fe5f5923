"""Pair source `function`: a user's Python function makes the second member from the first."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ipgl.core.errors import DataError
from ipgl.data.batch_order import derive_seed
from ipgl.data.images import FileImage
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources.candidates import Candidates
from ipgl.data.pair_sources.settings import ImagePairSettings
from ipgl.data.table import TRAIN


@dataclass(frozen=True)
class PairContext:
    """Second argument of a pair function: information on its image.

    Attributes:
        path: The image's file.
        label: Its class.
        attribute: Its spurious attribute.
        columns: The table's other columns, as text.
        rng: Random generator for the function; the same in every run.
    """

    path: Path
    label: int
    attribute: int
    columns: Mapping[str, str]
    rng: np.random.Generator


PairFunction = Callable[[Image.Image, PairContext], Image.Image]


@dataclass(frozen=True)
class TransformedImage:
    """An image that a user's function transforms when it is read."""

    base: FileImage
    function: PairFunction
    code: str
    label: int
    attribute: int
    columns: Mapping[str, str]
    seed: int

    @property
    def key(self) -> str:
        """The base image's key, the seed, and the content of the function's module."""
        return f"function:{self.code}:{self.seed}:{self.base.key}"

    @property
    def where(self) -> str:
        """The base image's place."""
        return self.base.where

    def read(self) -> Image.Image:
        """Call the function.

        Raises:
            OSError: The base image cannot be read.
            ValueError: The function raised, or returned no image; the message names it.
        """
        image = self.base.read()
        rng = np.random.default_rng(self.seed)
        name = f"{self.function.__module__}:{self.function.__name__}"
        try:
            changed = self.function(
                image, PairContext(self.base.path, self.label, self.attribute, self.columns, rng)
            )
        except Exception as error:  # whatever a user's code raises
            raise ValueError(f"{name} raised {type(error).__name__}: {error}") from error
        if not isinstance(changed, Image.Image):
            raise ValueError(f"{name} must return a PIL image, but got {type(changed).__name__}")
        return changed.convert("RGB")


def function_pairs(settings: ImagePairSettings, request: PairRequest) -> Candidates:
    """One candidate for each training image: the image, and what the function makes of it.

    Raises:
        DataError: The function cannot be imported.
    """
    function, code = _load(settings.function or "")
    table = request.table
    rows = table.rows_of(TRAIN)
    changed = [
        TransformedImage(
            table.source(row),
            function,
            code,
            int(table.label[row]),
            int(table.attribute[row]),
            {name: str(values[row]) for name, values in table.extra.items()},
            derive_seed(settings.seed, "function", table.paths[row]),
        )
        for row in rows.tolist()
    ]
    names = tuple(f"{settings.function} {code} {table.paths[row]}" for row in rows.tolist())
    position = np.arange(len(rows))
    return Candidates(rows, changed, table.label[rows], position, position, names)


def _load(path: str) -> tuple[PairFunction, str]:
    """The function, and a hash of its module's source."""
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # an import runs the user's code
        raise DataError(
            f"pairs.function {path!r}: {module_name} cannot be imported ({type(error).__name__}: {error}); "
            "it must stand on the Python path of every worker"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise DataError(f"pairs.function {path!r}: {module_name} has no function {name!r}")
    file = getattr(module, "__file__", None)
    source = Path(file).read_bytes() if file else path.encode()
    return function, hashlib.sha256(source).hexdigest()
