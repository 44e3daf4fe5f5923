from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from ipgl.core.errors import DataError
from ipgl.data.generate.cub import Bird, Cub
from ipgl.data.generate.plan import Row, WaterbirdsPlan, metadata_csv, plan_hash, plan_waterbirds


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """300 empty files of each published class: planning reads names alone."""
    for name in ("bamboo_forest", "forest/broadleaf", "ocean", "lake/natural"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(300):
            (tmp_path / name / f"{number}.jpg").touch()
    return tmp_path


@pytest.fixture
def cub(tmp_path: Path) -> Cub:
    """500 training birds, of which a fifth swims, and 200 for testing, of which a fifth swims."""
    names = ["001.Mallard", "002.Wren", "002.Wren", "003.Cardinal", "003.Cardinal"]
    birds = tuple(Bird(i + 1, f"{names[i % 5]}/{i}.jpg", test=i >= 500) for i in range(700))
    return Cub(tmp_path, tmp_path, birds)


def groups(rows: tuple[Row, ...]) -> Counter[tuple[int, int, int]]:
    return Counter((row.split, row.y, row.place) for row in rows)


@pytest.mark.parametrize("strength", [0.5, 0.95, 1.0, 0.0])
def test_groups_follow_the_strength_in_training_alone(cub: Cub, places: Path, strength: float) -> None:
    rows, _ = plan_waterbirds(WaterbirdsPlan(strength=strength), cub, places)
    counts = groups(rows)
    assert sum(n for (split, _, _), n in counts.items() if split == 1) == 100  # a fifth of 500 validates
    for y in (0, 1):
        members = counts[0, y, 0] + counts[0, y, 1]
        assert counts[0, y, y] == round(strength * members)
        assert abs(counts[1, y, 0] - counts[1, y, 1]) <= 1
    assert (counts[2, 0, 0], counts[2, 0, 1], counts[2, 1, 0], counts[2, 1, 1]) == (80, 80, 20, 20)


def test_a_perfect_correlation_leaves_the_conflicting_groups_empty(cub: Cub, places: Path) -> None:
    counts = groups(plan_waterbirds(WaterbirdsPlan(strength=1.0), cub, places)[0])
    assert counts[0, 0, 1] == counts[0, 1, 0] == 0
    assert counts[0, 0, 0] + counts[0, 1, 1] == 400


def test_labels_and_test_split_are_cubs_own(cub: Cub, places: Path) -> None:
    rows, _ = plan_waterbirds(WaterbirdsPlan(), cub, places)
    assert [row.img_id for row in rows] == list(range(1, 701))
    assert all(row.y == ("Mallard" in row.img_filename) for row in rows)
    assert all((row.split == 2) == (row.img_id > 500) for row in rows)


def test_no_place_is_shown_twice_and_each_is_of_its_type(cub: Cub, places: Path) -> None:
    rows, _ = plan_waterbirds(WaterbirdsPlan(), cub, places)
    assert len({row.place_filename for row in rows}) == len(rows)
    for row in rows:
        assert row.place_filename.startswith(
            ("/o/ocean/", "/l/lake/") if row.place else ("/b/bamboo", "/f/forest/")
        )
    assert {row.place_filename.split("/")[2] for row in rows} == {"bamboo_forest", "forest", "ocean", "lake"}


def test_pairs_are_training_birds_on_the_other_type_that_no_evaluation_shows(cub: Cub, places: Path) -> None:
    rows, pairs = plan_waterbirds(WaterbirdsPlan(pairs=60), cub, places)
    assert len({pair.row.img_id for pair in pairs}) == 60
    shown = {row.place_filename for row in rows if row.split}
    for pair in pairs:
        assert pair.row.split == 0
        assert pair.place_filename.startswith(("/b/", "/f/") if pair.row.place else ("/o/", "/l/"))
        assert pair.place_filename not in shown


def test_pairs_leave_the_data_set_as_it_is(cub: Cub, places: Path) -> None:
    with_pairs, _ = plan_waterbirds(WaterbirdsPlan(pairs=60), cub, places)
    assert with_pairs == plan_waterbirds(WaterbirdsPlan(), cub, places)[0]


def test_the_seed_is_all_that_chance_depends_on(cub: Cub, places: Path) -> None:
    first = plan_waterbirds(WaterbirdsPlan(pairs=9, seed=1), cub, places)
    shuffled = Cub(cub.images, cub.masks, tuple(reversed(cub.birds)))
    assert plan_waterbirds(WaterbirdsPlan(pairs=9, seed=1), shuffled, places) == first
    other = plan_waterbirds(WaterbirdsPlan(pairs=9, seed=2), cub, places)
    assert plan_hash(*other) != plan_hash(*first)
    assert groups(other[0])[2, 0, 0] == groups(first[0])[2, 0, 0]


def test_metadata_has_the_published_columns(cub: Cub, places: Path) -> None:
    rows, _ = plan_waterbirds(WaterbirdsPlan(), cub, places)
    text = metadata_csv(rows)
    assert text.splitlines()[0] == "img_id,img_filename,y,split,place,place_filename"
    second = list(csv.DictReader(io.StringIO(text)))[1]
    assert second == {name: str(getattr(rows[1], name)) for name in second}
    assert second["img_filename"] == "002.Wren/1.jpg"


def test_too_few_places_are_an_error_with_both_numbers(cub: Cub, places: Path) -> None:
    for number in range(290):
        (places / "ocean" / f"{number}.jpg").unlink()
        (places / "lake" / "natural" / f"{number}.jpg").unlink()
    with pytest.raises(
        DataError, match=r"birds stand on water, but there are only 20 pictures of ocean, lake/natural"
    ):
        plan_waterbirds(WaterbirdsPlan(), cub, places)


def test_more_pairs_than_training_birds_are_an_error(cub: Cub, places: Path) -> None:
    with pytest.raises(DataError, match=r"\(pairs=401, training birds=400\)"):
        plan_waterbirds(WaterbirdsPlan(pairs=401), cub, places)


@pytest.mark.parametrize("name", ["/etc", "../x", "a/../../b", ""])
def test_a_place_class_stays_inside(name: str) -> None:
    with pytest.raises(ValidationError, match="a place is a class such as"):
        WaterbirdsPlan(land_places=(name,))
