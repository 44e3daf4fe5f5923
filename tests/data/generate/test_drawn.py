from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ipgl.data.generate import draw_sources
from ipgl.data.generate.cub import is_water_bird, read_cub
from ipgl.data.generate.drawn_birds import draw_bird
from ipgl.data.generate.drawn_places import PAINTERS, draw_place

if TYPE_CHECKING:
    from tests.data.generate.conftest import Sources


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_seeds_draw_equal_files(tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / name).mkdir()
        draw_sources(tmp_path / name, train=4, test=4, seed=seed, side=24)
        made.append(files(tmp_path / name))
    assert made[0] == made[1] != made[2]


def test_the_tables_are_cubs(sources: Sources) -> None:
    cub = sources.cub
    lines = {name: (cub / f"{name}.txt").read_text().splitlines() for name in ("images", "classes")}
    assert lines["images"][0] == "1 001.Drawn_Mallard/Drawn_Mallard_0001_1.jpg"
    assert lines["classes"] == [
        "1 001.Drawn_Mallard",
        "2 002.Drawn_Sparrow",
        "3 003.Drawn_Merganser",
        "4 004.Drawn_Finch",
    ]
    assert (cub / "image_class_labels.txt").read_text().splitlines()[:5] == [
        "1 1",
        "2 2",
        "3 3",
        "4 4",
        "5 1",
    ]


def test_half_of_the_birds_of_each_split_are_water_birds(sources: Sources) -> None:
    birds = read_cub(sources.cub).birds
    for test, count in ((False, 40), (True, 24)):
        assert sum(is_water_bird(bird.img_filename) for bird in birds if bird.test is test) == count // 2


def test_the_folder_says_that_nothing_in_it_is_a_photograph(sources: Sources) -> None:
    assert "no photographs" in (sources.cub / "README").read_text()


def test_masks_cover_the_bird_and_nothing_else(sources: Sources) -> None:
    for path in list((sources.cub / "images").rglob("*.jpg"))[:12]:
        relative = path.relative_to(sources.cub / "images").with_suffix(".png")
        mask = Image.open(sources.cub / "segmentations" / relative)
        with Image.open(path) as image:
            assert (mask.mode, mask.size) == ("L", image.size)
        share = (np.asarray(mask) > 127).mean()
        assert 0.04 < share < 0.5


@pytest.fixture(scope="module")
def birds() -> dict[bool, list[tuple[Image.Image, Image.Image]]]:
    return {
        swimmer: [draw_bird(swimmer, (48, 48), np.random.default_rng(seed)) for seed in range(200)]
        for swimmer in (True, False)
    }


class TestBirds:
    def test_kinds_have_the_same_colours(
        self, birds: dict[bool, list[tuple[Image.Image, Image.Image]]]
    ) -> None:
        means = {}
        for swimmer, drawn in birds.items():
            inside = [np.asarray(image)[np.asarray(mask) == 255].mean(axis=0) for image, mask in drawn]
            means[swimmer] = np.mean(inside, axis=0)
        # A mean over 200 birds of base colours uniform in [30, 225) has a standard error of about 4.
        assert np.abs(means[True] - means[False]).max() < 16

    def test_kinds_differ_in_shape(self, birds: dict[bool, list[tuple[Image.Image, Image.Image]]]) -> None:
        ratio = {
            swimmer: np.mean([np.divide(*_extent(mask)) for _, mask in drawn])
            for swimmer, drawn in birds.items()
        }
        assert ratio[True] > ratio[False] + 0.2  # swimmers are longer than they are tall

    def test_some_birds_are_partly_hidden(
        self, birds: dict[bool, list[tuple[Image.Image, Image.Image]]]
    ) -> None:
        from scipy.ndimage import label

        parts = [label(np.asarray(mask) > 127)[1] for _, mask in birds[True]]
        assert 0.1 < np.mean(np.array(parts) > 1) < 0.9


def _extent(mask: Image.Image) -> tuple[np.int64, np.int64]:
    rows, columns = np.nonzero(np.asarray(mask) > 127)
    return np.ptp(columns), np.ptp(rows)


@pytest.mark.parametrize("name", PAINTERS)
def test_water_is_blue_and_land_is_not(name: str) -> None:
    for seed in range(10):
        red, green, blue = (
            np.asarray(draw_place(name, (40, 30), np.random.default_rng(seed))).reshape(-1, 3).mean(axis=0)
        )
        if name in ("ocean", "lake/natural"):
            assert blue > green > red
        else:
            assert green > blue
            assert red > blue
