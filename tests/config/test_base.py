from __future__ import annotations

import pytest

from ipgl.config import Settings


class Example(Settings):
    count: int = 1
    rate: float | None = None
    flag: bool = False
    either: int | bool = 0


def test_a_value_cannot_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Example().count = 2  # type: ignore[misc]


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match="coumt"):
        Example.model_validate({"coumt": 2})


@pytest.mark.parametrize("key", ["count", "rate"])
@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_number(key: str, value: bool) -> None:
    with pytest.raises(ValueError, match="input should be a number"):
        Example.model_validate({key: value})


@pytest.mark.parametrize(("key", "value"), [("flag", True), ("either", True), ("rate", None), ("rate", 2)])
def test_what_a_key_declares_it_takes(key: str, value: int | None) -> None:
    assert getattr(Example.model_validate({key: value}), key) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Example.model_validate({"rate": value})
