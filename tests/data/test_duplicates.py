"""Detection of duplicate images and of the rows that hold them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from narrowing import as_tensor
from PIL import Image

from ipgl.data import Dataset
from ipgl.data.digits import Digits
from ipgl.data.duplicates import dataset_copies, find_copies, listed
from ipgl.data.image_identity import content_of, contents_of


def test_contents_are_equal_where_values_shape_and_type_are() -> None:
    x = torch.tensor([[[1.0, 2.0]], [[1.0, 2.0]], [[2.0, 1.0]]])
    same, again, turned = contents_of(x)
    assert same == again != turned
    assert len(same) == 16
    assert contents_of(x[:1].transpose(1, 2)) != [same]
    assert contents_of(x[:1].view(torch.int32)) != [same]


def test_a_picture_and_its_array_have_one_content() -> None:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(1, 4, 5, 3)
    assert contents_of(torch.from_numpy(pixels)) == [content_of(Image.fromarray(pixels[0]))]


def test_an_array_that_is_not_contiguous_counts_as_its_copy() -> None:
    x = torch.arange(24).view(2, 3, 4).transpose(1, 2)
    assert contents_of(x) == contents_of(x.contiguous())


def test_no_row_has_no_content() -> None:
    assert contents_of(torch.empty(0, 3, 2, 2)) == []


def test_each_kind_by_hand() -> None:
    letters = "abcdabebcd"
    split = np.array([0, 0, 0, 0, 0, 1, 1, 2, 1, 0])
    label = np.array([0, 0, 0, 0, 1, 0, 0, 1, 0, 0])
    found = find_copies([letter.encode() for letter in letters], split, label)
    # b is in all splits: the test row is named. a has two labels in training; b's differ between splits only.
    assert found.training == ((1, 7), (2, 8))
    assert found.validation == ((5, 7),)
    assert found.conflicting == ((4, 0),)
    assert list(found.counts().values()) == [2, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_against_comparing_every_row_with_every_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels, split, label = rng.integers(0, 30, 60), rng.integers(0, 3, 60), rng.integers(0, 2, 60)
    found = find_copies([bytes([value]) for value in pixels], split, label)
    equal = pixels[:, None] == pixels[None, :]

    def rows(of: int, among: tuple[int, ...]) -> set[int]:
        return {
            i for i in range(60) for j in range(60) if equal[i, j] and split[i] == of and split[j] in among
        }

    assert {row for row, _ in found.training} == rows(0, (1, 2))
    assert {row for row, _ in found.validation} == rows(1, (2,))
    assert all(
        equal[match] for kind in (found.training, found.validation, found.conflicting) for match in kind
    )
    for row, earlier in found.conflicting:
        assert earlier < row
        assert split[row] == split[earlier]
        assert label[row] != label[earlier]
    unlike = {
        (pixels[i], split[i])
        for i in range(60)
        for j in range(60)
        if equal[i, j] and split[i] == split[j] and label[i] != label[j]
    }
    assert {(pixels[row], split[row]) for row, _ in found.conflicting} == unlike


def test_twenty_are_listed_and_the_rest_counted() -> None:
    assert listed(["a", "b"]) == "a; b"
    assert listed([str(n) for n in range(23)]).endswith("18; 19; and 3 more")


@pytest.mark.parametrize("name", ["irm", "domainbed"])
def test_no_digit_stands_in_two_splits(request: pytest.FixtureRequest, name: str) -> None:
    assert set(dataset_copies(request.getfixturevalue(name)).counts().values()) == {0}


def test_a_digit_in_two_splits_would_be_found(irm: Dataset) -> None:
    x = as_tensor(irm.train.x).clone()
    x[5] = as_tensor(irm.test.x)[3]
    found = dataset_copies(replace(irm, train=replace(irm.train, x=x)))
    assert found.training == ((5, len(irm.train) + len(irm.validation) + 3),)


def test_no_digit_of_mnist_is_there_twice(real_mnist: Digits) -> None:
    # 14 x 14 pixels, as the convention `irm` takes them; whole pictures differ all the more.
    contents = contents_of(torch.from_numpy(real_mnist.images[:, ::2, ::2]))
    assert len(set(contents)) == len(contents) == 70_000
