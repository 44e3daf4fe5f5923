from __future__ import annotations

import math
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipgl.config import Choice, Int, LogInt, LogUniform, RangeError, Uniform, parse_range
from ipgl.config.ranges import RANGES, contains, width, width_text

_Number = TypeVar("_Number", int, float)

NUMERIC = ["uniform", "log_uniform", "int", "log_int"]
REAL = ["uniform", "log_uniform"]
WHOLE = ["int", "log_int"]
LOGARITHMIC = ["log_uniform", "log_int"]


def refusal(value: object) -> str:
    with pytest.raises(RangeError) as caught:
        parse_range(value)
    return str(caught.value)


class TestParsing:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ({"uniform": [-1, 2.5]}, Uniform(-1, 2.5)),
            ({"log_uniform": [1e-5, 1]}, LogUniform(1e-5, 1)),
            ({"int": [-2, 3]}, Int(-2, 3)),
            ({"log_int": [1, 64]}, LogInt(1, 64)),
            ({"choice": ["a", 1, 2.5, True, None]}, Choice(("a", 1, 2.5, True, None))),
            ({"uniform": [2, 2]}, Uniform(2, 2)),
        ],
    )
    def test_each_kind(
        self, raw: dict[str, list[float | str | None]], expected: Uniform | Int | Choice
    ) -> None:
        assert parse_range(raw) == expected
        assert type(parse_range(raw)) is type(expected)

    def test_bounds_of_whole_numbers_may_be_written_as_reals(self) -> None:
        found = parse_range({"int": [1.0, 1e3]})
        assert found == Int(1, 1000)
        assert isinstance(found, Int)
        assert isinstance(found.high, int)

    @pytest.mark.parametrize("value", [3, "uniform", None, [1, 2], {}, {"lr": 1}, {"a": 1, "b": 2}])
    def test_what_is_no_range_is_none(self, value: object) -> None:
        assert parse_range(value) is None

    def test_a_range_among_other_keys_is_no_range(self) -> None:
        assert parse_range({"uniform": [1, 2], "lr": 3}) is None


class TestRefusals:
    @pytest.mark.parametrize("kind", NUMERIC)
    def test_upside_down(self, kind: str) -> None:
        assert refusal({kind: [5, 2]}) == "`low <= high` must hold, but got (low=5, high=2); swap the two"

    @pytest.mark.parametrize("kind", LOGARITHMIC)
    @pytest.mark.parametrize("low", [0, -3])
    def test_logarithmic_from_zero_or_below(self, kind: str, low: int) -> None:
        assert refusal({kind: [low, 2]}) == (
            f"`low > 0` must hold for a logarithmic range, but got (low={low}, high=2)"
        )

    @pytest.mark.parametrize("kind", NUMERIC)
    @pytest.mark.parametrize(
        "bounds", [[], [1], [1, 2, 3], [True, 2], [1, False], ["1", 2], [None, 1], [[1], 2]], ids=repr
    )
    def test_not_two_numbers(self, kind: str, bounds: list[int | str | list[int] | None]) -> None:
        assert refusal({kind: bounds}) == f"`{kind}` takes two numbers [low, high], but got {bounds!r}"

    @pytest.mark.parametrize("kind", [*NUMERIC, "choice"])
    @pytest.mark.parametrize("value", [3, "ab", None, {"low": 1, "high": 2}], ids=repr)
    def test_not_a_list(self, kind: str, value: int | str | dict[str, int] | None) -> None:
        assert refusal({kind: value}) == f"`{kind}` takes a list, but got {value!r}"

    @pytest.mark.parametrize("kind", WHOLE)
    def test_fractions_in_a_range_of_whole_numbers(self, kind: str) -> None:
        assert refusal({kind: [1.5, 3]}) == "both bounds must be whole numbers, but got low=1.5"
        assert refusal({kind: [1, 3.5]}) == "both bounds must be whole numbers, but got high=3.5"

    @pytest.mark.parametrize("kind", REAL)
    @pytest.mark.parametrize("bounds", [[1, math.inf], [-math.inf, 1], [math.nan, 1], [1, math.nan]])
    def test_bounds_without_end(self, kind: str, bounds: list[float]) -> None:
        low, high = bounds
        assert refusal({kind: bounds}) == f"both bounds must be finite, but got ({low=}, {high=})"

    @pytest.mark.parametrize("kind", WHOLE)
    @pytest.mark.parametrize("bound", [math.inf, math.nan])
    def test_whole_bounds_without_end(self, kind: str, bound: float) -> None:
        assert refusal({kind: [1, bound]}) == f"both bounds must be whole numbers, but got high={bound}"

    @pytest.mark.parametrize("kind", NUMERIC)
    def test_bounds_beyond_what_a_float_holds(self, kind: str) -> None:
        assert refusal({kind: [1, 10**400]}).startswith("both bounds must be finite, but got [1, 1000")

    def test_choice_of_nothing(self) -> None:
        assert refusal({"choice": []}) == "`choice` needs at least one value, but got []"

    def test_choice_of_something_that_is_no_plain_value(self) -> None:
        assert refusal({"choice": [1, [2, 3]]}) == "`choice` lists plain values, but got [2, 3]"


