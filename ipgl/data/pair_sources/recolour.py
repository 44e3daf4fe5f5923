"""Pair source `recolour`: a training image and the same image with its hue rotated.

Honest only if colour *is* the spurious attribute: the pairs tell the model that hue does not matter, whether or not
that is true of the classes. Where colour is part of what a class is (a red robin), take another source.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ipgl.data.batch_order import derive_seed
from ipgl.data.images import FileImage
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources.candidates import Candidates
from ipgl.data.pair_sources.settings import ImagePairSettings
from ipgl.data.table import TRAIN


@dataclass(frozen=True)
class RecolouredImage:
    """An image whose hue is turned by `turn` when it is read: 0.5 is half of the colour circle."""

    base: FileImage
    turn: float

    @property
    def key(self) -> str:
        """The base image's key and the turn."""
        return f"hue:{self.turn!r}:{self.base.key}"

    @property
    def where(self) -> str:
        """The base image's place."""
        return self.base.where

    def read(self) -> Image.Image:
        """Decode and turn; errors as `FileImage.read`."""
        from torchvision.transforms.v2 import functional  # takes over a second: only where it is used

        image: Image.Image = functional.adjust_hue(self.base.read(), self.turn)
        return image


def recolour_pairs(settings: ImagePairSettings, request: PairRequest) -> Candidates:
    """One candidate for each training image; turns are drawn between half of `hue` and `hue`, either way."""
    table = request.table
    rows = table.rows_of(TRAIN)
    rng = np.random.default_rng(derive_seed(settings.seed, "recolour"))
    turns = rng.uniform(settings.hue / 2, settings.hue, len(rows)) * rng.choice((-1.0, 1.0), len(rows))
    changed = [
        RecolouredImage(table.source(row), float(t)) for row, t in zip(rows.tolist(), turns, strict=True)
    ]
    names = tuple(f"{table.paths[row]} {t!r}" for row, t in zip(rows.tolist(), turns.tolist(), strict=True))
    position = np.arange(len(rows))
    return Candidates(rows, changed, table.label[rows], position, position, names)
