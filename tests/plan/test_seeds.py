"""Seeds of final and component runs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from narrowing import of_kind

from ipgl.config import ConfigError, TrialConfig, parse_document
from ipgl.core.flatten import flatten
from ipgl.plan.final_runs import (
    component_runs,
    component_trials,
    draw_of,
    final_trials,
    run_title,
)
from ipgl.plan.study_plan import StudyPlan, make_plan

STUDY = """\
name: s
dataset: {{name: colored_mnist, source: digits, seed: 7, pairs: {{train: 30, held_out: 20, seed: 8}}}}
model: {{name: mlp, width: 16}}
methods:
  erm: {methods}
  ipg: {{strength: 2}}
search: {{seed: 41, final_seeds: 3{search}}}
"""


def plan(vary: str = "", methods: str = "{}") -> StudyPlan:
    return make_plan(
        parse_document(STUDY.format(search=f", vary: {vary}" if vary else "", methods=methods), "f.yaml")
    )


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        make_plan(parse_document(text, "f.yaml"))
    return str(caught.value).splitlines()


def seeds(config: TrialConfig) -> tuple[int, int, int]:
    settings = flatten(config.dataset.settings)
    return config.seed, of_kind(settings["pairs.seed"], int), of_kind(settings["seed"], int)


def derived(text: str) -> int:
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1) % 2**32


class TestFinalRuns:
    @pytest.mark.parametrize("vary", ["", "[weights]"])
    def test_by_default_weights_alone_are_drawn(self, vary: str) -> None:
        found = plan(vary)
        finals = final_trials(found, "ipg", {})
        assert [seeds(config) for config in finals] == [(42, 8, 7), (43, 8, 7), (44, 8, 7)]
        assert finals == [found.trial("ipg", {}, "final", seed) for seed in found.final_seeds()]

    def test_varied_sources_are_derived_and_others_stay(self) -> None:
        finals = final_trials(plan("[weights, pairs]"), "ipg", {})
        pairs = [derived(f"41:vary:pairs:{number}") for number in range(3)]
        assert [seeds(config) for config in finals] == [
            (42, pairs[0], 7),
            (43, pairs[1], 7),
            (44, pairs[2], 7),
        ]
        assert len(set(pairs)) == 3

    def test_unvaried_weights_are_one_draw_that_no_search_trial_has(self) -> None:
        finals = final_trials(plan("[data]"), "ipg", {})
        data = [derived(f"41:vary:data:{number}") for number in range(3)]
        assert [seeds(config) for config in finals] == [(42, 8, seed) for seed in data]
        assert len({config.key for config in finals}) == 3

    def test_methods_share_the_draws(self) -> None:
        found = plan("[pairs, data]")
        erm, ipg = (final_trials(found, label, {}) for label in ("erm", "ipg"))
        assert [config.dataset for config in erm] == [config.dataset for config in ipg]

    def test_search_trials_keep_the_files_seeds(self) -> None:
        assert seeds(plan("[weights, pairs, data]").trial("ipg", {}, "search", 41)) == (41, 8, 7)


class TestComponentRuns:
    def test_each_differs_from_its_final_run_in_its_source_alone(self) -> None:
        found = plan("[weights, pairs, data]")
        finals = final_trials(found, "ipg", {})
        repeated = component_trials(found, "ipg", {})
        keys = {"weights": "seed", "pairs": "dataset.pairs.seed", "data": "dataset.seed"}
        assert [(trial.number, trial.source) for trial in repeated] == [
            (number, source) for number in range(3) for source in ("weights", "pairs", "data")
        ]
        for trial in repeated:
            assert trial.original == finals[trial.number]
            a, b = (flatten(config.model_dump(mode="json")) for config in (trial.original, trial.config))
            assert {key for key in a if a[key] != b[key]} == {"phase", keys[trial.source]}
            assert b["phase"] == "component"
            fresh = b[keys[trial.source]]
            assert fresh == derived(f"41:vary:{trial.source}:{trial.number}:again")
        assert len({trial.config.key for trial in repeated} | {config.key for config in finals}) == 12

    @pytest.mark.parametrize("vary", ["", "[pairs]"])
    def test_one_source_needs_none(self, vary: str) -> None:
        assert component_trials(plan(vary), "ipg", {}) == []
        assert component_runs(plan(vary), "ipg") == 0

    def test_a_method_without_pairs_is_not_repeated_on_other_pairs(self) -> None:
        found = plan("[weights, pairs]")
        assert [trial.source for trial in component_trials(found, "erm", {})] == ["weights"] * 3
        assert [component_runs(found, label) for label in ("erm", "ipg")] == [3, 6]


class TestTitles:
    def test_runs_are_told_apart_by_what_was_drawn(self) -> None:
        found = plan("[weights, pairs]")
        first, repeated = final_trials(found, "ipg", {})[1], component_trials(found, "ipg", {})[2:4]
        titles = [run_title(found, config) for config in (first, *(trial.config for trial in repeated))]
        assert titles == ["seed 43", "seed 43, other weights", "seed 43, other pairs"]

    def test_without_weights_runs_are_numbered(self) -> None:
        found = plan("[pairs, data]")
        trial = component_trials(found, "ipg", {})[-1]
        assert [run_title(found, config) for config in (trial.original, trial.config)] == [
            "run 3",
            "run 3, other data",
        ]

    def test_a_search_trial_has_no_draw(self) -> None:
        found = plan("[pairs, data]")
        config = found.trial("ipg", {}, "search", 41)
        assert draw_of(found, config) is None
        assert run_title(found, config) == ""


class TestRefusals:
    def test_a_data_set_without_a_seed_for_a_source(self) -> None:
        text = STUDY.format(search=", vary: [weights, data]", methods="{}")
        text = text.replace(
            "{name: colored_mnist, source: digits, seed: 7, pairs: {train: 30, held_out: 20, seed: 8}}",
            "{name: celeba}",
        )
        assert problems(text) == [
            "f.yaml:7: search.vary[1]: the data set celeba has no seed for 'data', so that it is the same in every "
            "run; leave it out of search.vary. Choices: weights, pairs."
        ]

    @pytest.mark.parametrize("seed", ["3", "{int: [0, 5]}"])
    def test_a_method_that_sets_or_searches_a_varied_seed(self, seed: str) -> None:
        text = STUDY.format(
            search=", vary: [weights, pairs]", methods=f"{{dataset: {{pairs: {{seed: {seed}}}}}}}"
        )
        assert problems(text) == [
            "f.yaml:5: methods.erm.dataset.pairs.seed: search.vary draws 'pairs' for each final run, alike for all "
            "methods; leave this key out, or leave 'pairs' out of search.vary"
        ]

    def test_a_method_may_set_a_seed_that_is_not_varied(self) -> None:
        found = plan("[weights, pairs]", "{dataset: {seed: 3}}")
        assert [seeds(config)[2] for config in final_trials(found, "erm", {})] == [3, 3, 3]

    @pytest.mark.parametrize(
        ("vary", "message"),
        [
            (
                "[pairs, weights, pairs]",
                "search.vary: the sources must be distinct, but got ['pairs', 'weights', 'pairs']; name each once",
            ),
            ("[]", "search.vary: "),
            ("[noise]", "search.vary[0]: "),
        ],
    )
    def test_sources_that_are_none(self, vary: str, message: str) -> None:
        (found,) = problems(STUDY.format(search=f", vary: {vary}", methods="{}"))
        assert found.startswith(f"f.yaml:7: {message}")


def test_a_data_sets_seeds_are_settings_of_its_own() -> None:
    from ipgl.data import DATASETS

    for entry in DATASETS.values():
        settings: Any = entry.settings()
        for key in entry.seeds.values():
            value: Any = settings
            for part in key.split("."):
                value = getattr(value, part)
            assert value == 0
