"""Search ranges: `{log_uniform: [0.1, 100]}` and the like, parsed into immutable objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

Scalar: TypeAlias = bool | int | float | str | None


class RangeError(ValueError):
    """A range that breaks its rule; the message names the rule and the values."""


@dataclass(frozen=True)
class Uniform:
    """A real number, every value between `low` and `high` equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    @property
    def probes(self) -> tuple[Scalar, ...]:
        """Values that a setting must accept for the whole range to be acceptable: the bounds, and one between."""
        # Between whole bounds lie fractions, which a setting that counts something must refuse.
        between = min(max(0.618 * self.low + 0.382 * self.high, self.low), self.high)  # despite rounding
        return (self.low, self.high, between)


@dataclass(frozen=True)
class LogUniform(Uniform):
    """A positive real number, every order of magnitude equally likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self.low, self.high)


@dataclass(frozen=True)
class Int:
    """A whole number from `low` to `high`, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if not float(value).is_integer():
                raise RangeError(f"both bounds must be whole numbers, but got {name}={value}")
        object.__setattr__(self, "low", int(self.low))
        object.__setattr__(self, "high", int(self.high))
        _check_order(self.low, self.high)

    @property
    def probes(self) -> tuple[Scalar, ...]:
        """Values that a setting must accept for the whole range to be acceptable: the bounds, and one between."""
        # The second value tells a setting that takes only multiples of something.
        return (self.low, self.high, *([self.low + 1] if self.low + 1 < self.high else []))


@dataclass(frozen=True)
class LogInt(Int):
    """A positive whole number, every order of magnitude equally likely."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self.low, self.high)


@dataclass(frozen=True)
class Choice:
    """One of the listed values, without any order among them."""

    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 1:
            raise RangeError("`choice` needs at least one value, but got []")
        for value in self.values:
            if not isinstance(value, bool | int | float | str | None):
                raise RangeError(f"`choice` lists plain values, but got {value!r}")

    @property
    def probes(self) -> tuple[Scalar, ...]:
        """Values that a setting must accept for the whole range to be acceptable."""
        return self.values


Range: TypeAlias = Uniform | LogUniform | Int | LogInt | Choice
RANGES: dict[str, type[Uniform] | type[Int] | type[Choice]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int": Int,
    "log_int": LogInt,
    "choice": Choice,
}


def parse_range(value: object) -> Range | None:
    """Read `{kind: [...]}`; anything that is not a range at all gives None.

    Raises:
        RangeError: It is a range by its key, but its bounds or values break a rule.
    """
    if not isinstance(value, dict) or len(value) != 1:
        return None
    kind, arguments = next(iter(value.items()))
    if kind not in RANGES:
        return None
    if not isinstance(arguments, list):
        raise RangeError(f"`{kind}` takes a list, but got {arguments!r}")
    if kind == "choice":
        return Choice(tuple(arguments))
    if len(arguments) != 2 or any(isinstance(a, bool) or not isinstance(a, int | float) for a in arguments):
        raise RangeError(f"`{kind}` takes two numbers [low, high], but got {arguments!r}")
    try:
        return RANGES[kind](*arguments)
    except OverflowError:
        raise RangeError(f"both bounds must be finite, but got {arguments!r}") from None


def range_text(space: Range) -> str:
    """A range as a study file writes it: `{log_uniform: [0.1, 100]}`."""
    kind = next(name for name, cls in RANGES.items() if type(space) is cls)
    values = space.values if isinstance(space, Choice) else (space.low, space.high)
    return f"{{{kind}: [{', '.join(map(str, values))}]}}"


WidthUnit: TypeAlias = Literal["decades", "values", "wide"]


def width(space: Range) -> tuple[float, WidthUnit]:
    """How much a search over `space` covers, and in which unit.

    `decades` are `log10(high / low)`, of every range of positive numbers, however it is drawn from; `wide` is
    `high - low`, of a range that begins at 0 or below; `values` counts those of a choice.
    """
    if isinstance(space, Choice):
        return float(len(space.values)), "values"
    if space.low > 0:
        return math.log10(space.high) - math.log10(space.low), "decades"
    return float(space.high - space.low), "wide"


def width_text(amount: float, unit: WidthUnit) -> str:
    """A width in words: `3 decades`, `0.7 decades`, `1 wide`, `2 values`."""
    number = f"{round(amount, 1):g}"
    return f"{number} {unit[:-1] if number == '1' and unit != 'wide' else unit}"


def contains(space: Range, value: object) -> bool:
    """Whether `value` is one that a search over `space` could draw."""
    if isinstance(space, Choice):
        return any(
            value == known and isinstance(value, bool) == isinstance(known, bool) for known in space.values
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return space.low <= value <= space.high and (isinstance(space, Uniform) or float(value).is_integer())


def _check_order(low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RangeError(f"both bounds must be finite, but got ({low=}, {high=})")
    if low > high:
        raise RangeError(f"`low <= high` must hold, but got ({low=}, {high=}); swap the two")


def _check_positive(low: float, high: float) -> None:
    if low <= 0:
        raise RangeError(f"`low > 0` must hold for a logarithmic range, but got ({low=}, {high=})")
