"""No source of pairs shows a validation or test picture, and equal pictures stay in one set of pairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from narrowing import as_images
from PIL import Image

from ipgl.core.errors import DataError
from ipgl.data.manifest import check_table, read_csv
from ipgl.data.pair_sources import ImagePairSettings, make_pairs
from ipgl.data.pair_sources.function import PairContext
from ipgl.data.pair_sources.recolour import recolour_pairs
from ipgl.data.pair_sources.same_pictures import joined_units, without_evaluation_images
from ipgl.data.table import TEST, TRAIN, ImageTable
from ipgl.data.waterbirds import COLUMNS

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


# Rows 0 to 5 train, 6 validates, 7 tests.
ROWS = [(0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (0, 0, 1), (1, 1, 2)]


@pytest.fixture
def table(make_table: Callable[..., ImageTable]) -> ImageTable:
    return make_table(ROWS, size=[0, 0, 1, 1, 0, 0, 0, 0])


def copy(table: ImageTable, source: int, target: int) -> None:
    with Image.open(table.root / f"{source}.png") as image:
        image.save(table.root / f"{target}.png", compress_level=1)


def note(table: ImageTable, count: int, of: int, *places: str) -> str:
    return (
        f"{table.root}/table.csv: {count} of {of} possible pairs left out, because their training image is also in "
        f"validation or test: {'; '.join(places)}"
    )


def pair_function(image: Image.Image, context: PairContext) -> Image.Image:
    """Another picture for every image."""
    return Image.new("RGB", image.size, (10 + int(context.path.stem), 255, 255))


def cheating_function(image: Image.Image, context: PairContext) -> Image.Image:
    """The test picture, for one image."""
    cheats = context.path.stem == "3"
    return Image.open(context.path.parent / "7.png") if cheats else pair_function(image, context)


OWN: dict[str, dict[str, Any]] = {
    "recolour": {"source": "recolour", "hue": 0.3},
    "function": {"source": "function", "function": f"{__name__}:pair_function"},
    "matched": {"source": "matched", "columns": ["size"]},
}


@pytest.mark.parametrize(("source", "pairs"), [("recolour", 6), ("function", 6), ("matched", 3)])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_training_copy_of_a_test_image_makes_no_pair(
    table: ImageTable, make_request: MakeRequest, source: str, pairs: int, skip_bad: bool
) -> None:
    copy(table, 7, 2)
    request = make_request(table, skip_bad=skip_bad)
    made = make_pairs(ImagePairSettings(held_out=1, **OWN[source]), request)
    assert (
        note(
            table, 1, pairs, "line 4 (2.png) has the pixels of the test image of line 9 in table.csv (7.png)"
        )
        in made.notes
    )
    assert len(made.pairs) + len(made.held_out) == pairs - 1
    test = request.evaluation_contents
    for part in (made.pairs, made.held_out):
        assert 2 not in part.source.tolist()
        assert not set(test) & {*as_images(part.a).contents(), *as_images(part.b).contents()}


def test_candidates_stay_as_they_are_without_copies(table: ImageTable, make_request: MakeRequest) -> None:
    request = make_request(table)
    found = recolour_pairs(ImagePairSettings(**OWN["recolour"]), request)
    assert without_evaluation_images(found, request) is found
    assert joined_units(found, request).unit.tolist() == found.unit.tolist()


@pytest.mark.parametrize("held_out", [1, 5])
def test_what_a_function_makes_is_compared_too(
    table: ImageTable, make_request: MakeRequest, held_out: int
) -> None:
    settings = ImagePairSettings(
        source="function", function=f"{__name__}:cheating_function", held_out=held_out
    )
    fault = f"{table.root}/table.csv, line 5 (3.png): has the pixels of the test image of line 9 in table.csv (7.png)"
    with pytest.raises(DataError) as caught:
        make_pairs(settings, make_request(table))
    assert str(caught.value) == (
        f"{table.root}/table.csv: some pairs show pictures of validation or test:\n  {fault}\n"
        "Take these pictures out of the pairs, or leave the pairs out with --skip-bad."
    )
    made = make_pairs(settings, make_request(table, skip_bad=True))
    assert f"pair skipped: {fault}" in made.notes
    assert sorted([*made.pairs.source.tolist(), *made.held_out.source.tolist()]) == [0, 1, 2, 4, 5]


def test_no_composite_is_made_of_a_copied_picture(
    make_request: MakeRequest, waterbirds: Path, tmp_path: Path
) -> None:
    root = tmp_path / "waterbirds"
    shutil.copytree(waterbirds / "waterbirds", root)
    table, _ = check_table(read_csv(root / "metadata.csv"), root, COLUMNS)
    training, test = int(table.rows_of(TRAIN)[1]), int(table.rows_of(TEST)[2])
    shutil.copy(root / table.paths[test], root / table.paths[training])
    settings = ImagePairSettings(
        source="composite",
        birds=str(waterbirds / "CUB_200_2011"),
        places=str(waterbirds / "places365"),
        held_out=3,
    )
    made = make_pairs(settings, make_request(table))
    count = len(table.rows_of(TRAIN))
    expected = (
        f"{root}/metadata.csv: 1 of {count} possible pairs left out, because their training image is also in "
        f"validation or test: line {table.line[training]} ({table.paths[training]}) has the pixels of the test image "
        f"of line {table.line[test]} in metadata.csv ({table.paths[test]})"
    )
    assert expected in made.notes
    sources = [*made.pairs.source.tolist(), *made.held_out.source.tolist()]
    assert sorted(sources) == [n for n in range(count) if n != 1]


def test_equal_training_pictures_stay_in_one_set(
    make_table: Callable[..., ImageTable], make_request: MakeRequest
) -> None:
    # Twelve pictures, each twice.
    table = make_table([(0, 0, 0)] * 24 + [(1, 1, 0), (0, 0, 1), (1, 1, 2)])
    for n in range(12):
        copy(table, n, n + 12)
    for seed in range(5):
        settings = ImagePairSettings(source="recolour", hue=0.3, held_out=6, seed=seed)
        made = make_pairs(settings, make_request(table))
        assert len(made.held_out) == 6
        sides = [set(as_images(part.a).contents()) for part in (made.pairs, made.held_out)]
        assert not sides[0] & sides[1]
