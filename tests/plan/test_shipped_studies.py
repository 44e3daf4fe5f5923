"""The studies in `studies/` give all methods of a comparison the same search budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipgl.config import Choice, parse_range
from ipgl.methods import METHODS
from ipgl.plan.method_plan import SECTIONS, MethodPlan
from ipgl.plan.study_plan import StudyPlan, load_plan

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))


def broken_rules(plan: StudyPlan) -> list[str]:
    """What in a study file gives one method more than another, or another range than `ipgl methods` recommends."""
    found: list[str] = []
    first = plan.methods[0]
    for method in plan.methods:
        if method.start:
            found.append(f"{method.label}: starts from {len(method.start)} known points")
        if plan.search_trials(method.label) != plan.search_trials(first.label):
            found.append(f"{method.label}: {plan.search_trials(method.label)} trials")
        found += _own_ranges(method)
        shared = _section_ranges(method)
        if shared != _section_ranges(first):
            found.append(f"{method.label}: searches {shared}, but {first.label} {_section_ranges(first)}")
    return found


def _own_ranges(method: MethodPlan) -> Iterator[str]:
    entry = METHODS[method.method]
    for key, space in method.space.items():
        if key.partition(".")[0] in SECTIONS:
            continue
        recommended = entry.search_space.get(key)
        if recommended is None:
            # A setting that nothing is recommended for may be searched over all that it can be.
            values = getattr(entry.settings.model_fields[key].annotation, "__args__", ())
            recommended = Choice(tuple(values)) if values else None
        if space != recommended:
            yield f"{method.label}: {key} is searched in {space}, but {recommended} is recommended"


def _section_ranges(method: MethodPlan) -> dict[str, str]:
    """Searched keys of the sections that every method has, such as the weight decay."""
    return {
        key: str(space) for key, space in sorted(method.space.items()) if key.partition(".")[0] in SECTIONS
    }


@pytest.mark.parametrize("file", STUDIES, ids=[file.stem for file in STUDIES])
def test_a_shipped_study_keeps_the_rule(file: Path) -> None:
    assert broken_rules(load_plan(file)) == []


def test_every_shipped_study_is_looked_at() -> None:
    assert {file.stem for file in STUDIES} >= {
        "celeba",
        "colored_mnist",
        "colored_mnist_benchmark",
        "ipg_ablation",
        "pair_budget",
        "quickstart",
        "waterbirds100",
        "waterbirds_tiny",
    }


def test_the_benchmark_searches_everything_that_is_recommended() -> None:
    """Only the IPG entries, which name their variant, fix a setting that has a recommended range."""
    plan = load_plan(next(file for file in STUDIES if file.stem == "colored_mnist_benchmark"))
    for method in plan.methods:
        if method.method != "ipg":
            assert METHODS[method.method].search_space.keys() <= method.space.keys(), method.label
    assert {method.method for method in plan.methods} == set(METHODS)


SOUND = """\
name: s
dataset: {name: colored_mnist, source: digits, pairs: {train: 20, held_out: 20}}
model: {name: mlp, width: 8}
methods:
  erm:
    training: {optimiser: {weight_decay: {log_uniform: [1e-6, 1e-2]}}}
  clp:
    strength: {log_uniform: [0.1, 100]}
    training: {optimiser: {weight_decay: {log_uniform: [1e-6, 1e-2]}}}
  ipg:
    update: sequential
    corrective_optimiser: {choice: [sgd, task, adam]}
    training: {optimiser: {weight_decay: {log_uniform: [1e-6, 1e-2]}}}
"""
CLP_RANGE = "    strength: {log_uniform: [0.1, 100]}\n"
ERM_DECAY = "    training: {optimiser: {weight_decay: {log_uniform: [1e-6, 1e-2]}}}\n  clp"


class TestTheRuleCanFail:
    """Each clause finds a violation that is planted in an otherwise sound study."""

    @pytest.fixture
    def broken(self, tmp_path: Path) -> Callable[..., list[str]]:
        def broken(old: str, new: str) -> list[str]:
            assert old in SOUND
            file = tmp_path / "s.yaml"
            file.write_text(SOUND.replace(old, new, 1))
            return broken_rules(load_plan(file))

        return broken

    def test_a_sound_study_breaks_none(self, broken: Callable[..., list[str]]) -> None:
        assert broken("name: s\n", "name: s\n") == []

    def test_a_known_point(self, broken: Callable[..., list[str]]) -> None:
        start = f"{CLP_RANGE}    start: [{{strength: 1, training.optimiser.weight_decay: 1e-3}}]\n"
        assert broken(CLP_RANGE, start) == ["clp: starts from 1 known points"]

    def test_a_range_narrowed_by_hand(self, broken: Callable[..., list[str]]) -> None:
        [found] = broken("[0.1, 100]", "[3, 30]")
        assert found.startswith("clp: strength is searched in LogUniform(low=3, high=30)")
        assert found.endswith("LogUniform(low=0.1, high=100) is recommended")

    def test_another_scale_of_the_same_bounds(self, broken: Callable[..., list[str]]) -> None:
        assert len(broken("strength: {log_uniform", "strength: {uniform")) == 1

    def test_some_of_the_values_of_a_choice(self, broken: Callable[..., list[str]]) -> None:
        [found] = broken("[sgd, task, adam]", "[sgd, adam]")
        assert found.startswith("ipg: corrective_optimiser is searched in Choice(values=('sgd', 'adam'))")

    def test_a_setting_without_a_recommended_range(self, broken: Callable[..., list[str]]) -> None:
        [found] = broken(
            "    update: sequential", "    warmup_share: {uniform: [0, 0.5]}\n    update: sequential"
        )
        assert found.endswith("but None is recommended")

    def test_another_weight_decay(self, broken: Callable[..., list[str]]) -> None:
        found = broken(ERM_DECAY, ERM_DECAY.replace("1e-2", "1e-1"))
        assert [text.partition(":")[0] for text in found] == ["clp", "ipg"]

    def test_a_method_that_searches_nothing(self, broken: Callable[..., list[str]]) -> None:
        found = broken(ERM_DECAY, "    training: {epochs: 3}\n  clp")
        assert "clp: 16 trials" in found


def test_the_ranges_of_the_sound_study_are_the_registry_s() -> None:
    assert METHODS["clp"].search_space == {"strength": parse_range({"log_uniform": [0.1, 100]})}
