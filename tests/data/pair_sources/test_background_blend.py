"""The background corruption: test backgrounds faded into the other place type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from narrowing import known, of_kind

from ipgl.data import parts
from ipgl.data.pair_sources import ImagePairSettings, background_blend
from ipgl.data.split_inputs import LazyBlend
from ipgl.data.table import TEST, ImageTable

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


SETTINGS = {"source": "composite", "train": None, "held_out": 2}


def settings(root: Path) -> ImagePairSettings:
    return ImagePairSettings(**SETTINGS, birds=str(root / "CUB_200_2011"), places=str(root / "places365"))


def test_ends_and_what_lies_between(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    request = make_request(waterbirds_table)
    blend, notes = background_blend(settings(waterbirds), request)
    corrupt = known(blend)
    assert notes == ()
    rows = waterbirds_table.rows_of(TEST)
    own, half, other = (
        torch.cat(list(parts(corrupt(strength), 7, torch.device("cpu")))) for strength in (0, 0.5, 1)
    )
    assert own.shape == (len(rows), 3, 12, 12)
    # Strength 0 is the test image itself, which lost a little to JPEG.
    images = request.images.take(torch.from_numpy(rows))
    assert (own - images[:]).abs().mean() < 0.15
    assert (other - own).abs().mean() > 0.3
    torch.testing.assert_close(half, (own + other) / 2)
    assert len(corrupt(0.5)) == corrupt(0.5).shape[0] == len(rows)


def test_the_other_background_is_of_the_other_kind_and_the_bird_stays(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    corrupt, _ = background_blend(settings(waterbirds), make_request(waterbirds_table))
    blended = of_kind(known(corrupt)(1.0), LazyBlend)
    sources = [image for image in _sources(blended, waterbirds, waterbirds_table)]
    attributes = waterbirds_table.attribute[waterbirds_table.rows_of(TEST)]
    for (own, other), attribute in zip(sources, attributes, strict=True):
        own_is_water = "/ocean/" in own or "/lake/" in own
        other_is_water = "/ocean/" in other or "/lake/" in other
        assert own_is_water == bool(attribute)
        assert other_is_water != own_is_water


def _sources(blended: LazyBlend, root: Path, table: ImageTable) -> list[tuple[str, str]]:
    """The backgrounds of both ends, composed once more by hand."""
    from ipgl.data.pair_request import PairRequest
    from ipgl.data.pair_sources.composite import _compose, _place_kinds

    request = PairRequest(table, blended.a, lambda sources: blended.a, False)
    made = _compose(
        settings(root), request, table.rows_of(TEST), _place_kinds(settings(root), request), "background"
    )
    return [(str(a.background), str(b.background)) for a, b in zip(made.own, made.other, strict=True)]


def test_without_a_mask_there_is_none_and_a_note_says_why(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    row = int(waterbirds_table.rows_of(TEST)[3])
    paths = list(waterbirds_table.paths)
    paths[row] = "001.Nothing/nothing.jpg"
    table = type(waterbirds_table)(**{**vars(waterbirds_table), "paths": tuple(paths)})
    request = make_request(waterbirds_table)
    request = type(request)(table, request.images, request.store, False)
    corrupt, (note,) = background_blend(settings(waterbirds), request)
    assert corrupt is None
    assert note.startswith(
        f"no background corruption: 2 parts of test images are missing, first {table.where(row)}: "
    )
    assert np.all([word in note for word in ("nothing", "missing")])
