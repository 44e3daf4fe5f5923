"""Images in the report: invariance pairs and misclassified examples of the worst group."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
CRISP_BELOW = 64  # pixels; a smaller picture is enlarged without smoothing, so that its pixels can be seen
MAX_SIDE = 224  # pixels; a larger picture is scaled down, to keep the report small


@dataclass(frozen=True)
class PicturePair:
    """Two pictures `[H, W, 3]` that differ in the spurious attribute alone."""

    a: Picture
    b: Picture
    caption: str


@dataclass(frozen=True)
class Mistake:
    """A test picture `[H, W, 3]` that a method got wrong; the caption names its class and the predicted one."""

    image: Picture
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Images that the report shows.

    Attributes:
        pairs: Invariance pairs.
        mistakes: Method label -> mistakes in its worst group.
        missing: Why there are no pictures, or why some are missing; empty if none are.
    """

    pairs: tuple[PicturePair, ...] = ()
    mistakes: Mapping[str, tuple[Mistake, ...]] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class EncodedPicture:
    """A picture for the page: `source` is a data URL, `crisp` requests enlargement without smoothing."""

    source: str
    alt: str
    crisp: bool


def encode_picture(picture: NDArray[np.generic], alt: str) -> EncodedPicture:
    """Encode the picture as a PNG in a data URL.

    Args:
        picture: Values of type uint8, `[H, W, 3]`.
        alt: What it shows, in words.

    Raises:
        ValueError: The picture has another shape or type.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(
            f"a picture is uint8 of shape [H, W, 3], but got {picture.dtype} of shape {list(picture.shape)}"
        )
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return EncodedPicture(f"data:image/png;base64,{encoded}", alt, max(image.size) < CRISP_BELOW)


def encode_gallery(
    gallery: Gallery,
) -> tuple[list[tuple[str, list[EncodedPicture]]], list[tuple[str, list[tuple[str, EncodedPicture]]]]]:
    """Captioned pairs, and captioned mistakes by method."""
    pairs = [
        (
            pair.caption,
            [
                encode_picture(pair.a, f"{pair.caption}: first member"),
                encode_picture(pair.b, f"{pair.caption}: second member"),
            ],
        )
        for pair in gallery.pairs
    ]
    mistakes = [
        (label, [(m.caption, encode_picture(m.image, m.caption)) for m in found])
        for label, found in gallery.mistakes.items()
    ]
    return pairs, mistakes
