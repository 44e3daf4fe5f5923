"""Console output of a study: live progress while it runs, and the table of results."""

from __future__ import annotations

import math
import textwrap
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ipgl.cli.console import print_remark
from ipgl.cli.progress import OVER, MethodProgress, Progress
from ipgl.config import TrialConfig
from ipgl.data.image_cache import decoding_progress
from ipgl.evaluation import (
    SELECTION_RULES,
    CurvePoint,
    Estimate,
    MethodSummary,
    RunResult,
    StudySummary,
    VarianceComponent,
)
from ipgl.evaluation.curve_types import GENERAL_MIXTURE, MIXTURE
from ipgl.evaluation.guessing import NO_BETTER, guessing_words, is_guessing
from ipgl.plan.final_runs import component_runs
from ipgl.plan.study_plan import StudyPlan
from ipgl.report.formatting import mix_phrase, p_value
from ipgl.report.result_queries import mixture_of
from ipgl.storage.study_dir import StudyFolder

if TYPE_CHECKING:
    from ipgl.execution.events import Events
    from ipgl.study.runner import FinishedStudy

# With more methods, differences are left to the report: their number grows with the square.
_MOST_DIFFERENCES = 4
_NEEDS_WIDTH = len("environments;")  # longer texts wrap at spaces
_SECONDS_BETWEEN_RECORDS = 1.0
_SOURCES = {"weights": "weights", "pairs": "pairs", "data": "data", "all": "all together"}
_AXES = {
    MIXTURE: "agrees q%: where the attribute agrees with the label q% of the time. ",
    GENERAL_MIXTURE: "equal s%: s% of the way from the training mix to equal groups within each class. ",
}


