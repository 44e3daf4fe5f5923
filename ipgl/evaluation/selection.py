"""Selection rules: one number per trial, from validation metrics alone; the larger the better."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def pair_robust(validation: Mapping[str, float]) -> float:
    """Validation accuracy x (1 - flip rate on held-out pairs): needs neither group labels nor test data."""
    return validation["accuracy"] * (1.0 - validation["flip_rate"])


def average(validation: Mapping[str, float]) -> float:
    """Validation accuracy, as most searches use it; it favours the spurious attribute where validation has it."""
    return validation["accuracy"]


SELECTION_RULES: dict[str, Callable[[Mapping[str, float]], float]] = {
    "pair_robust": pair_robust,
    "average": average,
}
