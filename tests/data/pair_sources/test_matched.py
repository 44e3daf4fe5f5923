from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from narrowing import as_images, as_rows
from numpy.typing import NDArray

from ipgl.core.errors import DataError
from ipgl.data.pair_sources import ImagePairSettings, make_pairs
from ipgl.data.pair_sources.candidates import Candidates
from ipgl.data.pair_sources.matched import matched_pairs
from ipgl.data.table import ImageTable

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


# label, attribute, then three binary columns; rows 0 to 7 train, 8 validates, 9 tests.
FACES = [
    (0, 0, "000"),
    (0, 1, "001"),  # one column from 0
    (0, 0, "111"),
    (0, 1, "111"),  # the same as 2
    (1, 0, "010"),
    (1, 1, "011"),  # one from 4
    (1, 1, "110"),  # one from 4
    (1, 0, "101"),  # two from 5 and from 6
    (0, 1, "000"),  # as 0, but validation
    (0, 0, "001"),  # as 1, but test
]


def settings(**values: object) -> ImagePairSettings:
    return ImagePairSettings.model_validate({"source": "matched", "held_out": 1} | values)


@pytest.fixture
def table(make_table: Callable[..., ImageTable]) -> ImageTable:
    rows = [(y, a, 0 if i < 8 else i - 7) for i, (y, a, _) in enumerate(FACES)]
    columns = {f"c{k}": [int(bits[k]) for *_, bits in FACES] for k in range(3)}
    # Columns that rename label and attribute, as CelebA's table holds, and one of text.
    columns |= {"Male": [a for _, a, _ in FACES], "Blond": [1 - y for y, *_ in FACES]}
    return make_table(rows, **columns, name=list("abababababab"[:10]))


def pairs_of(found: Candidates) -> set[frozenset[int]]:
    return {
        frozenset(pair) for pair in zip(as_rows(found.a).tolist(), as_rows(found.b).tolist(), strict=True)
    }


def test_the_nearest_of_the_other_attribute_and_the_same_label(
    table: ImageTable, make_request: MakeRequest
) -> None:
    found = matched_pairs(settings(), make_request(table))
    assert {frozenset({0, 1}), frozenset({2, 3})} <= pairs_of(found)
    second = pairs_of(found) - {frozenset({0, 1}), frozenset({2, 3})}
    assert second in ({frozenset({4, 5}), frozenset({7, 6})}, {frozenset({4, 6}), frozenset({7, 5})})
    assert found.notes == (
        "matched pairs differ in 1.00 of 3 other columns on average (4 pairs to choose from)",
    )


def test_members_roles_are_the_attributes_values(table: ImageTable, make_request: MakeRequest) -> None:
    found = matched_pairs(settings(), make_request(table))
    assert (table.attribute[as_rows(found.a)] == 0).all()
    assert (table.attribute[as_rows(found.b)] == 1).all()
    assert (table.label[as_rows(found.a)] == found.label).all()
    assert (table.label[as_rows(found.b)] == found.label).all()
    assert found.source.tolist() == as_rows(found.a).tolist()  # training rows come first here


def test_differences_are_bounded_where_asked(table: ImageTable, make_request: MakeRequest) -> None:
    found = matched_pairs(settings(max_difference=0), make_request(table))
    assert pairs_of(found) == {frozenset({2, 3})}
    found = matched_pairs(settings(max_difference=1), make_request(table))
    assert len(found) == 3


def test_only_named_columns_count(table: ImageTable, make_request: MakeRequest) -> None:
    found = matched_pairs(settings(columns=["c0"], max_difference=0), make_request(table))
    assert {table.extra["c0"][i] + table.extra["c0"][j] for i, j in pairs_of(found)} <= {"00", "11"}


def test_pixels_come_from_the_cache_without_a_second_decoding(
    table: ImageTable, make_request: MakeRequest
) -> None:
    request = make_request(table)
    made = make_pairs(settings(), request)
    assert as_images(made.pairs.a).file is request.images.file
    assert len(made.pairs) == 3


def test_many_images_are_matched_one_to_one(
    make_table: Callable[..., ImageTable], make_request: MakeRequest
) -> None:
    rng = np.random.default_rng(0)
    count = 400
    rows = [(int(i % 2), int(rng.random() < 0.3), 0) for i in range(count)]
    rows[-2:] = [(0, 0, 1), (0, 0, 2)]
    columns = {f"c{k}": rng.integers(0, 2, count) for k in range(6)}
    table = make_table(rows, **columns)
    found = matched_pairs(settings(), make_request(table))
    members = [*as_rows(found.a).tolist(), *as_rows(found.b).tolist()]
    assert len(set(members)) == len(members)
    smaller = sum(min(sum(r == (y, a, 0) for r in rows) for a in (0, 1)) for y in (0, 1))
    assert len(found) == smaller
    bits = np.stack([table.extra[f"c{k}"].astype(int) for k in range(6)], axis=1)
    # Two of 64 random patterns differ in 3 of 6 bits on average; the nearest in far fewer.
    assert np.abs(bits[as_rows(found.a)] - bits[as_rows(found.b)]).sum(axis=1).mean() < 1


