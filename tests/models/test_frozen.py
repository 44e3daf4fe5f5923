"""Features of a frozen backbone: computed once, kept, and what trains on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from image_rows import image_dataset
from narrowing import as_tensor

from ipgl.config import Component
from ipgl.core.errors import DataError
from ipgl.data import Dataset, Images
from ipgl.data.augment import RandomResizedCrop
from ipgl.models import MODELS, Classifier, frozen
from ipgl.models.frozen import is_frozen, with_frozen_features

MODEL = Component.model_validate({"name": "resnet18", "frozen": True})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return image_dataset(tmp_path, RandomResizedCrop())


def test_features_are_those_of_the_backbone_in_evaluation_mode(dataset: Dataset, tmp_path: Path) -> None:
    found = with_frozen_features(dataset, MODEL, tmp_path / "cache")
    backbone = frozen._backbone(MODEL, dataset)
    with torch.inference_mode():
        for part in ("train", "validation", "test"):
            expected = backbone.features(getattr(dataset, part).x[:])
            torch.testing.assert_close(getattr(found, part).x, expected, rtol=1e-5, atol=1e-5)
        for part in ("pairs", "held_out_pairs"):
            for member in "ab":
                expected = backbone.features(getattr(getattr(dataset, part), member)[:])
                torch.testing.assert_close(
                    getattr(getattr(found, part), member), expected, rtol=1e-5, atol=1e-5
                )
    assert found.input_shape == (512,)
    assert as_tensor(found.train.x).dtype == torch.float32
    assert torch.equal(found.train.y, dataset.train.y)
    assert torch.equal(found.pairs.source, dataset.pairs.source)


def test_nothing_is_augmented_and_that_is_said(dataset: Dataset, tmp_path: Path) -> None:
    found = with_frozen_features(dataset, MODEL, tmp_path / "cache")
    assert found.augment is None
    assert found.notes == ("features of a frozen resnet18: training sees each image as evaluation does",)


def test_the_range_is_that_of_each_feature_in_training(dataset: Dataset, tmp_path: Path) -> None:
    found = with_frozen_features(dataset, MODEL, tmp_path / "cache")
    low, high = found.input_range
    x = as_tensor(found.train.x)
    assert as_tensor(low).shape == as_tensor(high).shape == (512,)
    assert torch.equal(as_tensor(low), x.min(dim=0).values)
    assert torch.equal(as_tensor(high), x.max(dim=0).values)


def test_features_are_computed_once(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = with_frozen_features(dataset, MODEL, tmp_path / "cache")

    def computed(*arguments: Classifier | list[Images]) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(frozen, "_features", computed)
    torch.manual_seed(5)
    second = with_frozen_features(dataset, MODEL, tmp_path / "cache")
    assert torch.equal(as_tensor(first.train.x), as_tensor(second.train.x))
    assert first.fingerprint == second.fingerprint != dataset.fingerprint
    with pytest.raises(AssertionError, match="computed again"):
        with_frozen_features(dataclasses.replace(dataset, fingerprint="other"), MODEL, tmp_path / "cache")


def test_a_damaged_file_is_computed_again(dataset: Dataset, tmp_path: Path) -> None:
    first = as_tensor(with_frozen_features(dataset, MODEL, tmp_path / "cache").train.x).clone()
    (file,) = (tmp_path / "cache").glob("features-*.npy")
    file.write_bytes(file.read_bytes()[:-4])
    assert torch.equal(as_tensor(with_frozen_features(dataset, MODEL, tmp_path / "cache").train.x), first)


def test_other_weights_give_other_features(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = with_frozen_features(dataset, MODEL, tmp_path / "cache")
    monkeypatch.setattr(frozen, "derive_seed", lambda *names: 1)
    second = with_frozen_features(dataset, MODEL, tmp_path / "cache")
    assert first.fingerprint != second.fingerprint
    assert not torch.equal(as_tensor(first.train.x), as_tensor(second.train.x))
    assert len(list((tmp_path / "cache").glob("features-*.npy"))) == 2


def test_the_processs_random_numbers_stay_as_they_are(dataset: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with_frozen_features(dataset, MODEL, tmp_path / "cache")
    assert torch.equal(torch.rand(1), expected)


def test_the_model_of_a_trial_is_a_head(dataset: Dataset, tmp_path: Path) -> None:
    found = with_frozen_features(dataset, MODEL, tmp_path / "cache")
    entry = MODELS["resnet18"]
    model = entry.build(entry.settings.model_validate({"frozen": True}), found.input_shape, 2)
    assert [tuple(p.shape) for p in model.parameters()] == [(2, 512), (2,)]
    assert torch.equal(model.features(found.train.x), as_tensor(found.train.x))
    with pytest.raises(ValueError, match=r"takes features \[d\], but got inputs of shape \(3, 16, 16\)"):
        entry.build(entry.settings.model_validate({"frozen": True}), dataset.input_shape, 2)


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file: features cannot be kept there \(File exists\)"):
        with_frozen_features(dataset, MODEL, tmp_path / "file")


@pytest.mark.parametrize(
    ("settings", "expected"), [({"frozen": True}, True), ({"frozen": False}, False), ({}, False)]
)
def test_which_models_are_frozen(settings: dict[str, bool], expected: bool) -> None:
    assert is_frozen(Component.model_validate({"name": "resnet18"} | settings)) is expected
