from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType

import pytest
from narrowing import Keywords

from ipgl.config import (
    Choice,
    ConfigError,
    Int,
    LogInt,
    LogUniform,
    TrainingSettings,
    TrialConfig,
    Uniform,
    config_hash,
    parse_document,
)
from ipgl.core.flatten import flatten
from ipgl.data import DATASETS
from ipgl.evaluation import SELECTION_RULES
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.plan.study_plan import StudyPlan, load_plan, make_plan
from ipgl.tracking import TRACKERS

STUDIES = Path(__file__).parents[2] / "studies"

HEADER = """\
name: s
dataset: {name: colored_mnist, source: digits, pairs: {train: 30, held_out: 20}}
model: {name: mlp, width: 16}
methods:
"""  # the methods begin on line 5


def choices(names: Iterable[str]) -> str:
    return f"Choices: {', '.join(sorted(names))}."


IPG_KEYS = choices(METHODS["ipg"].settings.model_fields)


def plan(methods: str, rest: str = "", header: str = HEADER) -> StudyPlan:
    return make_plan(parse_document(f"{header}{methods}\n{rest}", "f.yaml"))


def problems(methods: str, rest: str = "", header: str = HEADER) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        plan(methods, rest, header)
    return str(caught.value).splitlines()


class TestNames:
    def test_an_unknown_method_lists_the_choices(self) -> None:
        assert problems("  ipgg: {}") == [
            f"f.yaml:5: methods.ipgg: unknown method 'ipgg': did you mean 'ipg'? {choices(METHODS)}"
        ]

    def test_a_label_may_name_another_method(self) -> None:
        found = plan("  weak: {method: ipg, strength: 0.5}\n  strong: {method: ipg, strength: 50}")
        assert [(method.label, method.method) for method in found.methods] == [
            ("weak", "ipg"),
            ("strong", "ipg"),
        ]
        assert found.method("strong").sections["method"] == {"strength": 50}

    @pytest.mark.parametrize("name", ["no_such_method", "3", "{}", "null"])
    def test_the_method_that_a_label_names_must_exist(self, name: str) -> None:
        (message,) = problems(f"  mine:\n    method: {name}")
        assert message.startswith("f.yaml:6: methods.mine.method: unknown method '")
        assert message.endswith(choices(METHODS))

    def test_all_unknown_names_are_reported_together(self) -> None:
        header = HEADER.replace("colored_mnist", "coloured_mnist").replace("mlp", "resnet5")
        rest = "search: {selection: pair_robusd}\ntracking: {name: mlflwo}"
        assert problems("  ipgg: {}", rest, header) == [
            "f.yaml:2: dataset.name: unknown dataset 'coloured_mnist': did you mean 'colored_mnist'? "
            + choices(DATASETS),
            f"f.yaml:3: model.name: unknown model 'resnet5': did you mean 'resnet50'? {choices(MODELS)}",
            "f.yaml:6: search.selection: unknown selection rule 'pair_robusd': did you mean 'pair_robust'? "
            + choices(SELECTION_RULES),
            f"f.yaml:7: tracking.name: unknown tracker 'mlflwo': did you mean 'mlflow'? {choices(TRACKERS)}",
            f"f.yaml:5: methods.ipgg: unknown method 'ipgg': did you mean 'ipg'? {choices(METHODS)}",
        ]


