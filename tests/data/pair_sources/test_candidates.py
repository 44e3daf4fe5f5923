from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipgl.core.errors import DataError
from ipgl.data.pair_sources import ImagePairSettings
from ipgl.data.pair_sources.candidates import Candidates, choose, units_of


def candidates(unit: range | list[int]) -> Candidates:
    zeros = np.zeros(len(unit), dtype=np.int64)
    return Candidates(zeros, zeros, zeros, zeros, np.array(unit), tuple(map(str, range(len(unit)))))


def settings(**values: int) -> ImagePairSettings:
    return ImagePairSettings.model_validate({"source": "matched"} | values)


def test_pairs_that_share_a_picture_through_others_are_one_unit() -> None:
    units = units_of("abxpd", "bcyqc")  # a-b, b-c, x-y, p-q, d-c
    assert units[0] == units[1] == units[4]
    assert len({units[0], units[2], units[3]}) == 3


def test_no_pairs_have_no_units() -> None:
    assert len(units_of([], [])) == 0


def test_the_split_is_seeded_and_disjoint() -> None:
    found = candidates(range(20))
    train, held_out = choose(found, settings(train=12, held_out=5))
    assert (len(train), len(held_out)) == (12, 5)
    assert len({*train.tolist(), *held_out.tolist()}) == 17
    again = choose(found, settings(train=12, held_out=5))
    assert [part.tolist() for part in again] == [train.tolist(), held_out.tolist()]
    assert choose(found, settings(train=12, held_out=5, seed=1))[0].tolist() != train.tolist()


def test_null_is_all_others() -> None:
    train, held_out = choose(candidates(range(20)), settings(held_out=5))
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(20))


def test_held_out_pairs_do_not_change_with_the_number_of_training_pairs() -> None:
    found = candidates(range(20))
    assert (
        choose(found, settings(train=1, held_out=5))[1].tolist()
        == choose(found, settings(held_out=5))[1].tolist()
    )


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 3))
def test_no_unit_is_on_both_sides(units: list[int], held_out: int, seed: int) -> None:
    try:
        train, held = choose(candidates(units), settings(held_out=held_out, seed=seed))
    except DataError:
        return
    assert not {units[i] for i in train} & {units[i] for i in held}
    assert len(held) == held_out
    assert len(train) == len(units) - held_out


def test_too_few_pairs_name_all_numbers() -> None:
    with pytest.raises(DataError) as error:
        choose(candidates(range(7)), settings(train=5, held_out=3))
    assert str(error.value) == (
        "pairs: 5 for training and 3 held out are asked for, but source matched has 7 pairs; "
        "lower pairs.train or pairs.held_out"
    )


def test_pairs_of_one_picture_cannot_be_parted() -> None:
    with pytest.raises(DataError, match=r"has 7 pairs, of which 1 share no picture with another"):
        choose(candidates([3] * 7), settings(held_out=2))
