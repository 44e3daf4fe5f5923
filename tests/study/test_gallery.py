from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_study import finished_study, study_text

from ipgl.plan.study_plan import StudyPlan
from ipgl.report import Gallery
from ipgl.storage.study_dir import StudyFolder
from ipgl.study import gallery as gallery_module
from ipgl.study.gallery import make_gallery
from ipgl.study.results import summarise
from ipgl.trial.datasets import forget_datasets


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyPlan, StudyFolder]:
    return finished_study(tmp_path_factory.mktemp("gallery") / "runs")


@pytest.fixture(scope="module")
def found(study: tuple[StudyPlan, StudyFolder]) -> Gallery:
    plan, folder = study
    return make_gallery(plan, folder, summarise(plan, folder))


def test_pairs_show_one_digit_in_both_colours(found: Gallery) -> None:
    assert len(found.pairs) == 8
    assert found.missing == ""
    for pair in found.pairs:
        assert pair.a.dtype == np.uint8
        assert pair.a.shape == pair.b.shape == (8, 8, 3)
        np.testing.assert_array_equal(pair.a[..., 0], pair.b[..., 1])
        assert not pair.a[..., 1:].any()
        assert not pair.b[..., [0, 2]].any()
        assert pair.caption in ("digit < 5", "digit >= 5")


def test_mistakes_are_of_the_worst_group_and_are_mistakes(
    study: tuple[StudyPlan, StudyFolder], found: Gallery
) -> None:
    plan, folder = study
    summary = summarise(plan, folder).summary
    for method in summary.methods:
        worst = min(method.groups, key=lambda group: group.accuracy.mean)
        mistakes = found.mistakes[method.label]
        assert 0 < len(mistakes) <= 6
        other = summary.class_names[1 - worst.label]
        what = f"{summary.class_names[worst.label]}, {summary.attribute_names[worst.attribute]}"
        counts = [int(mistake.caption.split(" by ")[1][0]) for mistake in mistakes]
        assert counts == sorted(counts, reverse=True)
        assert all(count in (1, 2) for count in counts)
        for mistake in mistakes:
            assert mistake.caption.startswith(f"{what}: taken for {other} by ")
            assert not mistake.image[..., 1 - worst.attribute].any()  # in the group's colour


def test_without_the_data_the_gallery_says_why(
    study: tuple[StudyPlan, StudyFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = study
    results = summarise(plan, folder)

    def gone(component: str) -> None:
        raise OSError("the digits are gone")

    monkeypatch.setattr(gallery_module, "cached_dataset", gone)
    found = make_gallery(plan, folder, results)
    assert found.pairs == ()
    assert found.missing == "The data set cannot be built here: the digits are gone"


def test_methods_with_data_of_their_own(tmp_path: Path) -> None:
    more = ""
    text = study_text(tmp_path / "runs", more=more).replace(
        "  erm: {}", "  erm: {}\n  grey: {method: erm, dataset: {greyscale: true}}"
    )
    plan, folder = finished_study(tmp_path / "runs", text)
    forget_datasets()
    found = make_gallery(plan, folder, summarise(plan, folder))
    assert list(found.mistakes) == ["erm", "grey", "ipg"]
    grey = found.mistakes["grey"][0].image
    np.testing.assert_array_equal(grey[..., 0], grey[..., 1])
