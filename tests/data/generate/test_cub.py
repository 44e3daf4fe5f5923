from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipgl.core.errors import DataError
from ipgl.data.generate.cub import cub_folders, is_water_bird, mask_path, read_cub

if TYPE_CHECKING:
    from tests.data.generate.conftest import Sources


@pytest.mark.parametrize(
    ("folder", "published", "corrected"),
    [
        ("001.Black_footed_Albatross", True, True),
        ("023.Brandt_Cormorant", True, True),
        ("064.Ring_billed_Gull", True, True),
        ("086.Pacific_Loon", True, True),
        ("146.Forsters_Tern", True, True),
        ("053.Western_Grebe", True, True),
        ("021.Eastern_Towhee", True, False),
        ("088.Western_Meadowlark", True, False),
        ("103.Western_Wood_Pewee", True, False),
        ("014.Indigo_Bunting", False, False),
        ("110.Geococcyx", False, False),
    ],
)
def test_species(folder: str, published: bool, corrected: bool) -> None:
    assert is_water_bird(f"{folder}/x.jpg") is published
    assert is_water_bird(f"{folder}/x.jpg", "corrected") is corrected


def test_all_images_are_read_with_their_split(sources: Sources) -> None:
    cub = read_cub(sources.cub)
    assert [bird.img_id for bird in cub.birds] == list(range(1, 65))
    assert [bird.test for bird in cub.birds] == [False] * 40 + [True] * 24
    for bird in cub.birds:
        assert cub.image(bird.img_filename).is_file()
        assert cub.mask(bird.img_filename).is_file()


def test_a_mask_has_its_images_name_and_the_suffix_png(tmp_path: Path) -> None:
    assert mask_path(tmp_path, "001.A/A.B_1.jpg") == tmp_path / "001.A" / "A.B_1.png"


def test_masks_may_stand_beside_the_folder(own_sources: Sources) -> None:
    shutil.move(own_sources.cub / "segmentations", own_sources.cub.parent)
    assert cub_folders(own_sources.cub)[1] == own_sources.cub.parent / "segmentations"
    shutil.rmtree(own_sources.cub.parent / "segmentations")
    with pytest.raises(DataError) as error:
        cub_folders(own_sources.cub)
    assert str(error.value) == (
        f"{own_sources.cub}: CUB-200-2011 needs the folder segmentations, looked for at "
        f"{own_sources.cub / 'segmentations'} and {own_sources.cub.parent / 'segmentations'}; found: README, "
        "classes.txt, image_class_labels.txt, images, images.txt, train_test_split.txt. "
        "Unpack CUB_200_2011.tgz and segmentations.tgz there"
    )


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs the folder images, .* found: no folder"):
        read_cub(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["images.txt", "train_test_split.txt"])
def test_a_missing_table_is_named(own_sources: Sources, name: str) -> None:
    (own_sources.cub / name).unlink()
    with pytest.raises(DataError, match=f"{name}: there is no such file"):
        read_cub(own_sources.cub)


def test_all_faulty_lines_are_named_at_once(own_sources: Sources) -> None:
    images, split = own_sources.cub / "images.txt", own_sources.cub / "train_test_split.txt"
    lines = images.read_text().splitlines()
    lines[0] = "1 ../../etc/passwd"
    lines[1] = "two 001.A/a.jpg"
    lines[3] = f"3 {lines[3].split()[1]}"
    images.write_text("\n".join(lines))
    splits = split.read_text().splitlines()
    splits[4], splits[5] = "5 2", ""
    split.write_text("\n".join(splits))
    with pytest.raises(DataError) as error:
        read_cub(own_sources.cub)
    assert str(error.value).splitlines() == [
        f"{own_sources.cub} is not CUB-200-2011 as published:",
        f"  {images}:2: a line is `<number> <value>`, but got 'two 001.A/a.jpg'",
        f"  {images}:4: image 3 stands in line 3 already",
        f"  {split}:6: a line is `<number> <value>`, but got ''",
        f"  {images}:1: an image is `<number>.<species>/<file>.jpg`, but got '../../etc/passwd'",
        f"  {split}:5: must be 1 (training) or 0 (test), but got '2'",
        f"  {images}:6: image 6 is not in train_test_split.txt",
        "Unpack CUB_200_2011.tgz again.",
    ]


def test_an_empty_table_is_refused(own_sources: Sources) -> None:
    (own_sources.cub / "images.txt").write_text("")
    with pytest.raises(DataError, match="lists no images"):
        read_cub(own_sources.cub)