class TestKeys:
    def test_a_misspelt_setting_of_a_method(self) -> None:
        assert problems("  ipg:\n    strenght: 3") == [
            f"f.yaml:6: methods.ipg.strenght: unknown key 'strenght': did you mean 'strength'? {IPG_KEYS}"
        ]

    def test_a_key_unlike_any_setting_is_told_about_the_sections(self) -> None:
        assert problems("  erm: {optimiser: {lr: 1}}") == [
            "f.yaml:5: methods.erm.optimiser: unknown key 'optimiser': there is none to choose from. "
            "The sections dataset, model, training and the keys method, start may stand here too."
        ]

    def test_a_misspelt_setting_of_the_studys_model_is_reported_once_and_in_its_place(self) -> None:
        header = HEADER.replace("width: 16", "widht: 16")
        assert problems("  erm: {}\n  ipg: {}", header=header) == [
            "f.yaml:3: model.widht: unknown key 'widht': did you mean 'width'? Choices: depth, width."
        ]

    def test_a_misspelt_setting_of_an_override(self) -> None:
        assert problems("  erm:\n    training:\n      optimiser:\n        momentun: 1") == [
            "f.yaml:8: methods.erm.training.optimiser.momentun: unknown key 'momentun': did you mean 'momentum'? "
            "Choices: lr, momentum, name, weight_decay."
        ]

    def test_an_entry_cannot_take_another_data_set(self) -> None:
        (message,) = problems("  erm: {dataset: {name: other}}")
        assert message.startswith("f.yaml:5: methods.erm.dataset.name: unknown key 'name'")

    @pytest.mark.parametrize("section", ["dataset", "model", "training"])
    @pytest.mark.parametrize("value", ["3", "null", "[1]"])
    def test_an_override_is_a_mapping(self, section: str, value: str) -> None:
        (message,) = problems(f"  erm: {{{section}: {value}}}")
        assert message.startswith(f"f.yaml:5: methods.erm.{section}: this section is a mapping, but got ")

    @pytest.mark.parametrize("value", ["0.1", "{uniform: [0, 1]}"])
    def test_dots_do_not_nest(self, value: str) -> None:
        assert problems(f"  erm: {{training.optimiser.lr: {value}}}") == [
            "f.yaml:5: methods.erm.training.optimiser.lr: a key has no dot in it; "
            "write nested keys as nested mappings"
        ]


class TestValues:
    def test_a_value_that_a_method_refuses(self) -> None:
        assert problems("  ipg: {strength: -0.5}") == [
            "f.yaml:5: methods.ipg.strength: input should be greater than or equal to 0, but got -0.5"
        ]

    def test_the_word_off_reaches_the_method_as_a_word(self) -> None:
        assert (
            plan("  ipg: {adaptivity: off}").trial("ipg", {}, "search", 0).method.settings["adaptivity"]
            == "off"
        )

    def test_a_truth_value_is_no_number(self) -> None:
        assert problems("  ipg: {strength: true}") == [
            "f.yaml:5: methods.ipg.strength: input should be a number, but got True"
        ]

    def test_a_value_of_the_data_set_is_reported_where_it_stands(self) -> None:
        header = HEADER.replace("train: 30", "train: -1")
        assert problems("  erm: {}\n  ipg: {dataset: {pairs: {held_out: 0}}}", header=header) == [
            "f.yaml:2: dataset.pairs.train: input should be greater than or equal to 0, but got -1",
            "f.yaml:6: methods.ipg.dataset.pairs.held_out: input should be greater than or equal to 1, but got 0",
        ]

    def test_a_mapping_where_one_value_stands(self) -> None:
        (message,) = problems("  erm: {training: {epochs: {a: {int: [1, 2]}}}}")
        assert message == (
            "f.yaml:5: methods.erm.training.epochs: input should be a valid integer, but got {'a': 1}; if this is "
            "meant as a search range, 'a' is not one: Choices: choice, int, log_int, log_uniform, uniform."
        )

    def test_an_entrys_batch_must_divide_among_the_workers_too(self) -> None:
        rest = "training: {batch_size: 12}\nresources: {workers: 3}"
        assert problems("  erm: {}\n  ipg: {training: {batch_size: 10}}", rest) == [
            "f.yaml:6: methods.ipg.training.batch_size: must be a multiple of resources.workers=3, but got 10"
        ]


