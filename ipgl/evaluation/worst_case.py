"""Worst-case accuracy over all group proportions within a radius of given ones.

`min over q in ball(p, r) of sum_g q_g acc_g`, for two balls:

- Kullback-Leibler, `KL(q || p) <= r` in nats: the minimiser tilts `p` exponentially (Donsker and Varadhan), so one
  scalar is sought. A group of weight 0 in `p` stays at 0.
- total variation, `sum_g |q_g - p_g| / 2 <= r`: weight moves from the best groups to the worst one, also to one of
  weight 0.

At radius 0 both are the average under `p`; at a large one the lowest accuracy that the ball can reach.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# The tilt is sought on a logarithmic axis, for accuracies scaled to [0, 1]. The dual's error is quadratic in the
# tilt's, so that these halvings leave less than 1e-10.
_TILT = (1e-6, 1e12)
_HALVINGS = 24


def worst_case_kl(accuracies: ArrayLike, mix: ArrayLike, radii: ArrayLike) -> Array:
    """Lowest expected accuracy over `KL(q || mix) <= radius`.

    Args:
        accuracies: Group accuracies `[..., G]`; NaN for an empty group.
        mix: Group weights `[G]` in the ball's centre, any scale.
        radii: Radii `[S]` in nats.

    Returns:
        `[..., S]`; NaN where a group with weight in `mix` is empty.
    """
    values, weights, radius = _checked(accuracies, mix, radii)
    support = weights > 0
    values, weights = values[..., support], weights[support]
    lowest = values.min(axis=-1, keepdims=True)
    span = values.max(axis=-1, keepdims=True) - lowest
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(span > 0, (values - lowest) / span, 0.0)
    reach = -np.log((weights * (scaled == 0)).sum(axis=-1, keepdims=True))
    inside = (radius > 0) & (radius < reach) & (span > 0)
    # Groups lead, so that sums over them add long arrays instead of a few neighbours at a time.
    loss = np.moveaxis(scaled, -1, 0)[..., None]
    share = weights.reshape(-1, *[1] * (loss.ndim - 1))
    tilt = _bisect(loss, share, radius, inside.shape)
    dual = -(np.log(_tilted(loss, share, tilt).sum(axis=0)) + radius) / tilt
    average = values @ weights
    result = np.where(inside, lowest + span * dual, np.where(radius > 0, lowest, average[..., None]))
    # Rounding must not push a worst case above the average or below the worst group.
    clipped: Array = np.clip(result, lowest, np.maximum(average[..., None], lowest))
    return clipped


def worst_case_tv(accuracies: ArrayLike, mix: ArrayLike, radii: ArrayLike) -> Array:
    """Lowest expected accuracy over mixes that differ from `mix` by at most a radius in total variation.

    Args:
        accuracies: Group accuracies `[..., G]`; NaN for an empty group.
        mix: Group weights `[G]` in the ball's centre, any scale.
        radii: Radii `[S]`: shares of the mix that may move.

    Returns:
        `[..., S]`; NaN where the ball can reach an empty group.
    """
    values, weights, radius = _checked(accuracies, mix, radii)
    best_first = np.argsort(-values, axis=-1)
    ordered = np.take_along_axis(values, best_first, axis=-1)[..., None, :]
    held = weights[best_first][..., None, :]
    before = np.cumsum(held, axis=-1) - held
    moved = np.clip(radius[:, None] - before, 0.0, held)
    lowest = values.min(axis=-1, keepdims=True)
    known = np.where(weights > 0, values, 0.0)  # at radius 0 a group without weight does not matter
    result: Array = np.where(
        radius > 0,
        ((held - moved) * ordered).sum(axis=-1) + moved.sum(axis=-1) * lowest,
        (known @ weights)[..., None],
    )
    return result


def worst_mix_kl(accuracies: ArrayLike, mix: ArrayLike, radii: ArrayLike) -> Array:
    """The group mix behind each value of `worst_case_kl`.

    Args:
        accuracies: Group accuracies `[..., G]`.
        mix: Group weights `[G]` in the ball's centre, any scale.
        radii: Radii `[S]` in nats.

    Returns:
        `[..., S, G]`; mixes sum to 1. Groups that tie for the lowest keep their proportions in `mix`.
    """
    values, weights, radius = _checked(accuracies, mix, radii)
    support = weights > 0
    held, share = values[..., support], weights[support]
    loss = held - held.min(axis=-1, keepdims=True)
    span = loss.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        scaled = np.where(span > 0, loss / span, 0.0)
    lowest = share * (scaled == 0)
    total = lowest.sum(axis=-1, keepdims=True)
    inside = (radius > 0) & (radius < -np.log(total)) & (span > 0)  # [..., S]
    column = np.moveaxis(scaled, -1, 0)[..., None]
    weight = share.reshape(-1, *[1] * (column.ndim - 1))
    tilted = _tilted(column, weight, _bisect(column, weight, radius, inside.shape))
    tilted = np.moveaxis(tilted / tilted.sum(axis=0), 0, -1)
    mixes = np.zeros((*inside.shape, len(weights)))
    outside = np.where((radius > 0)[:, None], (lowest / total)[..., None, :], share)
    mixes[..., support] = np.where(inside[..., None], tilted, outside)
    return mixes


def worst_mix_tv(accuracies: ArrayLike, mix: ArrayLike, radii: ArrayLike) -> Array:
    """The group mix behind each value of `worst_case_tv`; arguments and result as for `worst_mix_kl`."""
    values, weights, radius = _checked(accuracies, mix, radii)
    best_first = np.argsort(-values, axis=-1, kind="stable")
    held = weights[best_first][..., None, :]
    moved = np.clip(radius[:, None] - (np.cumsum(held, axis=-1) - held), 0.0, held)
    kept = held - moved
    kept[..., -1] += moved.sum(axis=-1)  # the last in this order is the worst group
    mixes = np.zeros(kept.shape)
    np.put_along_axis(mixes, np.broadcast_to(best_first[..., None, :], kept.shape), kept, axis=-1)
    return mixes


@dataclass(frozen=True)
class Ball:
    """A family of sets of group mixes around a given one.

    Attributes:
        lowest: The lowest accuracy within each radius, as `worst_case_kl`.
        mixes: The mixes that have it, as `worst_mix_kl`.
    """

    lowest: Callable[[ArrayLike, ArrayLike, ArrayLike], Array]
    mixes: Callable[[ArrayLike, ArrayLike, ArrayLike], Array]


KULLBACK_LEIBLER = Ball(worst_case_kl, worst_mix_kl)
TOTAL_VARIATION = Ball(worst_case_tv, worst_mix_tv)


def _checked(accuracies: ArrayLike, mix: ArrayLike, radii: ArrayLike) -> tuple[Array, Array, Array]:
    values, weights, radius = (np.asarray(a, dtype=np.float64) for a in (accuracies, mix, radii))
    if weights.ndim != 1 or weights.shape[0] != values.shape[-1]:
        raise ValueError(
            f"`mix` needs one weight per group, but got shapes {values.shape} and {weights.shape}"
        )
    if (weights < 0).any() or not weights.sum() > 0:
        raise ValueError(f"`mix >= 0` with a positive sum must hold, but got {weights.tolist()}")
    if not (radius >= 0).all():
        raise ValueError(f"`radii >= 0` must hold, but got {radius.tolist()}")
    return values, weights / weights.sum(), np.atleast_1d(radius)


def _bisect(loss: Array, share: Array, radius: Array, shape: tuple[int, ...]) -> Array:
    """Tilt whose divergence is the radius, `[..., S]`, from `[G, ..., 1]` scaled accuracies and weights."""
    low, high = np.full(shape, _TILT[0]), np.full(shape, _TILT[1])
    for _ in range(_HALVINGS):
        tilt = np.sqrt(low * high)
        tilted = _tilted(loss, share, tilt)
        total = tilted.sum(axis=0)
        tilted *= loss
        divergence = -tilt * tilted.sum(axis=0) / total - np.log(total)
        above = divergence > radius
        high, low = np.where(above, tilt, high), np.where(above, low, tilt)
    middle: Array = np.sqrt(low * high)
    return middle


def _tilted(loss: Array, share: Array, tilt: Array) -> Array:
    result: Array = share * np.exp(-tilt * loss)
    return result
