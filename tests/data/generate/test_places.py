from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipgl.core.errors import DataError
from ipgl.data.generate.places import LAND, WATER, place_files, place_path

if TYPE_CHECKING:
    from tests.data.generate.conftest import Sources


@pytest.fixture(params=["data_large/f/forest/broadleaf", "f/forest/broadleaf", "forest/broadleaf"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One class in each layout that is in use."""
    made = tmp_path / str(request.param)
    made.mkdir(parents=True)
    for name in ("b.jpg", "a.jpg", "notes.txt"):
        (made / name).touch()
    return made


def test_names_are_canonical_in_every_layout(folder: Path, tmp_path: Path) -> None:
    names = place_files(tmp_path, ["forest/broadleaf"])
    assert names == ["/f/forest/broadleaf/a.jpg", "/f/forest/broadleaf/b.jpg"]
    assert place_path(tmp_path, names[1]) == folder / "b.jpg"


def test_drawn_places_have_the_published_classes(sources: Sources) -> None:
    assert len(place_files(sources.places, (*LAND, *WATER))) == 4 * 27  # 0.3 * 64 + 8, for each class


def test_a_missing_class_says_where_was_looked_and_what_there_is(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"the place 'ocean' was looked for at .*data_large/o/ocean, .*found: \w+"
    ):
        place_files(tmp_path, ["ocean"])


def test_an_empty_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ocean").mkdir()
    with pytest.raises(DataError, match=r"ocean: holds no \.jpg files"):
        place_files(tmp_path, ["ocean"])


@pytest.mark.parametrize("name", ["/o/../../../etc/passwd", "ocean", "/o/ocean"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="below the places folder, but got"):
        place_path(tmp_path, name)


def test_a_missing_picture_is_named_with_all_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'/o/ocean/1.jpg' is at none of .*data_large/o/ocean/1.jpg, "):
        place_path(tmp_path, "/o/ocean/1.jpg")