class TestRanges:
    def test_each_kind_under_its_dotted_key(self) -> None:
        found = plan("""\
  ipg:
    strength: {log_uniform: [1, 1000]}
    pairs_per_step: {log_int: [2, 64]}
    discrepancy: {choice: [rationale, logit]}
    training: {optimiser: {weight_decay: {uniform: [0, 0.1]}}, epochs: 3}
    model: {depth: {int: [1, 3]}}
    dataset: {pairs: {seed: {int: [0, 4]}}}
""").method("ipg")
        assert found.space == {
            "strength": LogUniform(1, 1000),
            "pairs_per_step": LogInt(2, 64),
            "discrepancy": Choice(("rationale", "logit")),
            "training.optimiser.weight_decay": Uniform(0, 0.1),
            "model.depth": Int(1, 3),
            "dataset.pairs.seed": Int(0, 4),
        }
        assert found.sections["method"] == {}
        assert found.sections["training"]["epochs"] == 3
        assert (
            flatten(found.sections["training"])["optimiser.weight_decay"] == 0.0
        )  # the study's, until one is drawn

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "strength: {log_uniform: [-1, 3]}",
                "methods.ipg.strength.log_uniform: `low > 0` must hold for a logarithmic range, but got "
                "(low=-1, high=3)",
            ),
            (
                "strength: {uniform: [2, 1]}",
                "methods.ipg.strength.uniform: `low <= high` must hold, but got (low=2, high=1); swap the two",
            ),
            (
                "strength: {uniform: [1]}",
                "methods.ipg.strength.uniform: `uniform` takes two numbers [low, high], but got [1]",
            ),
            (
                "discrepancy: {choice: []}",
                "methods.ipg.discrepancy.choice: `choice` needs at least one value, but got []",
            ),
            (
                "training: {optimiser: {lr: {int: [0.5, 1]}}}",
                "methods.ipg.training.optimiser.lr.int: both bounds must be whole numbers, but got low=0.5",
            ),
            # The setting's own rule, at the bound that breaks it.
            (
                "strength: {uniform: [-1, 3]}",
                "methods.ipg.strength.uniform[0]: input should be greater than or equal to 0, but got -1",
            ),
            (
                "training: {optimiser: {momentum: {uniform: [0, 1]}}}",
                "methods.ipg.training.optimiser.momentum.uniform[1]: input should be less than 1, but got 1",
            ),
            (
                "dataset: {label_noise: {uniform: [0, 1.5]}}",
                "methods.ipg.dataset.label_noise.uniform[1]: input should be less than or equal to 1, but got 1.5",
            ),
            (
                "model: {depth: {int: [0, 3]}}",
                "methods.ipg.model.depth.int[0]: input should be greater than or equal to 1, but got 0",
            ),
            (
                "training: {precision: {choice: [float32, float16]}}",
                "methods.ipg.training.precision.choice[1]: input should be 'float32' or 'bfloat16', but got 'float16'",
            ),
            (
                "strength: {choice: [1, true]}",
                "methods.ipg.strength.choice[1]: input should be a number, but got True",
            ),
            # What only values between the bounds break.
            (
                "pairs_per_step: {uniform: [2, 5]}",
                "methods.ipg.pairs_per_step.uniform: input should be a valid integer, got a number with a fractional "
                "part, but got 3.146",
            ),
            (
                "strenght: {uniform: [1, 2]}",
                f"methods.ipg.strenght: unknown key 'strenght': did you mean 'strength'? {IPG_KEYS}",
            ),
        ],
    )  # fmt: skip
    def test_a_range_is_held_against_the_setting_that_it_searches(self, text: str, message: str) -> None:
        assert problems(f"  ipg: {{{text}}}") == [f"f.yaml:5: {message}"]

    def test_both_bounds_are_reported_at_their_own_lines(self) -> None:
        assert problems("  ipg:\n    strength:\n      uniform:\n        - -3\n        - -1") == [
            "f.yaml:8: methods.ipg.strength.uniform[0]: input should be greater than or equal to 0, but got -3",
            "f.yaml:9: methods.ipg.strength.uniform[1]: input should be greater than or equal to 0, but got -1",
        ]

    def test_a_width_between_the_bounds_that_is_no_multiple(self) -> None:
        header = HEADER.replace("mlp, width: 16", "cnn")
        assert problems("  erm: {model: {width: {int: [8, 64]}}}", header=header) == [
            "f.yaml:5: methods.erm.model.width.int: input should be a multiple of 8, but got 9"
        ]

    def test_a_batch_between_the_bounds_that_does_not_divide(self) -> None:
        rest = "training: {batch_size: 8}\nresources: {workers: 2}"
        assert problems("  erm: {training: {batch_size: {int: [8, 10]}}}", rest) == [
            "f.yaml:5: methods.erm.training.batch_size.int: must be a multiple of resources.workers=2, but got 9"
        ]
        choice = plan("  erm: {training: {batch_size: {choice: [8, 10]}}}", rest)
        assert choice.method("erm").space == {"training.batch_size": Choice((8, 10))}

    def test_a_misspelt_kind(self) -> None:
        (message,) = problems("  ipg: {strength: {loguniform: [1, 2]}}")
        assert message.endswith(
            "if this is meant as a search range, 'loguniform' is not one: did you mean 'log_uniform'? "
            "Choices: choice, int, log_int, log_uniform, uniform."
        )

    def test_null_may_be_a_choice(self) -> None:
        found = plan("  erm: {training: {clip_norm: {choice: [null, 1]}}}")
        assert found.trial("erm", {"training.clip_norm": None}, "search", 0).training.clip_norm is None
        assert found.trial("erm", {"training.clip_norm": 1}, "search", 0).training.clip_norm == 1.0

    def test_several_problems_of_several_methods(self) -> None:
        assert problems(
            "  erm: {training: {epochs: 0}}\n  ipg: {strength: {uniform: [-1, 1]}, pairs_per_step: 1}"
        ) == [
            "f.yaml:5: methods.erm.training.epochs: input should be greater than or equal to 1, but got 0",
            "f.yaml:6: methods.ipg.pairs_per_step: input should be greater than or equal to 2, but got 1",
            "f.yaml:6: methods.ipg.strength.uniform[0]: input should be greater than or equal to 0, but got -1",
        ]


