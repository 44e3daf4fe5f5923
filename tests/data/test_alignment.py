"""Alignment of classes and attribute values: found from counts, by chance, and as configured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency, norm

from ipgl.core.errors import DataError
from ipgl.data import Alignment, find_alignment, resolve_alignment
from ipgl.data.alignment import StatedAlignment, _gaps, _independence_p_value, _residual_p_values


def found(counts: list[list[int]], names: tuple[str, ...] = ()) -> Alignment:
    return find_alignment(torch.tensor(counts), names)


@pytest.mark.parametrize(
    ("counts", "attributes"),
    [
        # CelebA by (blond, male): women lead in both classes, and blond is associated with female all the same.
        ([[71629, 66874], [22880, 1387]], (1, 0)),
        # Waterbirds by (bird, place), and Waterbirds-100.
        ([[3498, 184], [56, 1057]], (0, 1)),
        ([[3662, 0], [0, 1133]], (0, 1)),
        # The other way round: agreement is no matter of numbering.
        ([[184, 3498], [1057, 56]], (1, 0)),
        # One class has one value only.
        ([[50, 0], [25, 25]], (0, 1)),
        # Each of three classes has its own of three values, or of four, of which one is nobody's.
        ([[90, 5, 5], [5, 5, 90], [5, 90, 5]], (0, 2, 1)),
        ([[80, 5, 5, 10], [5, 5, 80, 10], [5, 80, 5, 10]], (0, 2, 1)),
        # Fewer values than classes, as ten digits in two colours: classes share.
        ([[90, 10], [80, 20], [10, 90]], (0, 0, 1)),
        # Enough values, but one of them is over-represented nowhere else: two classes share the first.
        ([[90, 5, 5], [85, 10, 5], [5, 90, 5]], (0, 0, 1)),
        # The largest gaps of classes 0 and 1 are both in value 0 (0.3 and 0.45); class 0 also leads in value 2 (0.175).
        ([[70, 10, 20], [80, 20, 0], [0, 95, 5]], (2, 0, 1)),
        # Just over the least gap: 0.55 - 0.45.
        ([[5500, 4500], [4500, 5500]], (0, 1)),
    ],
)
def test_alignment_by_association(counts: list[list[int]], attributes: tuple[int, ...]) -> None:
    assert found(counts) == Alignment(attributes)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([[500, 500], [500, 500]], "label and attribute are not associated in training"),
        # One value leads in both classes alike: a majority, and no association.
        ([[900, 100], [450, 50]], "label and attribute are not associated in training"),
        # Five to none against none to five: one sample in about 126 of ten independent examples is as extreme.
        ([[5, 0], [0, 5]], "label and attribute are not associated in training"),
        # Significant (p = 3e-9), but 4.2 points apart.
        ([[5210, 4790], [4790, 5210]], "no attribute value is over-represented in class 0"),
        # Classes 0 and 1 have their values; class 2 has both as often as the others together do.
        ([[900, 100], [100, 900], [500, 500]], "no attribute value is over-represented in class 2"),
        ([[70], [30]], "training shows one attribute value"),
        ([[0, 70], [0, 30]], "training shows one attribute value"),
        ([[50, 50]], "there is one class"),
        ([[50, 50], [0, 0]], "class 1 has no training examples"),
        ([[0, 0], [0, 0]], "training shows one attribute value"),
    ],
)
def test_no_alignment(counts: list[list[int]], reason: str) -> None:
    alignment = found(counts)
    assert alignment.attributes is None
    assert alignment.reason.startswith(reason)
    assert alignment.agrees(0, 0) is None


def test_the_reason_has_the_class_s_name() -> None:
    reason = found([[900, 100], [100, 900], [500, 500]], ("cat", "dog", "owl")).reason
    assert reason == (
        "no attribute value is over-represented in class 'owl' relative to the other classes (by 5 percentage points "
        "or more, p < 0.001)"
    )


@pytest.mark.parametrize("shape", [(2, 2), (2, 10), (5, 5), (10, 2)])
@pytest.mark.parametrize("lead", [0.5, 0.9])
def test_chance_is_no_association(shape: tuple[int, int], lead: float) -> None:
    """Of 2,000 independent samples at most a few in 1,000 may pass, even where one value leads everywhere."""
    rng = np.random.default_rng(0)
    classes, values = shape
    shares = np.array([lead, *[(1 - lead) / (values - 1)] * (values - 1)])
    drawn = rng.multinomial(400 // classes, shares, size=(2000, classes))
    passed = sum(find_alignment(torch.from_numpy(counts)).attributes is not None for counts in drawn)
    assert passed <= 8


def test_agreement_of_a_group() -> None:
    alignment = Alignment((1, 0))
    assert [[alignment.agrees(y, a) for a in range(3)] for y in range(2)] == [
        [False, True, False],
        [True, False, False],
    ]


def test_gaps_by_hand() -> None:
    # P(0 | y) is 0.9, 0.2, 0.4; P(0 | others) is (20 + 80) / 300, (90 + 80) / 300, (90 + 20) / 200.
    gaps = _gaps(torch.tensor([[90.0, 10.0], [20.0, 80.0], [80.0, 120.0]]))
    expected = [
        [0.9 - 100 / 300, 0.1 - 200 / 300],
        [0.2 - 170 / 300, 0.8 - 130 / 300],
        [0.4 - 0.55, 0.6 - 0.45],
    ]
    np.testing.assert_allclose(gaps, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "counts", [[[3498, 184], [56, 1057]], [[12, 5, 3], [4, 9, 7]], [[30, 25, 0], [28, 30, 0]]]
)
def test_p_values_are_scipy_s(counts: list[list[int]]) -> None:
    table = np.array(counts)
    full = table[:, table.sum(axis=0) > 0]
    expected = chi2_contingency(full, correction=False).pvalue
    assert _independence_p_value(torch.tensor(counts).double()) == pytest.approx(
        expected, rel=1e-9, abs=1e-300
    )
    found = _residual_p_values(torch.tensor(counts).double())
    for y, a in np.ndindex(table.shape):
        one = np.array([[table[y, a], table[y].sum() - table[y, a]]])
        rest = np.array(
            [
                [
                    table[:, a].sum() - table[y, a],
                    table.sum() - table[y].sum() - table[:, a].sum() + table[y, a],
                ]
            ]
        )
        if table[:, a].sum() == 0:
            assert found[y, a] == 1
            continue
        statistic = chi2_contingency(np.concatenate([one, rest]), correction=False).statistic
        sign = 1 if one[0, 0] / one.sum() > rest[0, 0] / rest.sum() else -1
        assert float(found[y, a]) == pytest.approx(norm.sf(sign * math.sqrt(statistic)), rel=1e-6, abs=1e-300)


NAMES = (("dark", "blond"), ("female", "male"))
COUNTS = torch.tensor([[71629, 66874], [22880, 1387]])


@pytest.mark.parametrize(
    ("stated", "attributes"),
    [
        ("auto", (1, 0)),
        ({"dark": "male", "blond": "female"}, (1, 0)),
        ({"blond": 1, "dark": "0"}, (0, 1)),
        ({"0": "female", "1": "male"}, (0, 1)),
        ([0, 1], (0, 1)),
        (("male", "female"), (1, 0)),
    ],
)
def test_a_study_may_state_it(stated: StatedAlignment, attributes: tuple[int, int]) -> None:
    assert resolve_alignment(stated, COUNTS, *NAMES) == Alignment(attributes)


def test_a_study_may_say_that_there_is_none() -> None:
    assert resolve_alignment("none", COUNTS, *NAMES) == Alignment(None, "evaluation.alignment is none")


def test_names_that_look_like_numbers_go_before_numbers() -> None:
    counts = torch.tensor([[9, 1], [1, 9]])
    assert resolve_alignment({"1": "b", "0": "a"}, counts, ("1", "0"), ("b", "a")) == Alignment((0, 1))


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"dark": 0, "bald": 1}, "the data set has no class 'bald'; choose one of dark, blond (or 0 to 1)"),
        (["tall", 1], "the data set has no attribute value 'tall'; choose one of female, male (or 0 to 1)"),
        ([0, 2], "the data set has no attribute value 2; choose one of female, male (or 0 to 1)"),
        ([0, -1], "the data set has no attribute value -1; choose one of female, male (or 0 to 1)"),
        ({"dark": 0}, "every class needs its attribute value, but blond has none"),
        ({"dark": 0, "0": 1}, "a class stands once, but 'dark' stands twice, once as '0'"),
        ([0, 1, 0], "a list has one attribute value for each of the 2 classes (dark, blond), but got 3: [0, 1, 0]"),
        (
            [0, "female"],
            "classes must not all have the same attribute value, because it would then say nothing about the label, "
            "but each has 'female'; give at least two classes different ones, or none",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_is_refused(
    stated: dict[str, int] | list[str | int], message: str
) -> None:
    with pytest.raises(DataError) as error:
        resolve_alignment(stated, COUNTS, *NAMES)
    assert str(error.value) == message
