"""The tracker of `tracking: {name: none}`: results stay on storage alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipgl.evaluation.summary import StudyResults
from ipgl.tracking.base import RunView, StudyView


class NoneTracker:
    """Records nothing."""

    def check(self) -> None:
        """Nothing can be wrong."""

    def open_study(self, study: StudyView) -> None:
        """Record nothing."""

    def record(self, run: RunView) -> None:
        """Record nothing."""

    def close_study(
        self, results: StudyResults, artifacts: Sequence[Path] = (), figures: Mapping[str, Any] | None = None
    ) -> None:
        """Record nothing."""

    def interrupt(self) -> None:
        """Mark nothing."""

    @property
    def links(self) -> dict[str, str]:
        """None."""
        return {}