class TestOverrides:
    REST = "training: {epochs: 7, batch_size: 32, optimiser: {name: sgd, lr: 0.5, momentum: 0.3}}"

    def test_they_change_what_they_name_and_inherit_the_rest(self) -> None:
        found = plan(
            "  erm: {}\n"
            "  ipg: {training: {epochs: 9, optimiser: {lr: 0.25}}, model: {depth: 3}, dataset: {pairs: {train: 8}}}",
            self.REST,
        )
        erm, ipg = (found.trial(label, {}, "search", 0) for label in ("erm", "ipg"))
        assert erm.training == TrainingSettings.model_validate(
            {"epochs": 7, "batch_size": 32, "optimiser": {"name": "sgd", "lr": 0.5, "momentum": 0.3}}
        )
        assert ipg.training == TrainingSettings.model_validate(
            {"epochs": 9, "batch_size": 32, "optimiser": {"name": "sgd", "lr": 0.25, "momentum": 0.3}}
        )
        assert erm.model.settings == {"width": 16, "depth": 2}
        assert ipg.model.settings == {"width": 16, "depth": 3}
        assert erm.dataset.settings["pairs"] == {"train": 30, "held_out": 20, "seed": 0}
        assert ipg.dataset.settings["pairs"] == {"train": 8, "held_out": 20, "seed": 0}

    def test_an_empty_override_inherits_everything(self) -> None:
        found = plan("  erm: {training: {optimiser: {}}, dataset: {pairs: {}}, model: {}}", self.REST)
        trial = found.trial("erm", {}, "search", 0)
        assert trial.training.optimiser.lr == 0.5
        assert flatten(trial.dataset.settings)["pairs.train"] == 30
        assert trial.model.settings["width"] == 16

    def test_an_empty_mapping_in_place_of_a_value_is_refused(self) -> None:
        assert problems("  erm: {training: {epochs: {}}}") == [
            "f.yaml:5: methods.erm.training.epochs: input should be a valid integer, but got {}"
        ]

    def test_one_entrys_override_leaves_the_others_alone(self) -> None:
        found = plan("  ipg: {training: {optimiser: {lr: 0.25}}}\n  erm: {}", self.REST)
        assert found.trial("erm", {}, "search", 0).training.optimiser.lr == 0.5


