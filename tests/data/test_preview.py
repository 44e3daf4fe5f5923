from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ipgl.data import Alignment, Dataset, PairSet, Split
from ipgl.data.input_images import mean_colours, rgb_images
from ipgl.data.preview import group_sheet, pair_sheet, preview_groups


def dataset(
    train: list[tuple[int, int]],
    validation: list[tuple[int, int]],
    test: list[tuple[int, int]],
    channels: int = 3,
) -> Dataset:
    """Splits of (label, attribute); example i of a split is plain, of the value i / 10."""

    def split(rows: list[tuple[int, int]]) -> Split:
        values = torch.arange(len(rows)) / 10
        y, attribute = torch.tensor(rows).T
        x = values[:, None, None, None].expand(-1, channels, 6, 8)
        return Split(x, y, attribute, torch.zeros_like(y))

    first, second, third = (split(rows) for rows in (train, validation, test))
    label = torch.zeros(4, dtype=torch.int64)
    pairs = PairSet(first.x[:4], first.x[:4] + 0.5, label, torch.arange(4))
    return Dataset(first, second, third, pairs, pairs, ("landbird", "waterbird"), ("land", "water"), "f")


@pytest.fixture
def birds() -> Dataset:
    return dataset([(0, 0)] * 5 + [(1, 1)] * 3 + [(1, 0)], [(0, 0), (0, 1)], [(0, 1), (1, 0), (1, 1)])


def test_groups_have_names_counts_and_kind(birds: Dataset) -> None:
    found = [
        (group.name, group.kind, group.counts) for group in preview_groups(birds, alignment=Alignment((0, 1)))
    ]
    assert found == [
        ("landbird, land", "aligned", (5, 1, 0)),
        ("landbird, water", "conflicting", (0, 1, 1)),
        ("waterbird, land", "conflicting", (1, 0, 1)),
        ("waterbird, water", "aligned", (3, 0, 1)),
    ]


def test_samples_are_of_their_group_and_from_the_first_split_that_has_some(birds: Dataset) -> None:
    groups = preview_groups(birds, per_group=3)
    assert [(len(group.samples), group.shown_from) for group in groups] == [
        (3, "training"),
        (1, "validation"),
        (1, "training"),
        (3, "training"),
    ]
    shown = [sorted(np.round(group.samples[:, 0, 0, 0] / 25.5).tolist()) for group in groups]
    assert set(shown[0]) <= {0, 1, 2, 3, 4}
    assert len(set(shown[0])) == 3
    assert shown[1:] == [[1], [8], [5, 6, 7]]


def test_an_empty_group_has_no_sample() -> None:
    groups = preview_groups(dataset([(0, 0), (1, 1)], [(0, 0)], [(1, 1)]))
    assert [len(group.samples) for group in groups] == [1, 0, 0, 1]
    assert groups[1].counts == (0, 0, 0)
    assert (
        group_sheet(groups).size[1]
        < group_sheet(preview_groups(dataset([(0, 0), (1, 1), (0, 1)], [(0, 0)], [(1, 1)]))).size[1]
    )


def test_no_samples_where_none_are_asked_for(birds: Dataset) -> None:
    assert all(len(group.samples) == 0 for group in preview_groups(birds, per_group=0))


def test_equal_seeds_show_equal_samples(birds: Dataset) -> None:
    first, again = (preview_groups(birds, per_group=2, seed=1)[0].samples for _ in range(2))
    assert np.array_equal(first, again)
    others = [preview_groups(birds, per_group=2, seed=seed)[0].samples for seed in range(2, 8)]
    assert any(not np.array_equal(first, other) for other in others)


def test_the_sheet_shows_each_groups_samples_in_its_row(birds: Dataset) -> None:
    sheet = np.asarray(group_sheet(preview_groups(birds, per_group=1), side=20))
    # The row of `waterbird, land` shows its only training example, number 8: 0.8 * 255 = 204.
    columns = sheet[:, 6:26]
    rows = [tuple(np.unique(row)) for row in columns]
    assert rows.count((204,)) == 20


def test_the_sheet_of_pairs_shows_members_above_one_another(birds: Dataset) -> None:
    sheet = np.asarray(pair_sheet(birds, birds.pairs, count=4, side=10))
    values = {int(value) for value in np.unique(sheet)}
    assert {0, 26, 51, 76, 128, 153, 178, 204} <= values  # i * 25.5 and 127.5 more
    assert isinstance(pair_sheet(birds, birds.pairs, count=2), Image.Image)


@pytest.mark.parametrize(
    ("channels", "colour"), [(1, [51, 51, 51]), (2, [51, 51, 0]), (3, [51, 51, 51]), (5, [51, 51, 51])]
)
def test_tensors_become_rgb(channels: int, colour: list[int]) -> None:
    data = dataset([(0, 0)] * 3, [(0, 0)], [(1, 1)], channels)
    shown = rgb_images(data.train.x, torch.tensor([2]), data)
    assert shown.shape == (1, 6, 8, 3)
    assert shown.dtype == np.uint8
    assert shown[0, 0, 0].tolist() == colour


def test_the_range_of_values_fills_the_pictures() -> None:
    data = dataset([(0, 0)] * 3, [(0, 0)], [(1, 1)])
    data = Dataset(**{**vars(data), "input_range": (-0.2, 0.2)})
    assert rgb_images(data.train.x, torch.arange(3), data)[:, 0, 0, 0].tolist() == [128, 191, 255]


def test_fields_are_mean_colours() -> None:
    image = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    image[0, :2, :2] = 100
    image[0, 0, 0] = 200
    assert mean_colours(image, 2)[0, :, :, 0].tolist() == [[125, 0], [0, 0]]