class LiveDisplay:
    """Shows the progress of a study: a live table on a terminal, else one line per ended trial.

    With `records`, the content of the table is also printed as lines for programs, at most one per second.
    """

    def __init__(self, plan: StudyPlan, folder: StudyFolder, console: Console, records: bool = False) -> None:
        self._plan, self._console, self._records = plan, console, records
        self._started = time.monotonic()
        self._recorded_at = -math.inf
        self._running: dict[str, TrialConfig] = {}
        self._ended: dict[str, RunResult] = {
            result.trial: result for trial in folder.trials() if (result := trial.read_result())
        }
        self._known = len(self._ended)
        self._live = Live(
            get_renderable=lambda: self.progress().table(),
            console=console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> LiveDisplay:
        if self._known:
            self._console.print(f"{self._known} runs are on storage already and are kept")
        if self._console.is_terminal:
            self._live.start()
        self._record()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._records:
            self._console.print(OVER)

    def began(self, config: TrialConfig) -> None:
        """Count a trial as running; an event of `Events`."""
        self._running[config.key] = config
        self._record()

    def reported(self, config: TrialConfig, score: float) -> None:
        """Print a record if one is due; an event of `Events`. The score is not shown."""
        self._record()

    def ended(self, result: RunResult) -> None:
        """Count a trial as ended; an event of `Events`."""
        self._running.pop(result.trial, None)
        self._ended[result.trial] = result
        if not self._console.is_terminal:
            self._console.print(_line(result, len(self._ended)), soft_wrap=True)
        self._record()

    def progress(self) -> Progress:
        """The present progress of the study."""
        methods = tuple(self._method(method.label) for method in self._plan.methods)
        total = sum(method.to_search + method.to_test + method.to_repeat for method in methods)
        seconds, done = time.monotonic() - self._started, len(self._ended) - self._known
        return Progress(
            study=self._plan.config.name,
            seconds=seconds,
            seconds_left=seconds / done * max(0, total - len(self._ended)) if done else None,
            ended=len(self._ended),
            total=total,
            methods=methods,
        )

    def _method(self, label: str) -> MethodProgress:
        # The live table is drawn in another thread, so the dictionaries are copied.
        own = [run for run in list(self._ended.values()) if run.label == label]
        search = [run for run in own if run.phase == "search"]
        scored = [run for run in search if run.status == "completed" and not math.isnan(run.score)]
        # As for the choice of a winner, trials no better than guessing count only if all are.
        skilled = [run for run in scored if not is_guessing(run)] or scored
        return MethodProgress(
            label=label,
            searched=len(search),
            to_search=self._plan.search_trials(label),
            running=sum(config.label == label for config in list(self._running.values())),
            stopped=sum(run.status == "stopped" for run in search),
            failed=sum(run.status == "failed" for run in own),
            best=max((run.score for run in skilled), default=None),
            tested=sum(run.phase == "final" and run.status == "completed" for run in own),
            to_test=len(self._plan.final_seeds()),
            repeated=sum(run.phase == "component" and run.status == "completed" for run in own),
            to_repeat=component_runs(self._plan, label),
        )

    def _record(self) -> None:
        now = time.monotonic()
        if self._records and now - self._recorded_at >= _SECONDS_BETWEEN_RECORDS:
            self._recorded_at = now
            self._console.print(self.progress().line(), soft_wrap=True)


def _line(result: RunResult, number: int) -> str:
    settings = ", ".join(f"{key}={_short(value)}" for key, value in result.hyperparameters.items())
    outcome = f"score {result.score:.3f}" if result.status == "completed" else result.status
    if result.failure:
        outcome += f": {result.failure.message}"
    return f"{number:4d}  {result.phase:6}  {result.label:12} seed {result.seed}  {outcome}  {settings}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def results_table(summary: StudySummary, width: int = 140) -> Table:
    """One row per method: accuracy (percent, with interval) along the curve and in the worst group.

    On a narrow terminal each interval is placed below its mean; on a very narrow one the column `needs` is left out.
    """
    names = [_name(method) for method in summary.methods]
    label = max(len(line) for name in names for line in name.splitlines())
    between = " " if width >= label + 106 else "\n"
    with_needs = width >= label + 86
    mixture = mixture_of(summary)
    shown = _shown_severities(
        next((method.curves[mixture] for method in summary.methods if mixture in method.curves), ())
    )
    table = Table(
        title=f"{summary.study}: test accuracy in percent, {summary.confidence:.0%} interval",
        caption=f"{_AXES[mixture] if shown else ''}Means over final seeds.\n"
        f"Winners chosen by {summary.selection}{_reading(summary)}.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("method", no_wrap=True)
    if with_needs:
        table.add_column("needs", max_width=_NEEDS_WIDTH)
    for severity in shown:
        heading = (
            f"agrees {100 * (1 - severity):.0f}%" if mixture == MIXTURE else f"equal {100 * severity:.0f}%"
        )
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("worst group", justify="right", no_wrap=True)
    table.add_column("seeds", justify="right")
    for name, method in zip(names, summary.methods, strict=True):
        curve = {point.severity: point for point in method.curves.get(mixture, ())}
        table.add_row(
            name,
            *([method.needs] if with_needs else []),
            *(_cell(curve.get(severity), between) for severity in shown),
            _cell(method.estimates.get("worst_group"), between),
            str(len(method.final_runs)),
        )
    return table


def _name(method: MethodSummary) -> str:
    """The label, and below it a remark if the method is no better than guessing."""
    words = guessing_words(method)
    return "\n".join([method.label, *textwrap.wrap(words, len(NO_BETTER))])


def _reading(summary: StudySummary) -> str:
    rules = [SELECTION_RULES[name] for name in summary.selection.split(", ")]
    if any(rule.oracle for rule in rules):
        return ", an ORACLE: it read the test split, which no honest choice may"
    return "; no choice read test data"


def audit_line(summary: StudySummary) -> str | None:
    """How well the study's selection rule ranked the search trials; None if that is not known."""
    audit = next((audit for audit in summary.rules if audit.rule == summary.selection), None)
    if audit is None or math.isnan(audit.spearman):
        return None
    phrase = mix_phrase(summary.config["evaluation"]["target_severity"], mixture_of(summary))
    within = [value for value in audit.within.values() if not math.isnan(value)]
    inside = (
        f"; within methods {sum(within) / len(within):.3f} (mean of {len(within)}, lowest {min(within):.3f})"
        if within
        else ""
    )
    return (
        f"Looking back, {audit.rule} ranked the {audit.trials} completed search trials as the test accuracy "
        f"{phrase} did, with Spearman {audit.spearman:.3f}, all methods pooled{inside}"
    )


def difference_lines(summary: StudySummary) -> list[str]:
    """Each difference between two methods at the last severity of the table, in percentage points, with interval."""
    lines = []
    tests = {f"{test.a} - {test.b}": test.corrected_p_value for test in summary.tests}
    corrected = ", corrected for all pairs" if len(summary.tests) > 1 else ""
    for pair, points in summary.differences.items():
        shown = _shown_severities(points)[-1]
        point = next(point for point in points if point.severity == shown)
        p = (
            tests.get(pair, math.nan)
            if shown == summary.config["evaluation"]["target_severity"]
            else math.nan
        )
        lines.append(
            f"{pair} {_short_phrase(point)}: "
            f"{100 * point.accuracy:+.1f} points [{100 * point.low:+.1f}, {100 * point.high:+.1f}]"
            f"{'' if math.isnan(p) else f', {p_value(p)}{corrected}'}"
        )
    return lines


def component_lines(summary: StudySummary) -> list[str]:
    """Standard deviation of each method's accuracy at the target severity by source of randomness, in points."""
    lines = []
    for method in summary.methods:
        own = [one for one in method.components if one.metric == "shifted_accuracy"]
        if own:
            parts = ", ".join(f"{_SOURCES[one.source]} {_deviation(one)}" for one in own)
            lines.append(f"{method.label}, standard deviation of the shifted accuracy in points: {parts}")
    return lines


def _deviation(component: VarianceComponent) -> str:
    if not component.runs:
        return "0 (not used)"
    return (
        f"{100 * component.deviation:.1f} [{100 * component.low:.1f}, {100 * component.high:.1f}]"
        f"{'' if component.same_examples else ' with its test examples'}"
    )


def _short_phrase(point: CurvePoint) -> str:
    if math.isnan(point.agreement):
        return mix_phrase(point.severity, GENERAL_MIXTURE)
    return f"where the attribute agrees {100 * point.agreement:.0f}% of the time"


def _shown_severities(points: Iterable[CurvePoint]) -> list[float]:
    """The severities 0.1, 0.5 and 0.9 (10% agreement, common in the literature), as far as they were measured.

    Without an alignment the first is 0, the training mix.
    """
    points = list(points)
    severities = sorted(point.severity for point in points)
    first = 0.0 if all(math.isnan(point.agreement) for point in points) else 0.1
    wanted = [severity for severity in (first, 0.5, 0.9) if severity in severities]
    return wanted or severities[:: max(1, len(severities) - 1)]


def _cell(value: CurvePoint | Estimate | None, between: str) -> str:
    if value is None:
        return "-"
    mean = value.accuracy if isinstance(value, CurvePoint) else value.mean
    if math.isnan(mean):
        return "no examples"
    return f"{100 * mean:.1f}{between}[{100 * value.low:.1f}, {100 * value.high:.1f}]"


def print_results(console: Console, summary: StudySummary) -> None:
    """Print the table of results and the differences between methods."""
    console.print(results_table(summary, console.width))
    for method in summary.methods:
        settings = ", ".join(f"{key}={_short(value)}" for key, value in method.hyperparameters.items())
        if method.winner is None:
            console.print(f"{method.label}: no search trial completed, so there is no winner")
        elif settings:
            console.print(f"{method.label} won with {settings}", soft_wrap=True)
    if len(summary.methods) <= _MOST_DIFFERENCES:
        for line in difference_lines(summary):
            console.print(line)
    for line in component_lines(summary):
        console.print(line, soft_wrap=True)
    if audit := audit_line(summary):
        console.print(audit, soft_wrap=True)
    for remark in summary.remarks:
        print_remark(console, "note:", remark)


class DecodeLines:
    """Prints the progress of decoding a data set's images; nothing if it takes less than `seconds`."""

    def __init__(self, console: Console, seconds: float = 5.0) -> None:
        """Print to `console`, at most every `seconds`."""
        self._console, self._seconds, self._last = console, seconds, math.inf

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` images are decoded."""
        now = time.monotonic()
        if done == 1:
            self._last = now
        elif now - self._last >= self._seconds and done < total:
            self._last = now
            self._console.print(f"decoding images into the cache: {done:,} of {total:,}")


def run_displayed(
    plan: StudyPlan,
    folder: StudyFolder,
    action: Callable[[Events], FinishedStudy],
    console: Console,
    records: bool = False,
) -> FinishedStudy:
    """Run or resume a study (`action`) with its progress on the console, that of decoding images included."""
    with LiveDisplay(plan, folder, console, records) as display, decoding_progress(DecodeLines(console)):
        return action(display)
