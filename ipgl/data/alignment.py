"""Alignment of classes and attribute values: the value that training shows more often with a class than without.

An example is *bias-aligned* if it carries its class's value, else *bias-conflicting*. What counts is association, not
a class's majority: where one value leads in every class, its majority says nothing about the label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ipgl.core.errors import DataError

# Significance level: of independent samples at most one in 1,000 is taken for an association.
SIGNIFICANCE = 1e-3
# With many examples any difference is significant; below this one the axis from agreement to conflict is all but flat.
LEAST_GAP = 0.05

StatedAlignment: TypeAlias = Literal["auto", "none"] | Mapping[str, int | str] | Sequence[int | str]


@dataclass(frozen=True)
class Alignment:
    """Which attribute value agrees with each class.

    Attributes:
        attributes: Value by label; None where no alignment exists.
        reason: Why none exists, a clause; empty where one does.
    """

    attributes: tuple[int, ...] | None
    reason: str = ""

    def agrees(self, label: int, attribute: int) -> bool | None:
        """Whether the group is bias-aligned; None where no alignment exists."""
        return None if self.attributes is None else self.attributes[label] == attribute


def find_alignment(counts: Tensor, class_names: Sequence[str] = ()) -> Alignment:
    """The alignment that training's group counts show, if they show one.

    A value's *gap* in a class is `P(value | class) - P(value | other classes)`, the others pooled: independent of how
    large the class is and of how frequent the value is overall, and defined for empty groups. The alignment is the
    one-to-one assignment of values to classes with the largest sum of gaps. Where there are fewer values than
    classes, or where that assignment gives a class a value that is not over-represented in it, each class takes the
    value of its largest gap, and classes may share one. Values that are no class's are conflicting everywhere.

    It exists if label and attribute are associated (Pearson's chi-squared test, p < 0.001) and in every class its
    value has a gap of at least 0.05 that is itself no chance (Haberman's adjusted residual, one-sided p < 0.001).

    Args:
        counts: Training examples per group, `[num_classes, num_attributes]`.
        class_names: Names of the classes for the reason; labels if empty.
    """
    n = counts.double()
    if n.shape[0] < 2:
        return Alignment(None, "there is one class")
    if int((n.sum(dim=0) > 0).sum()) < 2:
        return Alignment(None, "training shows one attribute value")
    unseen = (n.sum(dim=1) == 0).nonzero()
    if len(unseen):
        return Alignment(None, f"{_class(int(unseen[0]), class_names)} has no training examples")
    if _independence_p_value(n) >= SIGNIFICANCE:
        return Alignment(None, "label and attribute are not associated in training (chi-squared, p >= 0.001)")
    gaps = _gaps(n)
    over = (gaps >= LEAST_GAP) & (_residual_p_values(n) < SIGNIFICANCE)
    own = gaps.argmax(dim=1)
    labels = torch.arange(len(n))
    for chosen in (_one_to_one(gaps, own), own):
        if bool(over[labels, chosen].all()):
            return Alignment(tuple(chosen.tolist()))
    failed = int((~over[labels, own]).nonzero()[0])
    return Alignment(
        None,
        f"no attribute value is over-represented in {_class(failed, class_names)} relative to the other classes "
        f"(by {100 * LEAST_GAP:g} percentage points or more, p < 0.001)",
    )


def resolve_alignment(
    stated: StatedAlignment, counts: Tensor, class_names: Sequence[str], attribute_names: Sequence[str]
) -> Alignment:
    """The alignment that a study states, or that its training counts show.

    Args:
        stated: `evaluation.alignment`: `auto` finds it, `none` says that there is none; otherwise each class's value,
            as a mapping from class name (or label) to attribute name (or number), or as a list by label.
        counts: Training examples per group, `[num_classes, num_attributes]`.
        class_names: Names of the classes, by label.
        attribute_names: Names of the attribute's values, by number.

    Raises:
        DataError: It does not name each class once, names something that the data set does not have, or gives every
            class the same value.
    """
    if stated == "auto":
        return find_alignment(counts, class_names)
    if stated == "none":
        return Alignment(None, "evaluation.alignment is none")
    by_label = _by_label(stated, class_names)
    values = tuple(_place("attribute value", by_label[y], attribute_names) for y in range(len(class_names)))
    if len(set(values)) < 2:
        raise DataError(
            f"classes must not all have the same attribute value, because it would then say nothing about the label, "
            f"but each has {attribute_names[values[0]]!r}; give at least two classes different ones, or none"
        )
    return Alignment(values)


def _by_label(
    stated: Mapping[str, int | str] | Sequence[int | str] | str, class_names: Sequence[str]
) -> dict[int, int | str]:
    if not isinstance(stated, Mapping):
        values = list(stated)
        if len(values) != len(class_names):
            raise DataError(
                f"a list has one attribute value for each of the {len(class_names)} classes "
                f"({', '.join(class_names)}), but got {len(values)}: {values}"
            )
        return dict(enumerate(values))
    found: dict[int, int | str] = {}
    for key, value in stated.items():
        label = _place("class", key, class_names)
        if label in found:
            raise DataError(f"a class stands once, but {class_names[label]!r} stands twice, once as {key!r}")
        found[label] = value
    missing = [name for label, name in enumerate(class_names) if label not in found]
    if missing:
        raise DataError(f"every class needs its attribute value, but {', '.join(missing)} has none")
    return found


def _place(what: str, named: int | str, names: Sequence[str]) -> int:
    """Number of what is given by name or number; a name goes before the number that it looks like."""
    if isinstance(named, str) and named in names:
        return list(names).index(named)
    number = int(named) if isinstance(named, int) or named.isdecimal() else -1
    if 0 <= number < len(names):
        return number
    raise DataError(
        f"the data set has no {what} {named!r}; choose one of {', '.join(names)} (or 0 to {len(names) - 1})"
    )


def _gaps(n: Tensor) -> Tensor:
    """`P(value | class) - P(value | other classes)`, `[K, A]`, of a table without an empty class."""
    others = n.sum(dim=0) - n
    return n / n.sum(dim=1, keepdim=True) - others / others.sum(dim=1, keepdim=True)


def _independence_p_value(n: Tensor) -> float:
    """Pearson's chi-squared test on a `[K, A]` table without an empty class; empty columns are left out."""
    n = n[:, n.sum(dim=0) > 0]
    expected = n.sum(dim=1, keepdim=True) * n.sum(dim=0) / n.sum()
    statistic = ((n - expected) ** 2 / expected).sum()
    freedom = torch.tensor((n.shape[0] - 1) * (n.shape[1] - 1), dtype=n.dtype)
    # The survival function; importing scipy for it would take half a second in every process of a study.
    return float(torch.special.gammaincc(freedom / 2, statistic / 2))


def _residual_p_values(n: Tensor) -> Tensor:
    """One-sided p-values of Haberman's adjusted residuals (1973), `[K, A]`; 1 in an empty column."""
    total, rows, columns = n.sum(), n.sum(dim=1, keepdim=True), n.sum(dim=0)
    expected = rows * columns / total
    deviation = (expected * (1 - rows / total) * (1 - columns / total)).sqrt()
    residuals = torch.where(deviation > 0, (n - expected) / deviation, torch.zeros_like(n))
    return torch.where(deviation > 0, torch.special.erfc(residuals / 2**0.5) / 2, torch.ones_like(n))


def _one_to_one(gaps: Tensor, own: Tensor) -> Tensor:
    """Distinct values for the classes with the largest sum of gaps, int64 `[K]`; `own` where values are too few."""
    classes, values = gaps.shape
    if classes > values or len(set(own.tolist())) == classes:
        return own  # of distinct largest gaps no other assignment has a larger sum
    from scipy.optimize import linear_sum_assignment  # most of a second to import, and seldom needed

    return torch.from_numpy(linear_sum_assignment(gaps.numpy(), maximize=True)[1])


def _class(label: int, class_names: Sequence[str]) -> str:
    return f"class {class_names[label]!r}" if class_names else f"class {label}"