class TestStartPoints:
    METHOD = (
        "  ipg:\n    strength: {uniform: [1, 9]}\n    update: {choice: [sequential, additive]}\n    start:\n"
    )

    def test_they_are_kept_in_order(self) -> None:
        found = plan(
            self.METHOD + "      - {strength: 2, update: additive}\n      - {update: sequential, strength: 9}"
        )
        assert found.method("ipg").start == (
            {"strength": 2, "update": "additive"},
            {"strength": 9, "update": "sequential"},
        )

    @pytest.mark.parametrize(
        ("point", "message"),
        [
            ("{strength: 2}", "methods.ipg.start[0]: needs a value for every range; missing: update"),
            ("{}", "methods.ipg.start[0]: needs a value for every range; missing: strength, update"),
            (
                "{strength: 10, update: additive}",
                "methods.ipg.start[0].strength: must lie in Uniform(low=1, high=9), but got 10",
            ),
            (
                "{strength: 2, update: both}",
                "methods.ipg.start[0].update: must lie in Choice(values=('sequential', 'additive')), but got 'both'",
            ),
            (
                "{strength: true, update: additive}",
                "methods.ipg.start[0].strength: must lie in Uniform(low=1, high=9), but got True",
            ),
            (
                "{strength: 2, update: additive, updat: additive}",
                "methods.ipg.start[0].updat: 'updat' is not searched: did you mean 'update'? "
                "Choices: strength, update.",
            ),
            (
                "{strength: 2, update: additive, adaptivity: gate}",
                "methods.ipg.start[0].adaptivity: 'adaptivity' is not searched: Choices: strength, update.",
            ),
        ],
    )  # fmt: skip
    def test_each_is_a_point_of_the_space(self, point: str, message: str) -> None:
        assert problems(f"{self.METHOD}      - {point}") == [f"f.yaml:9: {message}"]

    def test_the_second_point_is_found_at_its_own_line(self) -> None:
        (message,) = problems(self.METHOD + "      - {strength: 2, update: additive}\n      - {strength: 3}")
        assert message.startswith("f.yaml:10: methods.ipg.start[1]: needs a value for every range")

    @pytest.mark.parametrize("value", ["3", "{strength: 3}", "[3]", "null"])
    def test_they_are_a_list_of_mappings(self, value: str) -> None:
        (message,) = problems(f"  ipg: {{strength: {{uniform: [1, 2]}}, start: {value}}}")
        assert message.startswith(
            "f.yaml:5: methods.ipg.start: start is a list of mappings from searched keys to values, but got "
        )

    def test_where_nothing_is_searched_nothing_can_start(self) -> None:
        assert problems("  ipg: {strength: 3, start: [{strength: 3}]}") == [
            "f.yaml:5: methods.ipg.start[0].strength: 'strength' is not searched: there is none to choose from."
        ]

    def test_nested_keys_are_dotted(self) -> None:
        found = plan(
            "  erm: {training: {optimiser: {lr: {uniform: [0.1, 1]}}}, start: [{training.optimiser.lr: 0.5}]}"
        )
        trial = found.trial("erm", found.method("erm").start[0], "search", 0)
        assert trial.training.optimiser.lr == 0.5


