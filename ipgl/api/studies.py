"""Studies from Python: run one, load one, and look at what it found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ipgl.api.frames import frame
from ipgl.config import StudyConfig, parse_document
from ipgl.core.errors import StudyStateError
from ipgl.evaluation import StudyResults, StudySummary
from ipgl.models import Classifier
from ipgl.plan.study_plan import StudyPlan, load_plan, make_plan
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.results import summarise
from ipgl.study.runner import (
    FinishedStudy,
    require_state,
    resume_study,
    start_study,
    storage_folder,
    stored_plan,
)
from ipgl.trial.build import load_model

if TYPE_CHECKING:
    import pandas
    from plotly.graph_objects import Figure

    from ipgl.execution.events import Events

# In a notebook, where all columns would not fit.
_SHOWN = {
    "label",
    "needs",
    "final_seeds",
    *(
        f"{metric}{end}"
        for metric in ("average", "shifted_accuracy", "worst_group")
        for end in ("", "_low", "_high")
    ),
}


class Study:
    """A study on storage, finished or not, and its results.

    Attributes:
        plan: What was run.
        folder: Where it is kept.
        results: Everything that is on storage, summarised when the study was loaded.
    """

    def __init__(self, plan: StudyPlan, folder: StudyFolder) -> None:
        """Read a study; `load_study` finds it by its name."""
        self.plan, self.folder = plan, folder
        self.results: StudyResults = summarise(plan, folder)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.name

    @property
    def summary(self) -> StudySummary:
        """The outcome: one entry per method, differences, tests, remarks."""
        return self.results.summary

    @property
    def finished(self) -> bool:
        """Whether all its runs have ended."""
        return (self.folder.read_state() or {}).get("phase") == "finished"

    @property
    def findings(self) -> list[str]:
        """What the study found, in sentences made from its numbers alone."""
        from ipgl.report import findings

        return list(findings(self.summary))

    @property
    def report(self) -> Path:
        """The report, one HTML file that needs nothing else; it is written when the study ends."""
        return self.folder.files.report

    def table(self, name: str = "methods") -> pandas.DataFrame:
        """One of the report's tables, with unrounded numbers; without a name one row per method.

        Args:
            name: `methods`, `curves`, `groups`, `differences`, `tests`, `runs`, `history`, `importances`, `rules`, ...

        Raises:
            KeyError: There is no such table; the message lists them.
        """
        from ipgl.report import report_tables

        tables = report_tables(self.results)
        if name not in tables:
            raise KeyError(f"no table {name!r}; choose one of {', '.join(tables)}")
        found = tables[name]
        return frame(found.columns, found.rows)

    def runs(self) -> pandas.DataFrame:
        """One row per run: times, outcome, settings and metrics."""
        return self.table("runs")

    def curves(self) -> pandas.DataFrame:
        """One row per method, curve and severity, with the interval."""
        return self.table("curves")

    def groups(self) -> pandas.DataFrame:
        """One row per method and group, with the interval."""
        return self.table("groups")

    def tests(self) -> pandas.DataFrame:
        """One row per pair of methods: difference of the shifted accuracy, interval and p-value, also corrected."""
        return self.table("tests")

    def model(self, method: str, seed: int | None = None) -> Classifier:
        """A trained model of a method's final runs, in evaluation mode on the CPU.

        Args:
            method: The label in the study file.
            seed: Seed of the final run; None is the lowest, so that no test result chooses the model.

        Raises:
            StudyStateError: There is no such run.
        """
        runs = [run for run in self.results.runs if run.phase == "final" and run.status == "completed"]
        of_method = {run.seed: run for run in runs if run.label == method}
        if not of_method:
            known = ", ".join(dict.fromkeys(run.label for run in runs)) or "none yet"
            raise StudyStateError(
                f"{self.folder.display_uri}: {method!r} has no completed final run; methods with one: {known}"
            )
        chosen = min(of_method) if seed is None else seed
        if chosen not in of_method:
            raise StudyStateError(
                f"{self.folder.display_uri}: {method!r} has no completed final run of seed {chosen}; its seeds: "
                f"{', '.join(map(str, sorted(of_method)))}"
            )
        trial = self.folder.trial(of_method[chosen].trial)
        trial.fetch()
        return load_model(trial.path)

    def figure(self, curve: str = "mixture") -> Figure:
        """The robustness figure: every method's accuracy along a curve, with intervals."""
        from ipgl.report import robustness_figure

        return robustness_figure(self.results, curve)

    def __repr__(self) -> str:
        methods = ", ".join(method.label for method in self.summary.methods)
        return f"Study({self.name!r}, {'finished' if self.finished else 'not finished'}, methods: {methods})"

    def _repr_html_(self) -> str:
        """In a notebook: the findings, and the most telling columns of the table of methods."""
        from html import escape

        text = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.findings)
        table = self.table()
        shown = table[[column for column in table.columns if column in _SHOWN]]
        return f"{text}{shown.to_html(index=False, float_format='{:.3f}'.format)}"


