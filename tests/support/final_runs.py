"""Completed final runs as results, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ipgl.evaluation import GroupCount, RunResult


class MorePredictions(TypedDict, total=False):
    """What `Predictions` has beside the answers to the test examples and to corrupted ones."""

    levels: dict[str, tuple[float, ...]]
    along: NDArray[np.int32]


def completed_final(label: str, groups: Sequence[GroupCount], seed: int = 0, **fields: object) -> RunResult:
    """A completed final run of the method `label` with these test counts."""
    return RunResult(
        study="s",
        label=label,
        method=label,
        phase="final",
        trial=f"{label}-{seed}",
        seed=seed,
        status="completed",
        groups=tuple(groups),
        **fields,
    )