class TestTrials:
    METHODS = """\
  erm: {}
  ipg:
    strength: {log_uniform: [1, 100]}
    training: {optimiser: {lr: {log_uniform: [1e-4, 1]}}}
    model: {width: {int: [4, 32]}}
    dataset: {pairs: {train: {int: [2, 40]}}}
"""
    SAMPLED = MappingProxyType(
        {"strength": 7.5, "training.optimiser.lr": 0.01, "model.width": 12, "dataset.pairs.train": 9}
    )

    def trial(self, **changes: object) -> TrialConfig:
        arguments: Keywords = {"label": "ipg", "sampled": self.SAMPLED, "phase": "search", "seed": 3}
        return plan(self.METHODS).trial(**(arguments | changes))

    def test_every_value_is_concrete(self) -> None:
        trial = self.trial()
        assert trial.model_dump(mode="json", include={"study", "label", "phase", "seed", "selection"}) == {
            "study": "s",
            "label": "ipg",
            "phase": "search",
            "seed": 3,
            "selection": "pair_robust",
        }
        assert trial.hyperparameters == self.SAMPLED
        assert (trial.method.name, trial.method.settings) == (
            "ipg",
            METHODS["ipg"].settings.model_validate({"strength": 7.5}).model_dump(mode="json"),
        )
        assert trial.method.settings["strength"] == 7.5
        assert trial.method.settings["update"] == "balanced"
        assert (trial.model.name, trial.model.settings) == ("mlp", {"width": 12, "depth": 2})
        assert trial.dataset.name == "colored_mnist"
        assert trial.dataset.settings.keys() == DATASETS["colored_mnist"].settings.model_fields.keys()
        assert trial.dataset.settings["source"] == "digits"
        assert trial.dataset.settings["train_agreements"] == [0.8, 0.9]
        assert trial.dataset.settings["pairs"] == {"train": 9, "held_out": 20, "seed": 0}
        assert trial.training == TrainingSettings.model_validate({"optimiser": {"lr": 0.01}})

    def test_drawing_does_not_change_the_plan(self) -> None:
        found = plan(self.METHODS)
        first = found.trial("ipg", self.SAMPLED, "search", 0)
        found.trial("ipg", self.SAMPLED | {"strength": 99.0, "model.width": 32}, "search", 0)
        assert found.trial("ipg", self.SAMPLED, "search", 0) == first

    def test_the_key_tells_trials_apart(self) -> None:
        keys = [
            self.trial().key,
            self.trial(label="erm", sampled={}).key,
            self.trial(phase="final").key,
            self.trial(seed=4).key,
            *(self.trial(sampled=self.SAMPLED | {name: 10}).key for name in self.SAMPLED),
        ]
        assert len(set(keys)) == 8
        assert keys[0].startswith("ipg-search-s3-")
        assert self.trial().key == keys[0]

    def test_the_key_is_the_same_in_another_process(self, tmp_path: Path) -> None:
        file = tmp_path / "f.yaml"
        file.write_text(f"{HEADER}{self.METHODS}")
        code = (
            "import sys; from pathlib import Path; from ipgl.plan.study_plan import load_plan; "
            f"print(load_plan(Path(sys.argv[1])).trial('ipg', {dict(self.SAMPLED)!r}, 'search', 3).key)"
        )
        environment = os.environ | {"PYTHONHASHSEED": "12345"}
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert done.stdout.strip() == self.trial().key

    def test_a_method_without_ranges_is_searched_once(self) -> None:
        found = plan(self.METHODS, "search: {trials: 5}")
        assert (found.search_trials("erm"), found.search_trials("ipg")) == (1, 5)

    def test_final_seeds_are_fresh(self) -> None:
        found = plan("  erm: {}", "search: {seed: 41, final_seeds: 4}")
        assert found.final_seeds() == [42, 43, 44, 45]
        assert found.config.search.seed not in found.final_seeds()


class TestHash:
    """What may change in a study file between a study's beginning and its resumption."""

    def hash(self, methods: str = "  ipg: {strength: 2}", rest: str = "", header: str = HEADER) -> str:
        return plan(methods, rest, header).hash

    @pytest.mark.parametrize(
        "rest",
        [
            "question: why?",
            "storage: elsewhere",
            "tracking: {name: none}",
            "# a comment",
            "search: {trials: 16}",
            "search: {pack: 4}",
            "search: {vary: [weights]}",
        ],
    )
    def test_what_leaves_results_alone_leaves_it_alone(self, rest: str) -> None:
        assert self.hash(rest=rest) == self.hash()

    def test_layout_leaves_it_alone(self) -> None:
        assert self.hash("  ipg:\n    strength:   2   # two") == self.hash()

    @pytest.mark.parametrize(
        "change",
        [
            {"methods": "  ipg: {strength: 3}"},
            {"methods": "  ipg: {strength: {uniform: [2, 3]}}"},
            {"methods": "  ipg: {strength: 2}\n  erm: {}"},
            {"rest": "search: {trials: 17}"},
            {"rest": "search: {seed: 1}"},
            {"rest": "search: {vary: [pairs]}"},
            {"rest": "training: {epochs: 21}"},
            {"rest": "evaluation: {confidence: 0.9}"},
            {"header": HEADER.replace("width: 16", "width: 17")},
            {"header": HEADER.replace("train: 30", "train: 31")},
            {"header": HEADER.replace("name: s\n", "name: t\n")},
        ],
    )
    def test_what_changes_results_changes_it(self, change: dict[str, str]) -> None:
        assert self.hash(**change) != self.hash()

    def test_is_that_of_the_configuration(self) -> None:
        found = plan("  erm: {}")
        content = found.config.model_dump(mode="json")
        for name in ("tracking", "storage", "question"):
            del content[name]
        del content["search"]["pack"], content["search"]["vary"]
        assert found.hash == config_hash(content)


@pytest.mark.parametrize("file", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_study_file_of_the_project_is_sound(file: Path) -> None:
    found = load_plan(file)
    for method in found.methods:
        for point in (*method.start, {key: space.probes[0] for key, space in method.space.items()}):
            assert found.trial(method.label, point, "search", 0).label == method.label
