from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from ipgl.config import Settings, parse_document, read_document
from ipgl.data import DATASETS
from ipgl.evaluation import SELECTION_RULES
from ipgl.methods import METHODS, method_entry
from ipgl.methods.erm import Erm
from ipgl.models import MODELS
from ipgl.plan.json_schema import Schema, study_schema
from ipgl.plan.study_plan import make_plan
from ipgl.tracking import TRACKERS

STUDIES = sorted((Path(__file__).parents[2] / "studies").glob("*.yaml"))

GOOD = """\
name: s
dataset: {name: colored_mnist, source: digits, pairs: {train: 30}}
model: {name: cnn, width: 8}
methods:
  erm:
    training: {optimiser: {weight_decay: {log_uniform: [1e-5, 0.1]}}, epochs: {int: [1, 3]}}
    dataset: {pairs: {seed: {choice: [1, 2]}}}
    model: {width: {choice: [8, 16]}}
  ipg: {strength: {uniform: [1, 2]}, update: {choice: [additive]}, start: [{strength: 1, update: additive}]}
  strong: {method: ipg, strength: 50, training: {clip_norm: {choice: [null, 1]}}}
training: {optimiser: {lr: 1e-3}}
search: {scheduler: {name: asha}, concurrency: null}
evaluation: {severities: [0, 0.5]}
"""


@pytest.fixture(scope="module")
def schema() -> Schema:
    return study_schema()


@pytest.fixture(scope="module")
def validator(schema: Schema) -> Draft202012Validator:
    return Draft202012Validator(schema)


def test_is_a_json_schema(schema: Schema) -> None:
    Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere(schema: Schema) -> None:
    def references(node: object) -> set[str]:
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        found = {node["$ref"]} if isinstance(node, dict) and isinstance(node.get("$ref"), str) else set()
        return found.union(*map(references, children))

    names = {reference.removeprefix("#/$defs/") for reference in references(schema)}
    assert names
    assert names <= schema["$defs"].keys()


@pytest.mark.parametrize("file", STUDIES, ids=lambda path: path.name)
def test_accepts_the_projects_study_files(validator: Draft202012Validator, file: Path) -> None:
    assert [error.message for error in validator.iter_errors(read_document(file).data)] == []


def test_accepts_what_the_plan_accepts(validator: Draft202012Validator) -> None:
    make_plan(parse_document(GOOD))
    assert [error.message for error in validator.iter_errors(parse_document(GOOD).data)] == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("\ntraining: {", "\ntrainign: {"),
        ("{lr: 1e-3}", "{lrr: 1e-3}"),
        ("{lr: 1e-3}", "{lr: 0}"),
        ("{lr: 1e-3}", "{lr: {uniform: [1, 2]}}"),
        ("colored_mnist", "coloured_mnist"),
        ("source: digits", "sauce: digits"),
        ("source: digits", "source: no_such_source"),
        ("pairs: {train: 30}", "pairs: {trian: 30}"),
        ("name: cnn, width", "name: no_such_model, width"),
        ("name: cnn, width", "name: cnn, depth"),  # the mlp has one, the cnn has none
        ("  erm:", "  emr:"),
        ("weight_decay: {", "weight_decoy: {"),
        ("log_uniform", "loguniform"),
        ("[1e-5, 0.1]", "[1e-5, 0.1, 1]"),
        ("{seed: {choice", "{sead: {choice"),
        ("    model: {width", "    model: {widht"),
        ("strength: {uniform", "strenght: {uniform"),
        ("strength: 50", "strength: -50"),
        ("choice: [additive]", "choice: []"),
        ("method: ipg", "method: no_such_method"),
        ("method: ipg", "method: erm"),  # which has no strength
        ("name: asha", "name: hyperband"),
        ("severities: [0, 0.5]", "severities: []"),
        ("search: {", "search: {selection: no_such_rule, "),
        ("search: {", "search: {trials: 0, "),
        ("evaluation:", "tracking: {name: no_such_tracker}\nevaluation:"),
    ],
)
def test_rejects_what_the_plan_rejects(validator: Draft202012Validator, good: str, bad: str) -> None:
    assert GOOD.count(good) == 1
    document = parse_document(GOOD.replace(good, bad))
    with pytest.raises(Exception, match=":"):
        make_plan(document)
    assert not validator.is_valid(document.data)


