"""Mixtures of group proportions on which methods are compared: bias-aligned to conflicting, or general.

Both hold the class shares of the test split fixed, so that what they show is no shift of the prior.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ipgl.data import Alignment
from ipgl.evaluation.curve_types import GENERAL_MIXTURE, MIXTURE, MIXTURES
from ipgl.evaluation.run_result import GroupCount

Array = NDArray[np.float64]


def mixture_name(groups: Sequence[GroupCount]) -> str:
    """The curve that these groups allow: `mixture` with an alignment, `general_mixture` without one."""
    return GENERAL_MIXTURE if any(group.aligned is None for group in groups) else MIXTURE


def common_mixture(first: Collection[str], second: Collection[str]) -> str | None:
    """The mixture curve among both of these curve names; None where they share none and cannot be compared."""
    return next((name for name in MIXTURES if name in first and name in second), None)


def why_no_mixture(groups: Sequence[GroupCount]) -> str:
    """Why the groups allow no mixture curve, as a clause; empty where they allow one.

    A group that is listed but empty is no reason: it makes NaN of the points that need it.
    """
    tested = [g for g in groups if any(other.count for other in groups if other.label == g.label)]
    if not tested:
        return "the test split has no examples"
    labels = sorted({group.label for group in tested})
    if mixture_name(groups) == MIXTURE:
        for label in labels:
            kinds = {group.aligned for group in tested if group.label == label}
            if kinds != {True, False}:
                return f"label {label} has no {'aligned' if True not in kinds else 'conflicting'} group"
        return ""
    if not any(sum(_exists(group) for group in tested if group.label == label) > 1 for label in labels):
        return "no class has more than one group, so that no mix of them differs from another"
    untrained = [y for y in labels if not any(g.training_count for g in tested if g.label == y)]
    return f"label {untrained[0]} has no training examples, where the curve starts" if untrained else ""


def mixture_remarks(alignment: Alignment, groups: Sequence[GroupCount]) -> tuple[str, ...]:
    """Remarks on the axis on which methods are compared, where it is not the bias-aligned mixture."""
    if why := why_no_mixture(groups):
        return (f"There is no mixture curve and no shifted accuracy: {why}.",)
    if alignment.attributes is None:
        return (
            f"No attribute value stands for a class: {alignment.reason}. Methods are compared on the general mixture "
            "instead, which goes from the training mix (severity 0) to equal groups within each class (severity 1).",
        )
    return ()


def mixture_weights(groups: Sequence[GroupCount], severities: Sequence[float]) -> Array:
    """Group weights of the mixture at each severity, `[S, G]`; each row sums to 1, or is NaN as `why_no_mixture` says.

    A class keeps its share of the test split.

    With an alignment (`mixture`) its aligned group weighs `1 - severity`, and the conflicting groups share `severity`
    in proportion to their sizes (equally if all of them are empty). With two attributes this is
    `sum_y pi_y (q acc[y, aligned] + (1 - q) acc[y, conflicting])` for agreement `q = 1 - severity`.

    Without one (`general_mixture`) the groups of a class weigh `(1 - severity) p + severity / G_y`: `p` is the group's
    share of the class in training and `G_y` the number of the class's groups that training or test holds. At severity
    0 each class has its training mix; at 1 its groups are equally frequent, so that the attribute is independent of
    the label where all groups exist.
    """
    if why_no_mixture(groups):
        return np.full((len(severities), len(groups)), np.nan)
    counts = np.array([group.count for group in groups], dtype=np.float64)
    labels = np.array([group.label for group in groups])
    easy, hard = np.zeros(len(groups)), np.zeros(len(groups))
    for label in np.unique(labels[counts > 0]):
        of_class = np.flatnonzero(labels == label)
        prior = counts[of_class].sum() / counts.sum()
        first, last = _ends([groups[int(i)] for i in of_class])
        easy[of_class], hard[of_class] = prior * first, prior * last
    shares = np.asarray(severities, dtype=np.float64)[:, None]
    weights: Array = (1 - shares) * easy + shares * hard
    assert np.allclose(weights.sum(axis=1), 1), f"mixture weights sum to {weights.sum(axis=1)}"
    return weights


def _ends(groups: Sequence[GroupCount]) -> tuple[Array, Array]:
    """One class's shares of its groups, `[G_y]`, at severity 0 and at severity 1."""
    if mixture_name(groups) == GENERAL_MIXTURE:
        return _shares([g.training_count for g in groups]), _shares([_exists(g) for g in groups])
    conflicting = [not group.aligned for group in groups]
    sizes = [group.count * other for group, other in zip(groups, conflicting, strict=True)]
    return _shares([not other for other in conflicting]), _shares(sizes if any(sizes) else conflicting)


def _shares(sizes: Sequence[float]) -> Array:
    found = np.asarray(sizes, dtype=np.float64)
    shares: Array = found / found.sum()
    return shares


def _exists(group: GroupCount) -> bool:
    return bool(group.count or group.training_count)
