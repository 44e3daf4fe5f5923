from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from narrowing import as_images, of_kind
from PIL import Image

from ipgl.core.errors import DataError
from ipgl.data.generate.blend import blend_files
from ipgl.data.images import FileImage
from ipgl.data.pair_sources import ImagePairSettings, make_pairs
from ipgl.data.pair_sources.composite import CompositeImage, composite_pairs
from ipgl.data.table import TRAIN, ImageTable

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


def settings(root: Path, **values: int) -> ImagePairSettings:
    paths = {"birds": str(root / "CUB_200_2011"), "places": str(root / "places365")}
    return ImagePairSettings.model_validate({"source": "composite", "held_out": 4} | paths | values)


def test_a_training_bird_stands_on_its_own_place_and_on_one_of_the_other_type(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    table = waterbirds_table
    found = composite_pairs(settings(waterbirds), make_request(table))
    rows = table.rows_of(TRAIN)
    assert found.source.tolist() == list(range(len(rows)))
    assert found.label.tolist() == table.label[rows].tolist()
    held = {name.split("/")[-1] for name in table.extra["place_filename"][table.split != TRAIN]}
    for a, b, row in zip(found.a, found.b, rows, strict=True):
        assert a.background == waterbirds / "places365/data_large" / table.extra["place_filename"][row][1:]
        assert (a.foreground, a.mask) == (b.foreground, b.mask)
        assert a.foreground.name == table.paths[row].split("/")[1]
        water = {"ocean", "natural"}
        assert (a.background.parent.name in water) == bool(table.attribute[row])
        assert (b.background.parent.name in water) != bool(table.attribute[row])
    others = [of_kind(b, CompositeImage).background for b in found.b]
    other = [(background.parent.name, background.name) for background in others]
    shown = {tuple(name.split("/")[-2:]) for name in table.extra["place_filename"][table.split != TRAIN]}
    assert held
    assert not shown & set(other)
    assert len(set(other)) > len(other) / 2


def test_pixels_go_through_the_same_preparation_as_the_training_images(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    request = make_request(waterbirds_table)
    made = make_pairs(settings(waterbirds), request)
    rows = waterbirds_table.rows_of(TRAIN)[made.pairs.source.numpy()]
    everything = torch.arange(len(rows))
    own = request.images.take(torch.from_numpy(rows)).pixels(everything).float()
    # The first member is the training image but for JPEG's losses.
    assert (as_images(made.pairs.a).pixels(everything).float() - own).abs().mean() < 4
    assert (as_images(made.pairs.b).pixels(everything).float() - own).abs().mean() > 20


def test_held_out_pairs_are_from_other_birds(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    made = make_pairs(settings(waterbirds), make_request(waterbirds_table))
    assert len(made.held_out) == 4
    assert len(made.pairs) == 20  # 30 training birds, of which 6 validate
    assert not set(made.pairs.source.tolist()) & set(made.held_out.source.tolist())


def test_the_seed_decides(waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest) -> None:
    request = make_request(waterbirds_table)
    first, again, other = (make_pairs(settings(waterbirds, seed=seed), request) for seed in (1, 1, 2))
    assert first.names == again.names != other.names
    assert torch.equal(first.pairs.source, again.pairs.source)


def test_without_a_column_of_places_both_are_drawn(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    table = waterbirds_table.take(np.arange(len(waterbirds_table)))
    extra = {name: values for name, values in table.extra.items() if name != "place_filename"}
    table = replace(table, extra=extra)
    found = composite_pairs(settings(waterbirds), make_request(table))
    for a, b, row in zip(found.a, found.b, table.rows_of(TRAIN), strict=True):
        kinds = [side.background.parent.name in ("ocean", "natural") for side in (a, b)]
        assert kinds == [bool(table.attribute[row]), not table.attribute[row]]


def test_folders_are_looked_for_below_the_data_folder(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPGL_DATA", str(waterbirds))
    found = composite_pairs(ImagePairSettings(source="composite"), make_request(waterbirds_table))
    assert len(found) == 24


def test_the_key_changes_with_each_of_the_three_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path in paths:
        Image.new("L", (2, 2)).save(path)
    image = CompositeImage(paths[0], paths[1], paths[2], "row 1")
    keys = {image.key}
    for path in paths:
        path.write_bytes(path.read_bytes() + b"!")
        keys.add(image.key)
    assert len(keys) == 4


def test_reading_blends(waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest) -> None:
    found = composite_pairs(settings(waterbirds), make_request(waterbirds_table))
    image = of_kind(found.b[0], CompositeImage)
    assert image.read().tobytes() == blend_files(image.foreground, image.mask, image.background).tobytes()


def test_three_attribute_values_are_refused(
    make_table: Callable[..., ImageTable], make_request: MakeRequest, waterbirds: Path
) -> None:
    table = make_table([(0, 0, 0), (1, 1, 0), (0, 2, 0), (0, 0, 1), (0, 0, 2)])
    with pytest.raises(
        DataError, match="the attribute must have 2 values, but it has 3; use source: manifest or"
    ):
        composite_pairs(settings(waterbirds), make_request(table))


class TestBadSources:
    @pytest.fixture
    def damaged(self, waterbirds: Path, tmp_path: Path) -> Path:
        """A copy that the test may damage."""
        return shutil.copytree(waterbirds, tmp_path / "copy")

    @pytest.fixture
    def names(self, waterbirds_table: ImageTable) -> list[str]:
        return [waterbirds_table.paths[row] for row in waterbirds_table.rows_of(TRAIN)]

    def test_missing_masks_and_places_are_all_named_with_their_rows(
        self, damaged: Path, waterbirds_table: ImageTable, make_request: MakeRequest, names: list[str]
    ) -> None:
        table = waterbirds_table
        mask = damaged / "CUB_200_2011/segmentations" / names[0].replace(".jpg", ".png")
        mask.unlink()
        row = table.rows_of(TRAIN)[1]
        place = table.extra["place_filename"][row]
        (damaged / "places365/data_large" / place[1:]).unlink()
        with pytest.raises(DataError) as error:
            composite_pairs(settings(damaged), make_request(table))
        lines = str(error.value).splitlines()
        assert lines[0] == f"{table.file}: some composite pairs cannot be made:"
        assert lines[1] == f"  {table.where(table.rows_of(TRAIN)[0])}: {mask} is missing"
        assert lines[2].startswith(f"  {table.where(row)}: '{place}' is at none of ")
        assert lines[3:] == ["Restore the files, or leave these pairs out with --skip-bad."]

    def test_skipping_leaves_them_out_and_notes_them(
        self, damaged: Path, waterbirds_table: ImageTable, make_request: MakeRequest, names: list[str]
    ) -> None:
        (damaged / "CUB_200_2011/segmentations" / names[0].replace(".jpg", ".png")).unlink()
        made = make_pairs(settings(damaged), make_request(waterbirds_table, skip_bad=True))
        assert len(made.pairs) + len(made.held_out) == 23
        assert 0 not in [*made.pairs.source.tolist(), *made.held_out.source.tolist()]
        assert [note for note in made.notes if names[0] in note]

    def test_a_mask_of_another_size_is_named(
        self, damaged: Path, waterbirds_table: ImageTable, make_request: MakeRequest, names: list[str]
    ) -> None:
        mask = damaged / "CUB_200_2011/segmentations" / names[2].replace(".jpg", ".png")
        Image.new("L", (3, 3)).save(mask)
        with pytest.raises(DataError) as error:
            make_pairs(settings(damaged), make_request(waterbirds_table))
        assert f"({names[2]})" in str(error.value)
        assert "mask and image must have the same size, but got mask=3x3" in str(error.value)
        made = make_pairs(settings(damaged), make_request(waterbirds_table, skip_bad=True))
        assert len(made.pairs) + len(made.held_out) == 23
        assert 2 not in [*made.pairs.source.tolist(), *made.held_out.source.tolist()]
        assert [note for note in made.notes if names[2] in note and "mask=3x3" in note]


def test_a_file_image_and_a_composite_are_cached_apart(
    waterbirds: Path, waterbirds_table: ImageTable, make_request: MakeRequest
) -> None:
    composite = composite_pairs(settings(waterbirds), make_request(waterbirds_table)).a[0]
    assert composite.key != FileImage(of_kind(composite, CompositeImage).foreground, "").key
