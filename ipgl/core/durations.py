"""Durations as text."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """A duration to the minute, for reports: 3725 gives `1 h 2 min`; a value that is not finite gives `n/a`."""
    if not math.isfinite(seconds):
        return "n/a"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def precise_duration(seconds: float) -> str:
    """A duration to the second (to the minute from one hour), for progress displays: 125 gives `2 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