class TestContains:
    @pytest.mark.parametrize(
        ("space", "value", "expected"),
        [
            (Uniform(1, 2), 1, True),
            (Uniform(1, 2), 2.0, True),
            (Uniform(1, 2), 2.1, False),
            (Uniform(0, 2), True, False),
            (Uniform(1, 2), "1.5", False),
            (Uniform(1, 2), None, False),
            (Uniform(1, 2), math.nan, False),
            (LogUniform(1, 100), 10, True),
            (LogUniform(1, 100), 0.5, False),
            (Int(1, 4), 3, True),
            (Int(1, 4), 3.0, True),
            (Int(1, 4), 3.5, False),
            (Int(1, 4), 5, False),
            (LogInt(1, 4), 4, True),
            (Choice(("a", None)), None, True),
            (Choice(("a", None)), "b", False),
            (Choice((1, 2)), True, False),
            (Choice((True, False)), 1, False),
            (Choice((1, 2)), [1], False),
        ],
    )
    def test_by_hand(self, space: Uniform | Int | Choice, value: object, expected: bool) -> None:
        assert contains(space, value) is expected


class TestProbes:
    """What a setting is tried with before a range is accepted for it."""

    def test_by_hand(self) -> None:
        assert Int(3, 9).probes == (3, 9, 4)
        assert Int(3, 4).probes == (3, 4)
        assert Int(3, 3).probes == (3, 3)
        assert LogInt(1, 8).probes == (1, 8, 2)
        assert Choice(("x", 1)).probes == ("x", 1)
        assert Uniform(0, 1).probes == pytest.approx((0, 1, 0.382))

    @pytest.mark.parametrize("high", [2, 3, 4, 10, 100, 1000])
    def test_a_real_range_between_whole_bounds_is_tried_with_a_fraction(self, high: int) -> None:
        assert not all(float(str(probe)).is_integer() for probe in Uniform(1, high).probes)


finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
whole = st.integers(min_value=-(2**53), max_value=2**53)
scalars = st.none() | st.booleans() | whole | finite | st.text(max_size=8)


def bounds(values: st.SearchStrategy[_Number]) -> st.SearchStrategy[list[_Number]]:
    return st.lists(values, min_size=2, max_size=2).map(sorted)


raw_ranges = st.one_of(
    st.fixed_dictionaries({"uniform": bounds(finite)}),
    st.fixed_dictionaries({"log_uniform": bounds(positive)}),
    st.fixed_dictionaries({"int": bounds(whole)}),
    st.fixed_dictionaries({"log_int": bounds(st.integers(min_value=1, max_value=2**53))}),
    st.fixed_dictionaries({"choice": st.lists(scalars, min_size=1, max_size=5)}),
)


@settings(deadline=None)
@given(raw_ranges)
def test_a_range_keeps_exactly_what_was_written(raw: dict[str, list[float | str | None]]) -> None:
    found = parse_range(raw)
    (kind, arguments) = next(iter(raw.items()))
    assert type(found) is RANGES[kind]
    written = list(found.values) if isinstance(found, Choice) else [found.low, found.high]
    assert written == arguments
    assert [type(value) for value in written] == [type(value) for value in arguments]
    assert parse_range({kind: written}) == found


@settings(deadline=None)
@given(raw_ranges)
def test_every_probe_is_one_that_the_search_could_draw(raw: dict[str, list[float | str | None]]) -> None:
    found = parse_range(raw)
    assert found is not None
    assert all(contains(found, probe) for probe in found.probes)


@pytest.mark.parametrize(
    ("space", "amount", "unit", "text"),
    [
        (LogUniform(0.1, 100), 3, "decades", "3 decades"),
        (LogUniform(1, 10), 1, "decades", "1 decade"),
        (LogInt(1, 316), 2.49969, "decades", "2.5 decades"),
        (Uniform(0.2, 0.8), 0.60206, "decades", "0.6 decades"),
        (Int(2, 20), 1, "decades", "1 decade"),
        (Uniform(0, 5), 5, "wide", "5 wide"),
        (Uniform(0, 1), 1, "wide", "1 wide"),
        (Uniform(-1, 1), 2, "wide", "2 wide"),
        (Choice(("a", "b", "c")), 3, "values", "3 values"),
        (Choice(("a",)), 1, "values", "1 value"),
    ],
)
def test_the_width_of_a_range(space: Uniform | Int | Choice, amount: float, unit: str, text: str) -> None:
    found, found_unit = width(space)
    assert found == pytest.approx(amount, abs=1e-5)
    assert found_unit == unit
    assert width_text(*width(space)) == text
