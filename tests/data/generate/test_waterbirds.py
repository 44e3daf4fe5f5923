from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_erosion

from ipgl.core.errors import DataError
from ipgl.data.generate import Generated, WaterbirdsPlan, folder_name, generate_waterbirds
from ipgl.data.generate.cub import read_cub
from ipgl.data.generate.places import place_path

if TYPE_CHECKING:
    from tests.data.generate.conftest import Sources


PLAN = WaterbirdsPlan(strength=1.0, pairs=6, seed=3)


# JPEG mixes colours over blocks of two pixels and loses a few grey levels at edges: the inside is compared, loosely.


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    return generate_waterbirds(PLAN, *sources, tmp_path_factory.mktemp("made") / "waterbirds")


@pytest.mark.parametrize(
    ("strength", "name"),
    [
        (0.95, "waterbird_complete95_forest2water2"),
        (1.0, "waterbird_1.0_forest2water2"),
        (0.925, "waterbird_complete92.5_forest2water2"),
        (0.0, "waterbird_complete0_forest2water2"),
    ],
)
def test_the_folder_is_named_as_the_published_ones(strength: float, name: str) -> None:
    assert folder_name(strength) == name


def test_every_row_has_its_picture_in_the_birds_size(made: Generated, sources: Sources) -> None:
    cub = read_cub(sources.cub)
    with (made.folder / "metadata.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 64
    for row in rows:
        with (
            Image.open(made.folder / row["img_filename"]) as picture,
            Image.open(cub.image(row["img_filename"])) as bird,
        ):
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", bird.size)


def test_a_picture_is_the_bird_before_its_place(made: Generated, sources: Sources) -> None:
    cub = read_cub(sources.cub)
    for row in made.rows[:10]:
        picture, bird = (
            np.asarray(Image.open(path), dtype=int)
            for path in (made.folder / row.img_filename, cub.image(row.img_filename))
        )
        mask = np.asarray(Image.open(cub.mask(row.img_filename)))
        with Image.open(place_path(sources.places, row.place_filename)) as opened:
            place = opened.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        inside, outside = binary_erosion(mask == 255, iterations=2), mask == 0
        assert np.abs(picture - bird)[inside].mean() < 8
        assert np.abs(picture[outside].mean(axis=0) - np.array(place)).max() < 25


def test_pairs_show_the_same_bird_on_another_place(made: Generated, sources: Sources) -> None:
    cub = read_cub(sources.cub)
    with (made.folder / "pairs.csv").open() as stream:
        pairs = list(csv.DictReader(stream))
    assert len(pairs) == 6
    labels = {row.img_filename: row.y for row in made.rows}
    for pair in pairs:
        assert pair["image_b"] == f"counterfactual/{pair['image_a']}"
        assert int(pair["label"]) == labels[pair["image_a"]]
        a, b = (
            np.asarray(Image.open(made.folder / pair[name]), dtype=int) for name in ("image_a", "image_b")
        )
        mask = np.asarray(Image.open(cub.mask(pair["image_a"])))
        assert np.abs(a - b)[binary_erosion(mask == 255, iterations=2)].mean() < 8
        assert np.abs(a - b)[mask == 0].mean() > 20


def test_the_same_seed_gives_the_same_bytes(made: Generated, sources: Sources, tmp_path: Path) -> None:
    again = generate_waterbirds(PLAN, *sources, tmp_path / "again", workers=1)
    assert files(again.folder) == files(made.folder)


def test_after_an_interruption_only_what_is_missing_is_made(
    made: Generated, sources: Sources, tmp_path: Path
) -> None:
    folder = tmp_path / "interrupted"

    def stop(done: int, total: int) -> None:
        assert total == 70
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_waterbirds(PLAN, *sources, folder, progress=stop)
    early = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert 20 <= len(early) < 70
    assert not (folder / "metadata.csv").exists()
    generate_waterbirds(PLAN, *sources, folder)
    assert {path: path.stat().st_mtime_ns for path in early} == early
    assert files(folder) == files(made.folder)


def test_a_kill_leaves_no_half_picture(made: Generated, sources: Sources, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = textwrap.dedent(
        f"""
        from pathlib import Path
        from ipgl.data.generate import WaterbirdsPlan, generate_waterbirds
        plan = WaterbirdsPlan(strength=1.0, pairs=6, seed=3)
        show = lambda done, total: print(done, flush=True)
        generate_waterbirds(plan, Path({str(sources.cub)!r}), Path({str(sources.places)!r}), Path({str(folder)!r}),
                            progress=show, workers=1)
        """
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*/*.jpg"))) < 5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    for path in folder.glob("*/*.jpg"):
        with Image.open(path) as picture:
            picture.load()
    generate_waterbirds(PLAN, *sources, folder)
    whole = {path: content for path, content in files(folder).items() if not path.name.startswith(".")}
    assert whole == files(made.folder)


@pytest.mark.parametrize("other", [{"seed": 4}, {"strength": 0.95}, {"pairs": 7}])
def test_a_folder_of_another_plan_is_left_alone(
    made: Generated, sources: Sources, other: dict[str, float]
) -> None:
    before = files(made.folder)
    with pytest.raises(DataError, match=r"generated with other settings or sources \(see generation.json\)"):
        generate_waterbirds(PLAN.model_copy(update=other), *sources, made.folder)
    assert files(made.folder) == before


def test_a_folder_of_something_else_is_left_alone(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(DataError, match="is not empty, and nothing in it says that it was generated"):
        generate_waterbirds(PLAN, *sources, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_damaged_record_is_an_error(made: Generated, sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "generation.json").write_text("{")
    with pytest.raises(DataError, match=r"generation\.json: is damaged; remove the folder"):
        generate_waterbirds(PLAN, *sources, tmp_path)


class TestBadSources:
    PLAN = WaterbirdsPlan(strength=1.0, pairs=6)

    def names(self, own_sources: Sources) -> list[str]:
        return [bird.img_filename for bird in read_cub(own_sources.cub).birds]

    def test_missing_files_are_all_named_before_any_picture_is_made(
        self, own_sources: Sources, tmp_path: Path
    ) -> None:
        cub = read_cub(own_sources.cub)
        names = self.names(own_sources)
        cub.image(names[0]).unlink()
        cub.mask(names[2]).unlink()
        with pytest.raises(DataError) as error:
            generate_waterbirds(self.PLAN, *own_sources, tmp_path / "out")
        assert str(error.value).splitlines() == [
            "some pictures cannot be made:",
            f"  image 1 ({names[0]}): {cub.image(names[0])} is missing",
            f"  image 3 ({names[2]}): {cub.mask(names[2])} is missing",
            "Restore the files, or leave these birds out with --skip-bad.",
        ]
        assert list((tmp_path / "out").rglob("*.jpg")) == []

    def test_more_than_twenty_are_counted(self, sources: Sources, tmp_path: Path) -> None:
        masks = tmp_path / "segmentations"
        cub = tmp_path / "CUB_200_2011"
        cub.mkdir()
        masks.mkdir()
        for name in ("images.txt", "train_test_split.txt", "images"):
            (cub / name).symlink_to(sources.cub / name)
        with pytest.raises(DataError) as error:
            generate_waterbirds(self.PLAN, cub, sources.places, tmp_path / "out")
        lines = str(error.value).splitlines()
        assert len(lines) == 1 + 20 + 1 + 1
        assert lines[21] == "  and 44 more"

    def test_masks_of_another_size_and_damaged_images_are_named_in_the_end(
        self, own_sources: Sources, tmp_path: Path
    ) -> None:
        cub = read_cub(own_sources.cub)
        names = self.names(own_sources)
        Image.new("L", (7, 5)).save(cub.mask(names[1]))
        cub.image(names[3]).write_bytes(cub.image(names[3]).read_bytes()[:200])
        with pytest.raises(DataError) as error:
            generate_waterbirds(self.PLAN, *own_sources, tmp_path / "out")
        message = str(error.value)
        assert f"image 2 ({names[1]}): mask and image must have the same size, but got mask=7x5" in message
        assert f"image 4 ({names[3]}): {cub.image(names[3])} cannot be read as an image" in message
        assert not (tmp_path / "out" / "metadata.csv").exists()

    def test_skipping_leaves_them_out_and_records_them(self, own_sources: Sources, tmp_path: Path) -> None:
        cub = read_cub(own_sources.cub)
        names = self.names(own_sources)
        cub.mask(names[0]).unlink()
        Image.new("L", (7, 5)).save(cub.mask(names[1]))
        made = generate_waterbirds(self.PLAN, *own_sources, tmp_path / "out", skip_bad=True)
        assert [row.img_id for row in made.rows] == list(range(3, 13))
        assert {pair.row.img_id for pair in made.pairs} <= {row.img_id for row in made.rows if row.split == 0}
        text = (made.folder / "metadata.csv").read_text() + (made.folder / "pairs.csv").read_text()
        assert names[0] not in text
        assert names[1] not in text
        skipped = json.loads((made.folder / "generation.json").read_text())["skipped"]
        assert [entry["where"] for entry in skipped][:2] == [f"image 1 ({names[0]})", f"image 2 ({names[1]})"]
        again = generate_waterbirds(self.PLAN, *own_sources, tmp_path / "out", skip_bad=True)
        assert again.rows == made.rows

    def test_when_nothing_can_be_made_it_says_so(self, own_sources: Sources, tmp_path: Path) -> None:
        for mask in (own_sources.cub / "segmentations").rglob("*.png"):
            mask.unlink()
        with pytest.raises(DataError, match="Not one picture can be made"):
            generate_waterbirds(self.PLAN, *own_sources, tmp_path / "out", skip_bad=True)
