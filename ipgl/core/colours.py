"""Colours of methods in reports, figures and MLflow."""

from __future__ import annotations

from collections.abc import Iterable

# Okabe and Ito (2008), "Color universal design": distinguishable with every common colour vision; the report
# uses them in the same order. Yellow is left out, being invisible on white, and black marks the study's own run.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STUDY_COLOUR = "#000000"


def method_colours(labels: Iterable[str]) -> dict[str, str]:
    """Colours by label, in the order in which the study file names the methods; the seventh repeats the first."""
    return {label: PALETTE[index % len(PALETTE)] for index, label in enumerate(dict.fromkeys(labels))}
