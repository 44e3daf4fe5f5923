"""Formatting of numbers and values for readers. Fractions become percent here and nowhere else."""

from __future__ import annotations

import json
import math

from ipgl.evaluation.curve_types import GENERAL_MIXTURE, MIXTURE

_LEVELS = (0.01, 0.05, 0.1)  # usual significance levels

MISSING = "n/a"
EMPTY = "no examples"


def finite(value: float | None) -> bool:
    """Whether the value is a finite number."""
    return value is not None and math.isfinite(value)


def percent(fraction: float, missing: str = MISSING) -> str:
    """`0.648` as `64.8%`; a missing value is named, never shown as 0."""
    return f"{_signed(100 * fraction, 1)}%" if finite(fraction) else missing


def percent_range(low: float, high: float) -> str:
    """An interval of fractions as `62.1 to 66.9`."""
    return f"{100 * low:.1f} to {100 * high:.1f}" if finite(low) and finite(high) else "no interval"


def points(fraction: float) -> str:
    """A difference of fractions as `1 point` or `15.4 points`, without its sign."""
    text = f"{abs(100 * fraction):.1f}"
    return f"{text} {'point' if text == '1.0' else 'points'}"


def points_range(low: float, high: float) -> str:
    """An interval of differences as `-1.2 to 3.4`, with as many digits as it takes to show no end as 0.0."""
    ends = [abs(100 * value) for value in (low, high) if value != 0]
    digits = next((digits for digits in range(1, 8) if all(round(end, digits) for end in ends)), 8)
    return f"{_signed(100 * low, digits)} to {_signed(100 * high, digits)}"


def whole_percent(share: float) -> str:
    """A share of a mix: `0.9` as `90%`, `2/3` as `66.7%`."""
    return f"{round(100 * share, 1):g}%"


def mix_phrase(severity: float, curve: str = MIXTURE) -> str:
    """Where on a mixture curve, in words: `where the attribute agrees with the label 10% of the time`."""
    if curve == GENERAL_MIXTURE:
        return _general_phrase(whole_percent(severity))
    agreement = whole_percent(1 - severity)
    if agreement == "100%":
        return "where the attribute always agrees with the label"
    if agreement == "0%":
        return "where the attribute never agrees with the label"
    return f"where the attribute agrees with the label {agreement} of the time"


def _general_phrase(way: str) -> str:
    if way == "0%":
        return "where each class has its training mix of groups"
    if way == "100%":
        return "where the groups of each class are equally frequent"
    return f"where the test mix is {way} of the way from the training mix to equal groups within each class"


def mix_heading(severity: float, curve: str = MIXTURE) -> str:
    """Where on a mixture curve, as a column's heading: `Agreement 10%`, or without an alignment `Equal groups`."""
    if curve != GENERAL_MIXTURE:
        return f"Agreement {whole_percent(1 - severity)}"
    way = whole_percent(severity)
    return {"0%": "Training mix", "100%": "Equal groups"}.get(way, f"{way} of the way to equal groups")


def number(value: float) -> str:
    """A score or another number without a unit, to three decimals."""
    return _signed(value, 3) if finite(value) else MISSING


def setting(value: object) -> str:
    """A hyperparameter as short text; YAML's words for the values that have one."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str)


def signed_points(fraction: float) -> str:
    """A difference of fractions with its sign: `+41.2 points`."""
    sign = "+" if round(100 * fraction, 1) > 0 else "−" if round(100 * fraction, 1) < 0 else ""
    return f"{sign}{points(fraction)}"


def p_value(value: float) -> str:
    """`p = 0.034` or `p < 0.001`; a missing value is named.

    A value that three digits would put on the other side of a usual level, as 0.0496 to 0.050, keeps more of them.
    """
    if not finite(value):
        return "no p-value"
    if value < 0.001:
        return "p < 0.001"
    digits = next(
        (n for n in range(3, 8) if all((round(value, n) < level) == (value < level) for level in _LEVELS)), 8
    )
    return f"p = {value:.{digits}f}"


def counted(count: int, noun: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters; truncation is marked."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit} more characters)"


def plotly_text(text: str) -> str:
    """Text for a figure. Plotly reads names, hover texts and annotations as a subset of HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _signed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")