def run_study(
    study: str | Path | Mapping[str, object] | StudyConfig,
    *,
    storage: str | None = None,
    address: str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Study:
    """Run a study to its end, as `ipgl study run` does: search, choose winners, retrain them, test once, report.

    Args:
        study: A study file, or what one holds: a mapping, or a `StudyConfig`.
        storage: Folder or URI in place of the study's own.
        address: Ray address; None takes `$RAY_ADDRESS`, or starts Ray on this machine.
        resume: Go on with a study of this name that was interrupted, and return one that is finished.
        progress: Show a live table in a terminal, or a line per ended trial in a notebook and elsewhere.

    Raises:
        IpglError: The study is not valid, its name is in use (without `resume`), or something else that the user can
            mend; the message says what and where.
        KeyboardInterrupt: It was interrupted; the same call goes on with `resume=True`.

    Examples:
        >>> import ipgl
        >>> study = ipgl.run_study({  # doctest: +SKIP
        ...     "name": "first",
        ...     "dataset": {"name": "colored_mnist", "source": "digits"},
        ...     "model": {"name": "mlp"},
        ...     "methods": {"erm": {}, "ipg": {}},
        ... })
        >>> study.table()[["label", "worst_group"]]  # doctest: +SKIP
    """
    plan = _plan(study, storage)
    folder = storage_folder(plan)
    going_on = resume and folder.read_state() is not None

    def action(watcher: Events) -> FinishedStudy:
        return resume_study(folder, watcher, address) if going_on else start_study(plan, watcher, address)

    if progress:
        from ipgl.cli.console import make_console, print_links
        from ipgl.cli.live_display import run_displayed

        console = make_console()
        finished = run_displayed(stored_plan(folder) if going_on else plan, folder, action, console)
        print_links(console, {}, finished.warnings)
    else:
        from ipgl.execution.events import AllEvents

        action(AllEvents())
    return Study(stored_plan(folder), folder)


def load_study(name: str, storage: str = "runs") -> Study:
    """A study on storage by its name, finished or not.

    Args:
        name: The study's name.
        storage: Folder or URI that holds the studies.

    Raises:
        StudyStateError: There is no such study; the message lists those that are there.

    Examples:
        >>> import ipgl
        >>> study = ipgl.load_study("quickstart")  # doctest: +SKIP
        >>> study.findings  # doctest: +SKIP
        >>> study.figure().show()  # doctest: +SKIP
    """
    folder = StudyFolder.at(storage, name)
    require_state(folder)
    return Study(stored_plan(folder), folder)


def _plan(study: str | Path | Mapping[str, object] | StudyConfig, storage: str | None) -> StudyPlan:
    if isinstance(study, str | Path):
        return load_plan(Path(study), storage=storage)
    data = (
        study.model_dump(mode="json", exclude_unset=True) if isinstance(study, StudyConfig) else dict(study)
    )
    if storage is not None:
        data["storage"] = storage
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return make_plan(parse_document(text, f"study {data.get('name', '')!r}"))
