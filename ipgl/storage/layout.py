"""The folder layout of a study on storage: which file holds what.

These files are the only state of a study: resuming, tables, reports and MLflow all read them.

```
<storage>/<study>/
    study.yaml              the study file, byte for byte
    study.json              configuration hash, phase, number of executions
    trials/<key>/           one folder per trial; search, final and component runs alike
        trial.json          configuration and start time
        history.json        evaluation rows so far
        trace.json          of a final run: values of its training steps, thinned to about 200 rows
        checkpoint.pt       while the trial runs
        result.json         once the trial has ended
        model.pt            once the trial has completed
        predictions.parquet one row per test example
        pairs.parquet       one row per held-out pair: predictions between its two members
    imports/                copies of the Python files that the study file imports
    winners.json            once the search has ended
    summary.json, report.html   once the study has ended
    tracking.json           how much of the study the tracker has recorded
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrialFiles:
    """Paths of the files in a trial's folder."""

    folder: Path

    @property
    def start(self) -> Path:
        return self.folder / "trial.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.json"

    @property
    def trace(self) -> Path:
        return self.folder / "trace.json"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.parquet"

    @property
    def pair_predictions(self) -> Path:
        return self.folder / "pairs.parquet"


@dataclass(frozen=True)
class StudyFiles:
    """Paths of the files in a study's folder."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "study.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "study.json"

    @property
    def trials(self) -> Path:
        return self.folder / "trials"

    @property
    def imports(self) -> Path:
        return self.folder / "imports"

    @property
    def winners(self) -> Path:
        return self.folder / "winners.json"

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def tracking(self) -> Path:
        return self.folder / "tracking.json"
