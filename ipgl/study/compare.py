"""Comparison of several studies: their methods in one table, each labelled `study/label`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ipgl.config import EvaluationSettings
from ipgl.core.errors import StudyStateError
from ipgl.core.flatten import flatten
from ipgl.evaluation import (
    Comparison,
    MethodSummary,
    RunResult,
    StudyResults,
    StudySummary,
    Tested,
    compare,
)
from ipgl.evaluation.aggregate import NOTHING_COMPARED
from ipgl.evaluation.selection_audit import audit_rules
from ipgl.plan.study_plan import StudyPlan
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.mixture_axis import align_studies
from ipgl.study.results import missing_curves, read_ended_runs, results_of, study_environment

_CURVE_AXES = {
    "mixture": "severities",
    "worst_case_kl": "kl_radii",
    "worst_case_tv": "tv_radii",
    "interpolation": "interpolation_points",
    "corruption": "corruption_levels",
}
_SHOWN_KEYS = 6


@dataclass(frozen=True)
class StudyComparison:
    """A comparison of studies.

    Attributes:
        results: Results of all studies together; labels are `study/label`.
        problems: Differences between the studies that prevent a full comparison, one sentence each.
    """

    results: StudyResults
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Study:
    plan: StudyPlan
    results: StudyResults
    tested: dict[str, list[Tested]]

    @property
    def name(self) -> str:
        return self.plan.config.name

    @property
    def finals(self) -> list[Tested]:
        return [run for runs in self.tested.values() for run in runs]

    def label(self, label: str) -> str:
        return f"{self.name}/{label}"


def compare_studies(studies: Sequence[tuple[StudyPlan, StudyFolder]]) -> StudyComparison:
    """Compare studies from their files on storage.

    Raises:
        StudyStateError: Their groups differ, or they have no severity in common.
    """
    found = [_read(plan, folder) for plan, folder in studies]
    _require_same_groups(found)
    settings, problems = _common_settings(found)
    unpaired, notes = _data_differences(found)
    axis = align_studies({study.name: study.tested for study in found}, *_names(found))
    problems += [*unpaired, *axis.problems]
    comparison = compare(
        {
            f"{study}/{label}": runs
            for study, by_label in axis.studies.items()
            for label, runs in by_label.items()
        },
        settings,
    )
    methods = tuple(
        _relabelled(method, study.label(method.label), comparison)
        for study in found
        for method in study.results.summary.methods
    )
    runs = [
        run.model_copy(update={"label": study.label(run.label)})
        for study in found
        for run in study.results.runs
    ]
    summary = _merged(found, settings, methods, runs).model_copy(
        update={
            "differences": {
                pair: points
                for pair, points in comparison.differences.items()
                if axis.comparable(*pair.split(" - "))
            },
            "tests": tuple(test for test in comparison.tests if axis.comparable(test.a, test.b)),
            # Search trials were tested on each study's own axis, and cannot be ranked together.
            **({"rules": ()} if axis.realigned else {}),
            "remarks": (
                *problems,
                *notes,
                *(f"{study.name}: {remark}" for study in found for remark in study.results.summary.remarks),
                *missing_curves(methods),
            ),
        }
    )
    histories = {key: rows for study in found for key, rows in study.results.histories.items()}
    return StudyComparison(
        StudyResults(summary=summary, runs=tuple(runs), histories=histories), tuple(problems)
    )


def _read(plan: StudyPlan, folder: StudyFolder) -> _Study:
    ended = read_ended_runs(folder, [method.label for method in plan.methods])
    # Comparisons are made over all studies together, not here.
    return _Study(plan, results_of(plan, folder, ended, NOTHING_COMPARED), ended.tested)


def _relabelled(method: MethodSummary, label: str, comparison: Comparison) -> MethodSummary:
    """A method's summary under another label, with that label's part of the comparison."""
    return method.model_copy(
        update={
            "label": label,
            "estimates": comparison.estimates.get(label, {}),
            "curves": comparison.curves.get(label, {}),
            "groups": comparison.groups.get(label, ()),
        }
    )


def _merged(
    studies: Sequence[_Study],
    settings: EvaluationSettings,
    methods: tuple[MethodSummary, ...],
    runs: Sequence[RunResult],
) -> StudySummary:
    summaries = [study.results.summary for study in studies]
    configs = {study.name: study.results.summary.config for study in studies}
    chances = {summary.chance for summary in summaries if not math.isnan(summary.chance)}
    fingerprints = {summary.data_fingerprint for summary in summaries}
    named = next((summary for summary in summaries if summary.class_names), summaries[0])
    hashes = "".join(summary.config_hash for summary in summaries)
    return StudySummary(
        study=" + ".join(configs),
        question=" ".join(dict.fromkeys(summary.question for summary in summaries if summary.question)),
        selection=", ".join(dict.fromkeys(summary.selection for summary in summaries)),
        confidence=settings.confidence,
        config={
            "evaluation": settings.model_dump(mode="json"),
            "methods": {
                study.label(label): raw
                for study in studies
                for label, raw in study.plan.config.methods.items()
            },
            "studies": configs,
        },
        config_hash=hashlib.sha256(hashes.encode()).hexdigest(),
        data_fingerprint=fingerprints.pop() if len(fingerprints) == 1 else "",
        environment=study_environment(),
        methods=methods,
        differences={},
        class_names=named.class_names,
        attribute_names=named.attribute_names,
        rules=audit_rules(runs, [method.label for method in methods]),
        chance=chances.pop() if len(chances) == 1 else math.nan,
        seconds=sum(summary.seconds for summary in summaries),
    )


def _names(studies: Sequence[_Study]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes and of the attribute's values; empty if no study has final runs."""
    named = next((study.results.summary for study in studies if study.results.summary.class_names), None)
    return (named.class_names, named.attribute_names) if named else ((), ())


