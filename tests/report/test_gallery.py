"""Pictures come back pixel by pixel, small ones sharp, large ones smaller."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ipgl.report.gallery import encode_picture


def decoded(source: str) -> np.ndarray:
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_pixels_survive() -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    made = encode_picture(picture, "a ramp")
    assert np.array_equal(decoded(made.source), picture)
    assert (made.alt, made.crisp) == ("a ramp", True)


def test_large_pictures_are_scaled_down_and_smooth() -> None:
    made = encode_picture(np.zeros((448, 224, 3), dtype=np.uint8), "black")
    assert decoded(made.source).shape == (224, 112, 3)
    assert not made.crisp


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 3)), np.zeros((3, 4, 4), dtype=np.uint8)])
def test_what_is_no_picture_is_refused(picture: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match=r"uint8 of shape \[H, W, 3\], but got"):
        encode_picture(picture, "")
