"""The tracker of `tracking: {name: none}`, which records nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ipgl.evaluation.study_summary import StudyResults
from ipgl.tracking.base import ModelView, RunView, StudyView

if TYPE_CHECKING:
    import plotly.graph_objects as go


class NoneTracker:
    """Records nothing."""

    def check(self) -> None:
        """Nothing can be wrong."""

    def open_study(self, study: StudyView) -> None:
        """Record nothing."""

    def record(self, run: RunView) -> None:
        """Record nothing."""

    def observe_machine(self) -> None:
        """Record nothing."""

    def close_study(
        self,
        results: StudyResults,
        artifacts: Sequence[Path] = (),
        figures: Mapping[str, go.Figure] | None = None,
        answer: Sequence[str] = (),
        models: Sequence[ModelView] = (),
    ) -> None:
        """Record nothing."""

    def interrupt(self) -> None:
        """Mark nothing."""

    @property
    def links(self) -> dict[str, str]:
        """None."""
        return {}

    @property
    def warnings(self) -> list[str]:
        """None."""
        return []
