"""Waterbirds, CelebA and image folders, from disk to a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import CELEBA_VALUES, picture, save, write_celeba, write_csv, write_waterbirds
from narrowing import as_images, as_tensor, known
from numpy.typing import NDArray
from PIL import Image

from ipgl.config import Component
from ipgl.core.errors import DataError
from ipgl.data import DATASETS, Dataset, Images, Split
from ipgl.data.celeba import read_celeba
from ipgl.data.image_dataset import cache_folder


def build(name: str, **settings: object) -> Dataset:
    entry = DATASETS[name]
    return entry.build(entry.settings.model_validate({"input_size": 28} | settings))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPGL_DATA", str(tmp_path))
    return tmp_path


def resized(image: Image.Image, size: int) -> NDArray[np.uint8]:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def stored(split: Split) -> NDArray[np.uint8]:
    return as_images(split.x).pixels(torch.arange(len(split))).numpy()


class TestWaterbirds:
    @pytest.mark.parametrize("folder", ["waterbird_complete95_forest2water2", "waterbirds_v1.0"])
    def test_splits_and_groups(self, root: Path, folder: str) -> None:
        write_waterbirds(root / folder)
        dataset = build("waterbirds")
        for split in (dataset.train, dataset.validation, dataset.test):
            assert split.y.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
            assert split.attribute.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
            assert split.environment.tolist() == [0] * 8
        assert (dataset.class_names, dataset.attribute_names) == (
            ("landbird", "waterbird"),
            ("land", "water"),
        )
        assert dataset.input_shape == (3, 28, 28)
        assert dataset.notes == ()

    def test_pixels_are_resized_to_eight_sevenths_and_cropped_in_the_middle(self, root: Path) -> None:
        write_waterbirds(root)
        dataset = build("waterbirds")
        with Image.open(root / "002.Bird/Bird_1_0.jpg") as image:
            expected = resized(image, 32)
        assert np.array_equal(stored(dataset.validation)[2], expected)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        middle = (torch.tensor(expected[2:30, 2:30]) / 255 - mean) / std
        torch.testing.assert_close(dataset.validation.x[2:3][0], middle.permute(2, 0, 1), rtol=0, atol=2e-6)

    def test_the_range_of_inputs_is_that_of_black_and_white(self, root: Path) -> None:
        write_waterbirds(root)
        low, high = build("waterbirds").input_range
        assert as_tensor(low).flatten().tolist() == pytest.approx([-2.117904, -2.035714, -1.804444], abs=1e-5)
        assert as_tensor(high).flatten().tolist() == pytest.approx([2.248908, 2.428571, 2.64], abs=1e-5)

    def test_empty_training_groups_are_said_aloud(self, root: Path) -> None:
        write_waterbirds(root / "waterbird_1.0_forest2water2", empty=(1, 2))
        dataset = build("waterbirds")
        assert dataset.train.y.tolist() == [0, 0, 1, 1]
        assert dataset.notes == (
            "no training example of landbird with water: "
            "methods that need every group cannot be trained on this data set",
            "no training example of waterbird with land: "
            "methods that need every group cannot be trained on this data set",
        )

    def test_an_empty_split_is_an_error(self, root: Path) -> None:
        write_waterbirds(root, empty=(0, 1, 2, 3))
        with pytest.raises(DataError, match="the train split must have an image, but it has none"):
            build("waterbirds")

    def test_missing_images_are_named_with_their_lines(self, root: Path) -> None:
        write_waterbirds(root)
        (root / "001.Bird/Bird_0_1.jpg").unlink()
        with pytest.raises(DataError) as caught:
            build("waterbirds")
        assert str(caught.value).splitlines()[:2] == [
            "1 of 24 images cannot be read:",
            f"  {root}/metadata.csv, line 3 (001.Bird/Bird_0_1.jpg): "
            f"the file is missing: {root}/001.Bird/Bird_0_1.jpg",
        ]

    def test_skip_bad_goes_on_and_says_so(self, root: Path) -> None:
        write_waterbirds(root)
        (root / "001.Bird/Bird_0_1.jpg").unlink()
        with (root / "metadata.csv").open("a") as file:
            file.write("99,x.jpg,5,0,0,p\n")
        dataset = build("waterbirds", skip_bad=True)
        assert dataset.train.y.tolist() == [0, 0, 0, 1, 1, 1, 1]
        assert dataset.train.attribute.tolist() == [0, 1, 1, 0, 0, 1, 1]
        with Image.open(root / "002.Bird/Bird_0_0.jpg") as image:
            assert np.array_equal(stored(dataset.train)[1], resized(image, 32))
        assert dataset.notes == (
            f"row left out: {root}/metadata.csv, line 26: y must be one of landbird, waterbird, but got '5'",
            f"image left out: {root}/metadata.csv, line 3 (001.Bird/Bird_0_1.jpg): "
            f"the file is missing: {root}/001.Bird/Bird_0_1.jpg",
        )

    def test_the_fingerprint_follows_content_and_not_place(self, root: Path) -> None:
        write_waterbirds(root / "a")
        write_waterbirds(root / "b")
        first = build("waterbirds", root="a")
        assert build("waterbirds", root="b", cache=str(root / "elsewhere")).fingerprint == first.fingerprint
        assert build("waterbirds", root="a", augment=None).fingerprint != first.fingerprint
        save(root / "b/001.Bird/Bird_0_0.jpg", picture(500))
        assert build("waterbirds", root="b").fingerprint != first.fingerprint

    def test_augmentation_can_be_switched_off(self, root: Path) -> None:
        write_waterbirds(root)
        assert build("waterbirds", augment=None).augment is None
        augment = known(build("waterbirds", augment={"scale": [0.5, 0.9], "flip": False}).augment)
        assert (augment.scale, augment.ratio, augment.flip) == ((0.5, 0.9), (0.75, 4 / 3), False)
        with pytest.raises(ValueError, match=r"`least <= largest` must hold for scale, but got \(0.9, 0.5\)"):
            build("waterbirds", augment={"scale": [0.9, 0.5]})


class TestCelebA:
    @pytest.mark.parametrize("form", ["csv", "txt"])
    def test_label_attribute_and_split(self, root: Path, form: str) -> None:
        write_celeba(root / "celeba", form)
        dataset = build("celeba")
        # Images 1 and 4 train, 2 and 5 validate, 3 and 6 test.
        assert dataset.train.y.tolist() == [0, 1]
        assert dataset.train.attribute.tolist() == [0, 1]
        assert dataset.validation.y.tolist() == [1, 0]
        assert dataset.validation.attribute.tolist() == [0, 1]
        assert dataset.test.y.tolist() == [0, 1]
        assert dataset.test.attribute.tolist() == [1, 0]
        assert dataset.class_names == ("not Blond_Hair", "Blond_Hair")
        assert dataset.attribute_names == ("not Male", "Male")

    def test_both_forms_give_one_data_set(self, root: Path) -> None:
        fingerprints = set()
        for form in ("csv", "txt"):
            write_celeba(root / form, form)
            fingerprints.add(build("celeba", root=form).fingerprint)
        assert len(fingerprints) == 1

    def test_the_middle_178_pixels_are_resized(self, root: Path) -> None:
        write_celeba(root / "celebA/data", "csv")
        dataset = build("celeba")
        with Image.open(root / "celebA/data/img_align_celeba/000004.jpg") as image:
            expected = resized(image.crop((0, 20, 178, 198)), 28)
        assert np.array_equal(stored(dataset.train)[1], expected)

    def test_other_attributes(self, root: Path) -> None:
        write_celeba(root / "celebA_v1.0", "csv")
        dataset = build("celeba", target="Young", attribute="Bald")
        young = [max(0, values[3]) for values in CELEBA_VALUES]
        assert dataset.train.y.tolist() == [young[0], young[3]]
        assert dataset.class_names == ("not Young", "Young")

    @pytest.mark.parametrize("form", ["csv", "txt"])
    def test_the_other_attributes_are_kept_for_those_who_read_them(self, root: Path, form: str) -> None:
        folder = write_celeba(root / "celeba", form)
        whole, _ = read_celeba(folder, "Blond_Hair", "Male")
        assert sorted(whole.extra) == ["Bald", "Blond_Hair", "Male", "Young"]
        assert whole.extra["Young"].tolist() == ["1", "1", "0", "1", "0", "0"]
        part, _ = read_celeba(folder, "Blond_Hair", "Male", others=False)
        assert sorted(part.extra) == ["Blond_Hair", "Male"]
        assert part.label.tolist() == whole.label.tolist() == [0, 1, 0, 1, 0, 1]

    def test_an_unknown_attribute_is_answered_with_the_nearest(self, root: Path) -> None:
        write_celeba(root / "celeba", "txt")
        with pytest.raises(DataError) as caught:
            build("celeba", attribute="Mail")
        assert str(caught.value) == (
            f"{root}/celeba/list_attr_celeba.txt: unknown attribute 'Mail': did you mean 'Male'? "
            "Choices: Bald, Blond_Hair, Male, Young."
        )

    def test_an_image_without_a_split_is_a_fault_of_its_row(self, root: Path) -> None:
        folder = write_celeba(root / "celeba", "csv")
        text = (folder / "list_eval_partition.csv").read_text()
        (folder / "list_eval_partition.csv").write_text(text.replace("000002.jpg,1", "x.jpg,1"))
        with pytest.raises(DataError, match="line 3: split must be train, val, test or 0, 1, 2, but got ''"):
            build("celeba")

    def test_a_short_text_file_is_damaged(self, root: Path) -> None:
        folder = write_celeba(root / "celeba", "txt")
        lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
        (folder / "list_attr_celeba.txt").write_text("\n".join(lines[:-1]))
        with pytest.raises(DataError, match="the first line promises 6 images, but 5 follow"):
            build("celeba")

    def test_a_row_of_another_length_names_its_line(self, root: Path) -> None:
        folder = write_celeba(root / "celeba", "txt")
        text = (folder / "list_attr_celeba.txt").read_text()
        (folder / "list_attr_celeba.txt").write_text(text.replace("000002.jpg  -1", "000002.jpg"))
        with pytest.raises(DataError, match="line 4: 4 values, but there are 5 columns"):
            build("celeba")


class TestImageFolder:
    def write(self, root: Path, rows: list[tuple[str, str, str, str, int]]) -> None:
        for number, row in enumerate(rows):
            save(root / row[0], picture(number))
        write_csv(root / "manifest.csv", ["path", "label", "attribute", "split", "environment"], rows)

    def test_classes_attributes_and_environments_of_ones_own(self, root: Path) -> None:
        rows = [
            ("a.png", "cow", "grass", "train", 0),
            ("b.png", "camel", "sand", "train", 1),
            ("c.png", "bee", "grass", "val", 0),
            ("d.png", "cow", "snow", "test", 2),
        ]
        self.write(root / "mine", rows)
        dataset = build("image_folder", root="mine")
        assert dataset.class_names == ("bee", "camel", "cow")
        assert dataset.attribute_names == ("grass", "sand", "snow")
        assert dataset.train.y.tolist() == [2, 1]
        assert dataset.train.environment.tolist() == [0, 1]
        assert dataset.test.attribute.tolist() == [2]
        assert np.array_equal(stored(dataset.test)[0], resized(picture(3), 32))
        assert len(dataset.notes) == 7  # nine groups, two with training images

    def test_a_missing_manifest(self, root: Path) -> None:
        with pytest.raises(DataError, match=r"manifest\.csv is missing"):
            build("image_folder")


def test_a_data_set_sent_to_another_process_carries_no_pixels(root: Path) -> None:
    import pickle

    write_waterbirds(root)
    dataset = build("waterbirds")
    again = pickle.loads(pickle.dumps(dataset))
    assert isinstance(again.train.x, Images)
    assert torch.equal(again.train.x[:], dataset.train.x[:])


def test_moving_inputs_leaves_labels(root: Path) -> None:
    write_waterbirds(root)
    moved = build("waterbirds").inputs_on(torch.device("meta"))
    assert moved.train.x.device.type == moved.pairs.a.device.type == "meta"
    assert moved.train.y.device.type == "cpu"
    assert as_tensor(moved.input_range[0]).device.type == "meta"


def test_the_cache_lies_beside_the_data_or_at_home(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_folder(None) == root / ".cache/ipgl"
    assert cache_folder("/scratch/x").as_posix() == "/scratch/x"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder(None) == tmp_path / "home/.cache/ipgl"


def test_settings_come_from_study_files(root: Path) -> None:
    write_waterbirds(root)
    component = Component.model_validate({"name": "waterbirds", "input_size": 28})
    entry = DATASETS[component.name]
    assert len(entry.build(entry.settings.model_validate(component.settings)).train) == 8
