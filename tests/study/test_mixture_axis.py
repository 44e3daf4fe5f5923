"""Alignment of the studies in a comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from final_runs import completed_final

from ipgl.evaluation import GroupCount, Predictions, aggregate
from ipgl.study.mixture_axis import AlignedStudies, align_studies

NOTHING = np.zeros(0, dtype=np.int32)
PREDICTIONS = Predictions(NOTHING, NOTHING, NOTHING, np.zeros((0, 2), dtype=np.float32))
NAMES = (("dark", "blond"), ("female", "male"))
ALIGNED = [False, True, True, False]
TURNED = [True, False, False, True]
NONE = [None] * 4


def study(
    roles: Sequence[bool | None], training: tuple[int, int, int, int] = (50, 50, 50, 50)
) -> dict[str, list[aggregate.Tested]]:
    groups = tuple(
        GroupCount(
            label=i // 2, attribute=i % 2, aligned=role, count=25, correct=i, training_count=training[i]
        )
        for i, role in enumerate(roles)
    )
    run = completed_final("erm", groups, seed=1)
    return {"none yet": [], "erm": [aggregate.Tested(run, PREDICTIONS)]}


def roles(axis: AlignedStudies) -> dict[str, list[bool | None]]:
    return {
        name: [group.aligned for group in by_label["erm"][0].run.groups]
        for name, by_label in axis.studies.items()
    }


def test_studies_of_one_alignment_stay_as_they_are() -> None:
    studies = {"a": study(ALIGNED), "b": study(ALIGNED, (1, 2, 3, 4))}
    axis = align_studies(studies, *NAMES)
    assert axis.studies is studies
    assert (axis.problems, axis.realigned) == ((), False)
    assert axis.comparable("a/erm", "b/erm")


@pytest.mark.parametrize("other", [NONE, TURNED])
def test_a_study_without_the_alignment_is_read_under_it(other: Sequence[bool | None]) -> None:
    studies = {"a": study(ALIGNED), "b": study(other)}
    axis = align_studies(studies, *NAMES)
    assert roles(axis) == {"a": ALIGNED, "b": ALIGNED}
    assert [g.correct for g in axis.studies["b"]["erm"][0].run.groups] == [0, 1, 2, 3]
    assert axis.realigned
    assert axis.comparable("a/erm", "b/erm")
    assert axis.problems == (
        "Study b has no alignment or another one: accuracies of all are shown where male agrees with dark and female "
        "agrees with blond, as in a, and no selection rule is looked back at; give all the same "
        "`evaluation.alignment`.",
    )


def test_the_first_study_that_has_an_alignment_gives_it() -> None:
    axis = align_studies({"a": study(NONE), "b": study(TURNED), "c": study(ALIGNED)}, (), ())
    assert roles(axis) == {"a": TURNED, "b": TURNED, "c": TURNED}
    assert axis.problems[0].startswith(
        "Studies a and c have no alignment or another one: accuracies of all are shown where attribute 0 agrees with "
        "label 0 and attribute 1 agrees with label 1, as in b,"
    )


def test_general_mixtures_of_one_training_mix_are_compared() -> None:
    # 500 of 1,000 and 504 of 1,000: seeds of the data move a mix by that much.
    axis = align_studies({"a": study(NONE), "b": study(NONE, (504, 496, 500, 500))}, *NAMES)
    assert (axis.problems, axis.other_mix) == ((), frozenset())


def test_general_mixtures_of_other_training_mixes_are_not() -> None:
    axis = align_studies({"a": study(NONE), "b": study(NONE, (80, 20, 80, 20)), "c": study(NONE)}, *NAMES)
    assert axis.other_mix == {"b"}
    assert axis.comparable("a/erm", "c/erm")
    assert axis.comparable("b/erm", "b/ipg")
    assert not axis.comparable("a/erm", "b/erm")
    assert axis.problems == (
        "The general mixture starts from each study's own training mix, and that of b is another than a's: "
        "differences between them are not told.",
    )


def test_without_final_runs_there_is_nothing_to_put_on_an_axis() -> None:
    studies: dict[str, dict[str, list[aggregate.Tested]]] = {"a": {"erm": []}, "b": {"erm": []}}
    assert align_studies(studies, (), ()).problems == ()
    assert align_studies(studies | {"c": study(NONE)}, (), ()).problems == ()
