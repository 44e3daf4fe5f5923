"""Types of robustness curves: axis, value, title, and name of the MLflow metric."""

from __future__ import annotations

from dataclasses import dataclass

CORRUPTION_PREFIX = "corruption_"
MIXTURE = "mixture"
GENERAL_MIXTURE = "general_mixture"
# A study's comparisons are made on the first of these that it has.
MIXTURES = (MIXTURE, GENERAL_MIXTURE)


@dataclass(frozen=True)
class CurveType:
    """Type of a robustness curve; on every curve a higher value is better.

    Attributes:
        name: Key in `RunResult.curves`.
        title: Heading in tables and figures.
        axis: What `CurvePoint.severity` is on this curve.
        value: What `CurvePoint.accuracy` is on this curve.
        shares: Whether the axis holds shares in [0, 1], shown in percent; otherwise radii, shown as they are.
        metric: Name of the metric in the tracking server; its step is 100 times the severity.
    """

    name: str
    title: str
    axis: str
    value: str
    shares: bool
    metric: str


_CURVE_TYPES = (
    CurveType(
        MIXTURE,
        "Mixture",
        "bias-conflicting share of the test mix",
        "accuracy",
        True,
        "shift_accuracy/mixture",
    ),
    CurveType(
        GENERAL_MIXTURE,
        "General mixture",
        "way from the training mix to equal groups within each class",
        "accuracy",
        True,
        "shift_accuracy/general_mixture",
    ),
    CurveType(
        "worst_case_kl",
        "Worst case (Kullback-Leibler)",
        "radius of the ball of group mixes in nats",
        "lowest accuracy in the ball",
        False,
        "worst_case_accuracy/kl",
    ),
    CurveType(
        "worst_case_tv",
        "Worst case (total variation)",
        "largest share of the group mix that moves",
        "lowest accuracy in the ball",
        True,
        "worst_case_accuracy/tv",
    ),
    CurveType(
        "interpolation",
        "Pair interpolation",
        "way from a pair's first member to its second",
        "share of held-out pairs classified as at the start",
        True,
        "pair_consistency/interpolation",
    ),
)


def curve_type(name: str) -> CurveType:
    """The type of the curve with this name; `corruption_<name>` for the data set's own corruptions.

    Raises:
        KeyError: There is no such curve.
    """
    for curve in _CURVE_TYPES:
        if curve.name == name:
            return curve
    if not name.startswith(CORRUPTION_PREFIX):
        raise KeyError(f"there is no curve {name!r}")
    corruption = name.removeprefix(CORRUPTION_PREFIX)
    return CurveType(
        name,
        f"Corruption: {corruption.replace('_', ' ')}",
        f"strength of the corruption of the attribute ({corruption.replace('_', ' ')})",
        "accuracy on the training mix of groups",
        True,
        f"corruption_accuracy/{corruption}",
    )
