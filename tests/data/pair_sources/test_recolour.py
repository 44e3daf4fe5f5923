from __future__ import annotations

import colorsys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from narrowing import as_images, as_rows, of_kind
from PIL import Image

from ipgl.data.images import FileImage
from ipgl.data.pair_sources import ImagePairSettings, make_pairs
from ipgl.data.pair_sources.recolour import RecolouredImage, recolour_pairs
from ipgl.data.table import ImageTable

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


ROWS = [(0, 0, 0)] * 8 + [(1, 1, 0)] * 4 + [(0, 0, 1), (0, 0, 2)]


def settings(**values: float) -> ImagePairSettings:
    return ImagePairSettings.model_validate({"source": "recolour", "held_out": 2} | values)


def test_half_a_turn_makes_red_cyan(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "red.png")
    image = RecolouredImage(FileImage(tmp_path / "red.png", ""), 0.5).read()
    assert image.getpixel((0, 0)) == pytest.approx((0, 255, 255), abs=6)  # Pillow keeps hue in 256 steps


def test_every_training_image_is_a_candidate(
    make_table: Callable[..., ImageTable], make_request: MakeRequest
) -> None:
    table = make_table(ROWS)
    found = recolour_pairs(settings(hue=0.2), make_request(table))
    assert as_rows(found.a).tolist() == found.source.tolist() == list(range(12))
    turns = np.array([of_kind(image, RecolouredImage).turn for image in found.b])
    assert ((np.abs(turns) >= 0.1) & (np.abs(turns) <= 0.2)).all()
    assert (turns > 0).any()
    assert (turns < 0).any()
    assert len({image.key for image in found.b}) == 12


def test_brightness_stays_and_hue_moves(
    make_table: Callable[..., ImageTable], make_request: MakeRequest
) -> None:
    table = make_table(ROWS)
    made = make_pairs(settings(), make_request(table))
    index = torch.arange(len(made.pairs))
    a, b = (as_images(side).pixels(index)[:, 0, 0].numpy() / 255 for side in (made.pairs.a, made.pairs.b))
    for before, after in zip(a, b, strict=True):
        (hue, _, value), (turned, _, same) = colorsys.rgb_to_hsv(*before), colorsys.rgb_to_hsv(*after)
        assert same == pytest.approx(value, abs=0.02)
        assert 0.24 < min((hue - turned) % 1, (turned - hue) % 1) <= 0.51


def test_equal_seeds_turn_alike(make_table: Callable[..., ImageTable], make_request: MakeRequest) -> None:
    request = make_request(make_table(ROWS))
    names = [make_pairs(settings(seed=seed), request).names for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