def test_a_small_request_looks_at_few_anchors(
    make_table: Callable[..., ImageTable], make_request: MakeRequest
) -> None:
    rows = [(0, i % 2, 0) for i in range(60)] + [(1, 0, 0), (0, 0, 1), (0, 0, 2)]
    table = make_table(rows, c0=[i % 3 % 2 for i in range(63)], c1=[i % 2 for i in range(63)])
    assert len(matched_pairs(settings(train=4), make_request(table))) == 5


def test_three_attribute_values_are_matched_across(
    make_table: Callable[..., ImageTable], make_request: MakeRequest
) -> None:
    rows = [(0, a, 0) for a in (0, 1, 2, 0, 1, 2)] + [(1, 0, 0), (0, 0, 1), (0, 0, 2)]
    table = make_table(rows, c=[0, 0, 1, 1, 1, 0, 0, 0, 0])
    found = matched_pairs(settings(), make_request(table))
    assert len(found) == 2  # both of value 0 find partners of value 1; those of value 2 are left
    assert (table.attribute[as_rows(found.a)] < table.attribute[as_rows(found.b)]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"columns": ["c9"]}, "unknown column 'c9' in pairs.columns: Choices: Blond, Male, c0"),
        ({"columns": ["name"]}, "column 'name' in pairs.columns must hold numbers"),
        ({"columns": ["Male"]}, "need columns of numbers beside label and attribute, but there are none"),
    ],
)
def test_columns_that_cannot_be_matched(
    table: ImageTable, make_request: MakeRequest, values: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        matched_pairs(settings(**values), make_request(table))


def test_nothing_to_match(make_table: Callable[..., ImageTable], make_request: MakeRequest) -> None:
    table = make_table([(0, 0, 0), (1, 1, 0), (0, 0, 1), (0, 0, 2)], c=[0, 1, 0, 0], d=[0, 1, 1, 1])
    with pytest.raises(DataError, match="need columns of numbers beside"):
        matched_pairs(settings(), make_request(table))
    table = make_table([(0, 0, 0), (0, 0, 0), (1, 1, 0), (0, 0, 1), (0, 0, 2)], c=[0, 1, 1, 0, 0])
    with pytest.raises(
        DataError, match="need training images of one label with different attributes, but there are"
    ):
        matched_pairs(settings(), make_request(table))


class TestGivenFeatures:
    """Vectors in a file, in which members agree instead of in columns."""

    # Rows 0 to 7 are the training images: 0 points as 3 does, and 2 as 1, but for length.
    VECTORS = np.array([[1, 0], [0, 2], [0, 1], [3, 0], [1, 1], [1, 0.9], [-1, 0], [-2, 0]], dtype=np.float32)

    def test_the_direction_alone_counts(self, table: ImageTable, make_request: MakeRequest) -> None:
        np.save(table.root / "f.npy", self.VECTORS)
        found = matched_pairs(settings(features="f.npy"), make_request(table))
        assert pairs_of(found) == {frozenset(pair) for pair in ({0, 3}, {1, 2}, {4, 5}, {6, 7})}
        # cosines 1, 1, 1.9 / sqrt(2 * 1.81), 1
        mean = (3 + 1.9 / np.sqrt(2 * 1.81)) / 4
        assert found.notes == (
            f"members of matched pairs have features of cosine {mean:.3f} on average (4 pairs to choose from)",
        )

    @pytest.mark.parametrize(
        ("vectors", "shape"),
        [(VECTORS[:7], r"\[7, 2\]"), (VECTORS[:, 0], r"\[8\]"), (np.full((8, 2), np.nan), r"\[8, 2\]")],
    )
    def test_vectors_that_do_not_fit(
        self, table: ImageTable, make_request: MakeRequest, vectors: NDArray[np.generic], shape: str
    ) -> None:
        np.save(table.root / "f.npy", vectors)
        with pytest.raises(
            DataError, match=rf"f.npy: .* each of the 8 training images, but has shape {shape}"
        ):
            matched_pairs(settings(features="f.npy"), make_request(table))

    def test_a_file_that_is_none(self, table: ImageTable, make_request: MakeRequest) -> None:
        with pytest.raises(DataError, match=r"g.npy: pairs.features cannot be read"):
            matched_pairs(settings(features="g.npy"), make_request(table))

    def test_features_leave_no_place_for_columns(self) -> None:
        with pytest.raises(ValueError, match="features replaces columns and max_difference; leave those out"):
            settings(features="f.npy", columns=["c0"])
