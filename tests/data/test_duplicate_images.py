"""Duplicate images of a table: an error, left out, or noted for published data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import picture, save, write_csv, write_waterbirds
from narrowing import as_images
from PIL import Image

from ipgl.core.errors import DataError
from ipgl.data import DATASETS, Dataset


def build(name: str, **settings: int) -> Dataset:
    entry = DATASETS[name]
    return entry.build(entry.settings.model_validate({"input_size": 28, "augment": None} | settings))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPGL_DATA", str(tmp_path))
    return tmp_path


# Lines 2 to 9: four train, two validate, two test.
ROWS = [
    (f"{n}.png", n % 2, n // 2 % 2, split)
    for n, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2)
]


@pytest.fixture
def manifest(root: Path) -> Callable[..., Path]:
    """Writes ROWS, and further rows whose pictures are already there."""

    def write(*more: tuple[str, int, int, str]) -> Path:
        for number, (name, *_) in enumerate(ROWS):
            save(root / name, picture(number))
        return write_csv(root / "manifest.csv", ["path", "label", "attribute", "split"], [*ROWS, *more])

    return write


def test_a_table_without_copies_says_nothing(manifest: Callable[..., Path]) -> None:
    manifest()
    assert not [note for note in build("image_folder").notes if "pixels" in note]


@pytest.mark.parametrize("name", ["again.png", "again.bmp", "again.tif"])
@pytest.mark.parametrize(("number", "split", "line"), [(5, "validation", 7), (6, "test", 8)])
def test_a_training_copy_under_another_name_or_format_is_refused(
    root: Path, manifest: Callable[..., Path], name: str, number: int, split: str, line: int
) -> None:
    save(root / name, picture(number))
    file = manifest((name, number % 2, 0, "train"))
    with pytest.raises(DataError) as caught:
        build("image_folder")
    assert str(caught.value) == (
        f"{file}: 1 of 5 training images are also in validation or test:\n"
        f"  {file}, line 10 ({name}): has the pixels of the {split} image of line {line} in manifest.csv "
        f"({number}.png)\n"
        "Take them out of the train split (or all copies into one split), or leave the training copies out with "
        "--skip-bad."
    )


def test_skipping_leaves_the_training_copy_out_and_keeps_the_test_image(
    root: Path, manifest: Callable[..., Path]
) -> None:
    save(root / "again.png", picture(6))
    file = manifest(("again.png", 0, 0, "train"))
    dataset = build("image_folder", skip_bad=True)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [4, 2, 2]
    assert dataset.notes[0] == (
        f"image left out: {file}, line 10 (again.png): has the pixels of the test image of line 8 in manifest.csv "
        "(6.png)"
    )
    for part, first in ((dataset.train, 0), (dataset.validation, 4), (dataset.test, 6)):
        for position, pixels in enumerate(as_images(part.x).pixels(torch.arange(len(part))).numpy()):
            expected = picture(first + position).resize((32, 32), Image.Resampling.BILINEAR)
            assert np.array_equal(pixels, np.asarray(expected))


def test_twenty_are_shown_and_the_rest_counted(root: Path, manifest: Callable[..., Path]) -> None:
    for n in range(23):
        save(root / f"again{n}.png", picture(7))
    manifest(*[(f"again{n}.png", 1, 0, "train") for n in range(23)])
    with pytest.raises(DataError) as caught:
        build("image_folder")
    lines = str(caught.value).splitlines()
    assert "23 of 27 training images" in lines[0]
    assert len(lines) == 23
    assert lines[21] == "  and 3 more"


def test_a_copy_of_another_size_is_another_picture(root: Path, manifest: Callable[..., Path]) -> None:
    save(root / "large.png", picture(6).resize((80, 60)))
    manifest(("large.png", 0, 0, "train"))
    assert len(build("image_folder").train) == 5


def test_pictures_that_only_resizing_makes_equal_are_two(root: Path, manifest: Callable[..., Path]) -> None:
    one = np.asarray(picture(6)).copy()
    one[0, 0] ^= 1  # one grey level in a corner: gone after resizing 40 x 30 to 9 x 9
    save(root / "near.png", Image.fromarray(one))
    manifest(("near.png", 0, 0, "train"))
    dataset = build("image_folder", input_size=8)
    assert len(dataset.train) == 5
    assert torch.equal(dataset.train.x[4:5], dataset.test.x[0:1])


def test_validation_copies_and_unlike_labels_are_noted_with_their_rows(
    root: Path, manifest: Callable[..., Path]
) -> None:
    save(root / "v.png", picture(7))
    save(root / "t.png", picture(0))
    file = manifest(("v.png", 1, 0, "val"), ("t.png", 1, 0, "train"))
    notes = [note for note in build("image_folder").notes if "pixels" in note]
    assert notes == [
        f"{file}: 1 of 3 validation images have the pixels of a test image, so that test images take part in "
        "selection: validation line 10 (v.png) and test line 9 (7.png)",
        f"{file}: 1 of 10 images have the pixels of another image of their split, but another label: "
        "train line 11 (t.png) and train line 2 (0.png), labels 1 and 0",
    ]


def test_a_published_split_is_what_it_is(root: Path) -> None:
    write_waterbirds(root)
    save(root / "001.Bird/Bird_0_1.jpg", picture(17))
    # Written anew, so that the JPEGs hold equal pixels.
    save(root / "001.Bird/Bird_2_1.jpg", picture(17))
    dataset = build("waterbirds")
    assert len(dataset.train) == 8
    assert dataset.notes == (
        f"{root}/metadata.csv: 1 of 8 training images have the pixels of a validation or test image, so that "
        "accuracies there are partly of images that were trained on: train line 3 (001.Bird/Bird_0_1.jpg) and test "
        "line 19 (001.Bird/Bird_2_1.jpg)",
    )
    assert len(build("waterbirds", skip_bad=True).train) == 8
