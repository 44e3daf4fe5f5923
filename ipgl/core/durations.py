"""Seconds in words."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """To the minute, for reports: `3725` as `1 h 2 min`; `n/a` if it is no finite number."""
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
    """To the second below one hour, for progress: `125` as `2 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