def _require_same_groups(studies: Sequence[_Study]) -> None:
    groups = {
        study.name: [(group.label, group.attribute) for group in study.finals[0].run.groups]
        for study in studies
        if study.finals
    }
    first, *others = groups.items() or [("", [])]
    for name, found in others:
        if found != first[1]:
            raise StudyStateError(
                f"studies {first[0]!r} and {name!r} cannot be compared: their test splits have different groups "
                f"({len(first[1])} and {len(found)} combinations of label and attribute); compare studies of one task"
            )


def _common_settings(studies: Sequence[_Study]) -> tuple[EvaluationSettings, list[str]]:
    """The first study's settings without what the others do not share, and the problems that this causes."""
    first, problems = studies[0].plan.config.evaluation, []
    update: dict[str, Any] = {}
    curves = list(first.curves)
    for study in studies[1:]:
        other = study.plan.config.evaluation
        if set(other.severities) != set(first.severities):
            common = [s for s in update.get("severities", first.severities) if s in other.severities]
            if not common:
                raise StudyStateError(
                    f"studies {studies[0].name!r} and {study.name!r} have no severity in common: "
                    f"{list(first.severities)} and {list(other.severities)}; give both the same "
                    "`evaluation.severities`"
                )
            update["severities"] = tuple(common)
            problems.append(
                f"Studies {studies[0].name} and {study.name} have different `evaluation.severities`: the mixture "
                f"curve is shown at the {len(common)} that both have."
            )
        for curve in [c for c in curves if c != "mixture"]:
            axis = _CURVE_AXES[curve]
            if curve not in other.curves or getattr(other, axis) != getattr(first, axis):
                curves.remove(curve)
                problems.append(
                    f"Curve `{curve}` is left out: {studies[0].name} and {study.name} do not share it and its "
                    f"`evaluation.{axis}`."
                )
        problems += [
            f"Studies {studies[0].name} and {study.name} differ in `evaluation.{key}`: "
            f"{getattr(first, key)} of the first is used for all."
            for key in ("target_severity", "worst_case_mix", "confidence")
            if getattr(other, key) != getattr(first, key)
        ]
    return first.model_copy(update=update | {"curves": tuple(curves)}), problems


def _data_differences(studies: Sequence[_Study]) -> tuple[list[str], list[str]]:
    """Problems of studies with other test examples than the first, and notes on those with other training data."""
    unpaired, notes = [], []
    first = next((study for study in studies if study.finals), None)
    for study in studies:
        if first is None or study is first or not study.finals:
            continue
        one, other = first.finals[0].run, study.finals[0].run
        fingerprints = (
            f"data fingerprints {one.data_fingerprint[:12]} and {other.data_fingerprint[:12]}"
            f"{_data_keys(first, study)}"
        )
        if one.test_fingerprint != other.test_fingerprint:
            unpaired.append(
                f"Studies {first.name} and {study.name} were tested on different examples ({fingerprints}): "
                "differences between them are not paired, so that what is hard for both does not cancel."
            )
        elif one.data_fingerprint != other.data_fingerprint:
            notes.append(
                f"Studies {first.name} and {study.name} have different data ({fingerprints}), but the same test "
                "examples."
            )
    return unpaired, notes


def _data_keys(one: _Study, other: _Study) -> str:
    """The settings of the data set that differ."""
    a, b = (flatten(study.plan.config.dataset.model_dump(mode="json")) for study in (one, other))
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    shown = [f"dataset.{key}: {a.get(key)!r} and {b.get(key)!r}" for key in keys[:_SHOWN_KEYS]]
    more = f", {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return f"; {', '.join(shown)}{more}" if shown else ""
