"""Early stopping of runs that have failed (collapsed or inverted), judged by validation metrics alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def failure_mode(validation: Mapping[str, float], examples: int, num_classes: int) -> str | None:
    """What is wrong with a model, or None.

    `collapsed`: one class is predicted for every validation example, which satisfies any invariance condition.
    `overshot`: validation accuracy lies three standard errors below guessing and predictions agree with the labels
    less than chance would, so the attribute is followed in the wrong direction, as a correction does that jumps past
    invariance. Accuracy alone would condemn a useful detector of a rare class, which pays for it in the common one.

    Args:
        validation: `accuracy`, `collapsed` and `kappa`; a row from before kappa was recorded has none.
        examples: Size of the validation split.
        num_classes: K; guessing is right 1 / K of the time.
    """
    if validation["collapsed"]:
        return "collapsed: one class is predicted for every validation example"
    chance = 1 / num_classes
    inverted = validation.get("kappa", -1.0) < 0
    if inverted and validation["accuracy"] < chance - 3 * math.sqrt(chance * (1 - chance) / examples):
        return f"overshot: validation accuracy {validation['accuracy']:.3f} is below guessing ({chance:.3f})"
    return None


def stop_reason(failure_modes: Sequence[str | None], patience: int | None) -> str | None:
    """The reason to stop: the last failure mode, if there was one after each of the last `patience` evaluations.

    Args:
        failure_modes: One per evaluation so far.
        patience: Evaluations in a row; None never stops.
    """
    if patience is None or len(failure_modes) < patience or not all(failure_modes[-patience:]):
        return None
    return f"{failure_modes[-1]}, after {patience} evaluations in a row"
