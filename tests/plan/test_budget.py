"""Budgets of methods, and the text about what they need."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import finished_study

from ipgl.config import parse_document
from ipgl.evaluation import RunResult
from ipgl.evaluation.study_summary import MethodBudget, SearchedSetting
from ipgl.methods import METHODS
from ipgl.plan.budget import method_budget, needs_text
from ipgl.plan.study_plan import StudyPlan, make_plan
from ipgl.study.results import summarise

STUDY = """\
name: s
dataset: {{name: colored_mnist, source: digits, pairs: {{train: 300, held_out: 200}}}}
model: {{name: mlp, width: 8}}
methods:
  erm: {{}}
  ipg:
    dataset: {{pairs: {{train: 50}}}}
    update: {{choice: [sequential, additive]}}
    strength: {{log_uniform: [0.1, 100]}}
    pairs_per_step: 16
    augment: {{shift_pixels: 1}}
    training: {{epochs: 7}}
    start: [{{update: additive, strength: 10}}]
  lisa:
    dataset: {{pairs: {{held_out: 60}}}}
    same_label: {{uniform: [0, 1]}}
  irm:
    anneal_share: {{uniform: [0.1, 0.5]}}
    training: {{epochs: {{int: [2, 20]}}}}
  clp:
    dataset: {{pairs: {{train: {{int: [50, 100]}}}}}}
training: {{epochs: 5}}
search: {{trials: 9, selection: {rule}}}
tracking: {{name: none}}
"""


def plan_of(rule: str = "pair_robust") -> StudyPlan:
    return make_plan(parse_document(STUDY.format(rule=rule), "study.yaml"))


def given(label: str, rule: str = "pair_robust", runs: tuple[RunResult, ...] = ()) -> MethodBudget:
    plan = plan_of(rule)
    return method_budget(plan, plan.method(label), runs)


def ended(status: str, steps: int) -> RunResult:
    return RunResult(
        study="s", label="ipg", method="ipg", phase="search", trial="t", seed=0, status=status, steps=steps
    )


def test_a_searched_method_with_pairs() -> None:
    found = given("ipg", runs=(ended("completed", 70), ended("completed", 70), ended("stopped", 30)))
    assert found.trials == 9
    assert found.ended == {"completed": 2, "stopped": 1, "failed": 0}
    assert (found.epochs, found.steps, found.starts) == (7, 170, 1)
    assert found.searched == (
        SearchedSetting(name="update", range="{choice: [sequential, additive]}", width=2, unit="values"),
        SearchedSetting(name="strength", range="{log_uniform: [0.1, 100]}", width=3, unit="decades"),
    )
    assert found.fixed == {"pairs_per_step": 16, "augment.shift_pixels": 1}
    assert (found.training_pairs, found.held_out_pairs) == (50, 200)
    assert found.training_labels == ("class labels",)


def test_a_method_without_ranges_and_pairs() -> None:
    found = given("erm")
    assert (found.trials, found.epochs, found.training_pairs, found.held_out_pairs) == (1, 5, 0, 200)
    assert found.searched == ()
    assert found.fixed == {}


def test_labels_beyond_classes_and_own_held_out_pairs() -> None:
    assert given("lisa").training_labels == ("class labels", "groups")
    assert given("lisa").held_out_pairs == 60
    [same_label] = given("lisa").searched
    assert (same_label.width, same_label.unit) == (1, "wide")
    assert given("irm").training_labels == ("class labels", "environments")


def test_a_number_that_the_search_draws_is_no_number() -> None:
    assert given("irm").epochs is None
    assert given("clp").training_pairs is None
    assert given("clp").held_out_pairs == 200


@pytest.mark.parametrize(
    ("rule", "reads"),
    [
        ("pair_robust", ("class labels", "held-out pairs")),
        ("average", ("class labels",)),
        ("worst_group", ("class labels", "validation groups")),
        ("oracle_test", ("class labels", "held-out pairs", "test split")),
    ],
)
def test_what_selection_reads(rule: str, reads: tuple[str, ...]) -> None:
    assert given("erm", rule).selection_reads == reads


@pytest.mark.parametrize(
    ("label", "rule", "text"),
    [
        ("erm", "pair_robust", "labels only; selected by 200 pairs"),
        ("erm", "average", "labels only"),
        ("erm", "worst_group", "labels only; selected by validation groups"),
        ("erm", "oracle_test", "labels only; selected by 200 pairs and the test split (an oracle)"),
        ("ipg", "pair_robust", "50 pairs; selected by 200 more"),
        ("ipg", "average", "50 pairs"),
        ("clp", "pair_robust", "pairs; selected by 200 more"),
        ("lisa", "pair_robust", "groups; selected by 60 pairs"),
        ("irm", "worst_group", "environments; selected by validation groups"),
    ],
)
def test_needs_name_what_else_chose_the_settings(label: str, rule: str, text: str) -> None:
    plan = plan_of(rule)
    needs = METHODS[plan.method(label).method].needs
    assert needs_text(needs, given(label, rule)) == text


def test_a_finished_study_carries_its_budgets(tmp_path: Path) -> None:
    erm, ipg = summarise(*finished_study(tmp_path / "runs")).summary.methods
    assert erm.needs == "labels only; selected by 40 pairs"
    assert ipg.needs == "60 pairs; selected by 40 more"
    assert ipg.budget is not None
    assert (ipg.budget.trials, ipg.budget.ended["completed"], ipg.budget.epochs) == (1, 1, 3)
    # 1,000 training digits in batches of 100 over 3 epochs.
    assert ipg.budget.steps == 30
    assert ipg.budget.fixed == {
        "update": "additive",
        "discrepancy": "logit",
        "adaptivity": "off",
        "strength": 10,
    }
