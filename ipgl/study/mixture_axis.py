"""Alignment of the studies in a comparison, so that their mixture curves share one severity axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ipgl.evaluation import GroupCount, Tested
from ipgl.evaluation.mixture import mixture_weights
from ipgl.report.formatting import listed

Studies: TypeAlias = Mapping[str, Mapping[str, Sequence[Tested]]]
_Roles: TypeAlias = tuple[bool | None, ...]
_TRAINING_MIX = 0.01  # larger than the differences between seeds of one data set


@dataclass(frozen=True)
class AlignedStudies:
    """Final runs of several studies under one alignment.

    Attributes:
        studies: Completed final runs by study and label.
        problems: What was changed, or cannot be compared, one sentence each.
        realigned: Whether some study is evaluated under another alignment than its own.
        other_mix: Studies whose severities stand for other mixtures than the first study's, so that differences to
            them are left out.
    """

    studies: Studies
    problems: tuple[str, ...] = ()
    realigned: bool = False
    other_mix: frozenset[str] = frozenset()

    def comparable(self, first: str, second: str) -> bool:
        """Whether two labels `study/label` have accuracies on the same mixtures."""
        one, other = (label.partition("/")[0] for label in (first, second))
        return one == other or not {one, other} & self.other_mix


def align_studies(
    studies: Studies, class_names: Sequence[str], attribute_names: Sequence[str]
) -> AlignedStudies:
    """Give the final runs of all studies the same aligned groups.

    Accuracies on mixtures follow exactly from group accuracies, so a run can be evaluated under another study's
    alignment: that of the first study that has one is used for all. Without any, general mixtures are used, which
    differ between studies whose training mixes differ.

    Args:
        studies: Completed final runs by study and label, all with the same groups.
        class_names: Names of the classes.
        attribute_names: Names of the attribute's values.
    """
    firsts = {name: run for name, by_label in studies.items() if (run := _first(by_label)) is not None}
    roles = {name: _roles(run.run.groups) for name, run in firsts.items()}
    used = next((name for name, found in roles.items() if None not in found), None)
    if used is None:
        return _general(studies, firsts)
    moved = [name for name, found in roles.items() if found != roles[used]]
    if not moved:
        return AlignedStudies(studies)
    problem = (
        f"{'Study' if len(moved) == 1 else 'Studies'} {listed(moved)} "
        f"{'has' if len(moved) == 1 else 'have'} no alignment or another one: accuracies of all are shown where "
        f"{_said(firsts[used].run.groups, class_names, attribute_names)}, as in {used}, and no "
        "selection rule is looked back at; give all the same `evaluation.alignment`."
    )
    alike = {
        name: {label: [_realigned(run, roles[used]) for run in runs] for label, runs in by_label.items()}
        for name, by_label in studies.items()
    }
    return AlignedStudies(alike, (problem,), realigned=True)


def _first(by_label: Mapping[str, Sequence[Tested]]) -> Tested | None:
    return next((runs[0] for runs in by_label.values() if runs), None)


def _roles(groups: Sequence[GroupCount]) -> _Roles:
    return tuple(group.aligned for group in groups)


def _realigned(tested: Tested, roles: _Roles) -> Tested:
    groups = tuple(
        group.model_copy(update={"aligned": aligned})
        for group, aligned in zip(tested.run.groups, roles, strict=True)
    )
    return Tested(tested.run.model_copy(update={"groups": groups}), tested.predictions)


def _said(groups: Sequence[GroupCount], classes: Sequence[str], attributes: Sequence[str]) -> str:
    return listed(
        [
            f"{attributes[group.attribute] if attributes else f'attribute {group.attribute}'} agrees with "
            f"{classes[group.label] if classes else f'label {group.label}'}"
            for group in groups
            if group.aligned
        ]
    )


def _general(studies: Studies, firsts: Mapping[str, Tested]) -> AlignedStudies:
    """The studies unchanged; `other_mix` are those whose training mix differs from the first study's."""
    starts = {name: mixture_weights(run.run.groups, [0.0])[0] for name, run in firsts.items()}
    first, *others = starts or [""]
    different = [name for name in others if abs(starts[name] - starts[first]).max() > _TRAINING_MIX]
    if not different:
        return AlignedStudies(studies)
    problem = (
        f"The general mixture starts from each study's own training mix, and that of {listed(different)} is another "
        f"than {first}'s: differences between them are not told."
    )
    return AlignedStudies(studies, (problem,), other_mix=frozenset(different))
