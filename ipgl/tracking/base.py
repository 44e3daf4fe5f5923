"""The `Tracker` protocol and its inputs: a study, its runs, the data set, trained models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ipgl.config import Phase
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import StudyResults

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go
    from numpy.typing import NDArray
    from torch import nn


@dataclass(frozen=True)
class StudyView:
    """A study, recorded as the parent run.

    Attributes:
        execution: Names one execution of the study; resuming keeps it, a new start changes it.
        config: The study file as resolved, defaults included.
        environment: Versions, host, git revision (`git_revision`) and Ray cluster (`ray_cluster`) by name.
        started_at: When the execution began, in seconds since the epoch; None is now.
    """

    study: str
    execution: str
    question: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    config_hash: str = ""
    data_fingerprint: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    started_at: float | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods, in the order of the study file."""
        held = self.config.get("methods")
        return tuple(held) if isinstance(held, Mapping) else ()


@dataclass(frozen=True)
class DataView:
    """The data set that a run was trained and tested on.

    Attributes:
        name: Registry entry.
        fingerprint: Hash over content and settings.
        settings: Complete settings of the entry.
        input_shape: Shape of one input, without the batch dimension.
    """

    name: str
    fingerprint: str
    settings: Mapping[str, object] = field(default_factory=dict)
    input_shape: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()
    attribute_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelView:
    """A trained model to be registered in the tracking server.

    Attributes:
        label: The method's name in the study file.
        trial: Key of the run that trained it, which has been recorded before.
        load: Returns the model in evaluation mode on the CPU, logits `[B, K]` of inputs `[B, ...]`, and two or more
            example inputs, float32 `[E, ...]`. Called only if the model is not registered yet.
        class_names: Names of the K classes.
    """

    label: str
    trial: str
    load: Callable[[], tuple[nn.Module, NDArray[np.float32]]]
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunView:
    """The current state of one run on storage.

    Attributes:
        key: Unique in its study and stable over restarts.
        label: The method's name in the study file; `method` is the registry entry.
        number: Order in which the study started its runs.
        parameters: Flat settings; values longer than 500 characters are truncated.
        rows: History so far, by rising `step`; each row holds `step`, `epoch`, `time` (seconds since the
            epoch) and float metrics.
        result: Set once the run has ended.
        artifacts: Files to attach once, when the run has ended.
        started_at: Seconds since the epoch; None takes the result's or the first row's time.
        data: Logged as the input of a run that has ended, and of the study's run; None is left out.
        title: Distinguishes a final or component run from others of its label; if empty, the seed does.
    """

    key: str
    label: str
    method: str
    phase: Phase
    number: int
    seed: int
    parameters: Mapping[str, object] = field(default_factory=dict)
    rows: Sequence[Mapping[str, float]] = ()
    result: RunResult | None = None
    artifacts: Sequence[Path] = ()
    started_at: float | None = None
    data: DataView | None = None
    title: str = ""


class Tracker(Protocol):
    """Records a study in a tracking server; what is recorded may lag behind storage, but is never duplicated.

    One process, the study's driver, calls it. Every method may be called again with the same or newer views
    after a crash. Any of them raises `TrackingError` when the server or database cannot be used; the study can
    go on without it, because the next `record` catches up.
    """

    def check(self) -> None:
        """Check within seconds whether the server or database can be used; create a local database.

        Raises:
            TrackingError: It cannot be used; the message names the place and the next step.
        """

    def open_study(self, study: StudyView) -> None:
        """Find or create the study's run and mark it as running; comes before the methods below."""

    def record(self, run: RunView) -> None:
        """Bring one run up to date; a run that has ended is closed and never touched again."""

    def observe_machine(self) -> None:
        """Add this machine's load to the study's run, if that was not done in the last seconds."""

    def close_study(
        self,
        results: StudyResults,
        artifacts: Sequence[Path] = (),
        figures: Mapping[str, go.Figure] | None = None,
        answer: Sequence[str] = (),
        models: Sequence[ModelView] = (),
    ) -> None:
        """Write the outcome to the study's run and mark it as finished.

        Args:
            results: The study's outcome.
            artifacts: Files to attach.
            figures: Plotly figures by name.
            answer: Sentences that answer the study's question, the most important first.
            models: Models to register under the study's name, one version each.
        """

    def interrupt(self) -> None:
        """Mark the study's run and its unfinished runs as stopped; `open_study` undoes that on resume."""

    @property
    def links(self) -> dict[str, str]:
        """Printable title -> address or command; empty before `open_study`."""

    @property
    def warnings(self) -> list[str]:
        """What was left out because the server does not offer or allow it; everything else has been recorded."""