@pytest.mark.parametrize("key", ["name", "dataset", "model", "methods"])
def test_four_keys_are_required(validator: Draft202012Validator, key: str) -> None:
    data = parse_document(GOOD).data
    del data[key]
    assert not validator.is_valid(data)


def test_offers_every_registry_entry(schema: Schema) -> None:
    properties, definitions = schema["properties"], schema["$defs"]

    def names(section: str) -> set[str]:
        return {entry["properties"]["name"]["const"] for entry in properties[section]["anyOf"]}

    assert names("dataset") == DATASETS.keys()
    assert names("model") == MODELS.keys()
    assert properties["methods"]["properties"].keys() == METHODS.keys()
    assert definitions["SearchSettings"]["properties"]["selection"]["enum"] == sorted(SELECTION_RULES)
    assert definitions["TrackingSettings"]["properties"]["name"]["enum"] == sorted(TRACKERS)


def test_does_not_change_from_call_to_call(schema: Schema) -> None:
    assert study_schema() == schema


class TestClassesOfOneName:
    """`augment` of images is a crop, `augment` of `ipg` moves pairs: both are an `AugmentSettings`."""

    STUDY = """\
name: s
dataset: {name: image_folder, root: here, augment: {scale: [0.5, 1.0], flip: false}}
model: {name: resnet18}
methods:
  ipg: {augment: {shift_pixels: 2, rotate_degrees: 10, scale: {uniform: [0, 0.2]}}}
  other: {method: ipg, augment: {mix: 0.5}, dataset: {augment: {flip: {choice: [true, false]}}}}
"""

    def test_each_has_its_own_keys(self, validator: Draft202012Validator) -> None:
        document = parse_document(self.STUDY)
        make_plan(document)
        assert [error.message for error in validator.iter_errors(document.data)] == []

    @pytest.mark.parametrize(
        ("good", "bad"),
        [
            ("scale: [0.5, 1.0], flip", "shift_pixels: 2, flip"),
            ("scale: [0.5, 1.0], flip", "scale: 0.5, flip"),
            ("shift_pixels: 2", "ratio: [0.5, 2.0]"),
            ("scale: {uniform: [0, 0.2]}", "scale: [0.5, 1.0]"),
            ("mix: 0.5", "ratio: [0.5, 2.0]"),
            ("flip: {choice: [true, false]}", "mix: {choice: [0.1, 0.5]}"),
            ("flip: {choice: [true, false]}", "scale: {uniform: [0.5, 1.0, 2.0]}"),
        ],
    )
    def test_the_others_are_refused(self, validator: Draft202012Validator, good: str, bad: str) -> None:
        assert self.STUDY.count(good) == 1
        document = parse_document(self.STUDY.replace(good, bad))
        with pytest.raises(Exception, match=":"):
            make_plan(document)
        assert not validator.is_valid(document.data)

    @pytest.mark.parametrize(
        "taken", ["SearchSettings", "OptimiserSettings", "AugmentSettings", "SearchRange"]
    )
    def test_so_have_those_of_ones_own_method(
        self, monkeypatch: pytest.MonkeyPatch, schema: Schema, taken: str
    ) -> None:
        def settings(key: str) -> type[Settings]:
            inner = type(taken, (Settings,), {"__annotations__": {key: int}, key: 1})
            return type("Own", (Settings,), {"__annotations__": {"inner": inner}, "inner": inner()})

        for name, key in (("first", "apples"), ("second", "pears")):
            monkeypatch.setitem(METHODS, name, method_entry(Erm, settings(key), "this test"))
        validator = Draft202012Validator(study_schema())
        good = parse_document(GOOD).data
        for name, key, valid in (
            ("first", "apples", True),
            ("first", "pears", False),
            ("second", "pears", True),
            ("second", "apples", False),
        ):
            data = {**good, "methods": {**good["methods"], name: {"inner": {key: 2}}}}
            assert validator.is_valid(data) is valid
        monkeypatch.undo()
        assert study_schema() == schema
