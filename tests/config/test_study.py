from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ipgl.config import StudyConfig, TrainingSettings, load_study

LABEL_RULE = (
    "a name is 1 to 64 of a-z, 0-9, `_`, `.` and `-` and begins with a letter or digit (it becomes a folder)"
)
TOP_LEVEL = f"{', '.join(sorted(StudyConfig.model_fields))}."
TRAINING = f"{', '.join(sorted(TrainingSettings.model_fields))}."


class TestAcceptance:
    def test_four_lines_make_a_study(self, check: Callable[..., StudyConfig]) -> None:
        config = check()
        assert config.name == "s"
        assert config.methods == {"erm": {}}
        assert config.training.optimiser.lr == 0.001
        assert config.evaluation.severities == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
        assert config.search.selection == "pair_robust"

    def test_settings_beside_a_components_name_are_its_own(self, check: Callable[..., StudyConfig]) -> None:
        config = check(dataset="{name: colored_mnist, source: digits, pairs: {train: 3}}")
        assert config.dataset.name == "colored_mnist"
        assert config.dataset.settings == {"source": "digits", "pairs": {"train": 3}}

    def test_a_checked_study_cannot_be_changed(self, check: Callable[..., StudyConfig]) -> None:
        with pytest.raises(ValueError, match="frozen"):
            check().name = "other"  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("extra", "gpus"),
        [
            ("", 0.0),
            ("resources: {use_gpu: true}", 1.0),
            ("resources: {use_gpu: true, gpus_per_worker: 0.25}", 0.25),
        ],
    )
    def test_gpus_of_a_worker(self, check: Callable[..., StudyConfig], extra: str, gpus: float) -> None:
        assert check(extra).resources.gpus == gpus

    def test_read_from_a_file(self, tmp_path: Path, minimal: str) -> None:
        file = tmp_path / "study.yaml"
        file.write_text(minimal)
        document, config = load_study(file)
        assert document.text == minimal
        assert isinstance(config, StudyConfig)


class TestUnknownKeys:
    def test_at_the_top_with_the_nearest_name(self, violations: Callable[..., list[str]]) -> None:
        assert violations("serach: {trials: 3}") == [
            f"f.yaml:5: serach: unknown key 'serach': did you mean 'search'? Choices: {TOP_LEVEL}"
        ]

    def test_at_the_top_with_nothing_near(self, violations: Callable[..., list[str]]) -> None:
        assert violations("zzz: 1") == [f"f.yaml:5: zzz: unknown key 'zzz': Choices: {TOP_LEVEL}"]

    def test_in_a_section(self, violations: Callable[..., list[str]]) -> None:
        assert violations("training:\n  epochs: 3\n  optimizer: {lr: 1}") == [
            "f.yaml:7: training.optimizer: unknown key 'optimizer': did you mean 'optimiser'? "
            f"Choices: {TRAINING}"
        ]

    def test_two_sections_deep(self, violations: Callable[..., list[str]]) -> None:
        assert violations("training:\n  optimiser:\n    leraning: 1\n    momentun: 0.5") == [
            "f.yaml:7: training.optimiser.leraning: unknown key 'leraning': "
            "Choices: lr, momentum, name, weight_decay.",
            "f.yaml:8: training.optimiser.momentun: unknown key 'momentun': did you mean 'momentum'? "
            "Choices: lr, momentum, name, weight_decay.",
        ]


class TestMissingKeys:
    def test_a_key_without_a_value_is_not_missing_but_empty(
        self, violations: Callable[..., list[str]]
    ) -> None:
        assert violations(name="") == ["f.yaml:1: name: input should be a valid string, but got None"]

    def test_a_components_name_is_missed_where_the_component_stands(
        self, violations: Callable[..., list[str]]
    ) -> None:
        assert violations(model="{width: 3}") == [
            "f.yaml:3: model.name: this key is required but missing; add `name: ...`"
        ]

    def test_all_of_them_at_once(self, tmp_path: Path) -> None:
        file = tmp_path / "f.yaml"
        file.write_text("question: why?\n")
        with pytest.raises(Exception, match="required") as caught:
            load_study(file)
        assert str(caught.value).splitlines() == [
            f"{file}:1: {key}: this key is required but missing; add `{key}: ...`"
            for key in ("name", "dataset", "model", "methods")
        ]


def test_several_rules_are_reported_together_each_at_its_own_line(
    violations: Callable[..., list[str]],
) -> None:
    assert violations(
        "training:\n  epochs: 0\n  optimiser: {lr: -1}\nsearch:\n  trials: 0\nevaluation:\n  severities: [0, 2]"
    ) == [
        "f.yaml:6: training.epochs: input should be greater than or equal to 1, but got 0",
        "f.yaml:7: training.optimiser.lr: input should be greater than 0, but got -1",
        "f.yaml:9: search.trials: input should be greater than or equal to 1, but got 0",
        "f.yaml:11: evaluation.severities[1]: a severity is a share in [0, 1] (0.9 means 90% bias-conflicting), "
        "but got 2.0",
    ]


class TestNames:
    BAD = (
        "../x",
        "..",
        ".",
        ".hidden",
        "/etc/x",
        "a/b",
        "a\\\\b",
        "-x",
        "Upper",
        "a b",
        "",
        "ä",
        "a\\n",
        "x" * 65,
    )

    @pytest.mark.parametrize("name", BAD)
    def test_no_study_name_leads_out_of_its_folder(
        self, violations: Callable[..., list[str]], name: str
    ) -> None:
        (message,) = violations(name=f'"{name}"')
        assert message.startswith(f"f.yaml:1: name: {LABEL_RULE}, but got ")

    @pytest.mark.parametrize("label", BAD)
    def test_no_label_does_either(self, violations: Callable[..., list[str]], label: str) -> None:
        message = "\n".join(violations(methods=f'{{"{label}": {{}}}}'))
        assert message.startswith("f.yaml:4: methods.")
        assert f": {LABEL_RULE}, but got " in message

    def test_the_message_shows_the_name(self, violations: Callable[..., list[str]]) -> None:
        assert violations(name="../x") == [f"f.yaml:1: name: {LABEL_RULE}, but got '../x'"]

    @pytest.mark.parametrize("name", ["a", "0a", "colored_mnist-2.1", "x" * 64, "'12'"])
    def test_good_names(self, check: Callable[..., StudyConfig], name: str) -> None:
        assert check(name=name).name == name.strip("'")

    def test_a_number_is_no_name(self, violations: Callable[..., list[str]]) -> None:
        assert violations(name="12") == ["f.yaml:1: name: input should be a valid string, but got 12"]


class TestValues:
    @pytest.mark.parametrize(
        ("extra", "message"),
        [
            ("search: {trials: 0}", "search.trials: input should be greater than or equal to 1, but got 0"),
            (
                "search: {final_seeds: 0}",
                "search.final_seeds: input should be greater than or equal to 1, but got 0",
            ),
            ("search: {sampler: grid}", "search.sampler: input should be 'tpe' or 'random', but got 'grid'"),
            (
                "search: {scheduler: {reduction_factor: 1}}",
                "search.scheduler.reduction_factor: input should be greater than 1, but got 1",
            ),
            (
                "evaluation: {severities: [0.5, -0.1]}",
                "evaluation.severities[1]: a severity is a share in [0, 1] (0.9 means 90% bias-conflicting), "
                "but got -0.1",
            ),
            (
                "evaluation: {severities: [0.5, 1, 0.5]}",
                "evaluation: severities must be distinct, but got [0.5, 1.0, 0.5]",
            ),
            (
                "evaluation: {severities: []}",
                "evaluation.severities: tuple should have at least 1 item after validation, not 0, but got []",
            ),
            ("evaluation: {confidence: 1}", "evaluation.confidence: input should be less than 1, but got 1"),
            (
                "resources: {gpus_per_worker: 0.5}",
                "resources: gpus_per_worker > 0 needs use_gpu: true, but got gpus_per_worker=0.5",
            ),
            ("training: {epochs: true}", "training.epochs: input should be a number, but got True"),
            (
                "training: {epochs: 2.5}",
                "training.epochs: input should be a valid integer, got a number with a fractional part, but got 2.5",
            ),
            ("training: {clip_norm: true}", "training.clip_norm: input should be a number, but got True"),
            ("training: {optimiser: {lr: false}}", "training.optimiser.lr: input should be a number, but got False"),
            (
                "training: {optimiser: {lr: .inf}}",
                "training.optimiser.lr: input should be a finite number, but got inf",
            ),
            (
                "training: {optimiser: {lr: .nan}}",
                "training.optimiser.lr: input should be a finite number, but got nan",
            ),
            ("storage: ''", "storage: string should have at least 1 character, but got ''"),
        ],
    )  # fmt: skip
    def test_each_rule_names_line_path_rule_and_value(
        self, violations: Callable[..., list[str]], extra: str, message: str
    ) -> None:
        assert violations(extra) == [f"f.yaml:5: {message}"]

    def test_a_batch_that_the_workers_cannot_share_equally(
        self, violations: Callable[..., list[str]]
    ) -> None:
        assert violations("training: {batch_size: 10}\nresources:\n  workers: 4") == [
            "f.yaml:6: resources: training.batch_size must be a multiple of resources.workers (each worker takes an "
            "equal share), but got batch_size=10, workers=4"
        ]

    def test_a_batch_that_they_can(self, check: Callable[..., StudyConfig]) -> None:
        assert check("training: {batch_size: 12}\nresources: {workers: 4}").resources.workers == 4

    def test_a_broken_training_section_does_not_hide_behind_the_batch_rule(
        self, violations: Callable[..., list[str]]
    ) -> None:
        assert violations("training: {batch_size: 0}\nresources: {workers: 4}") == [
            "f.yaml:5: training.batch_size: input should be greater than or equal to 1, but got 0"
        ]

    def test_a_range_where_one_value_is_wanted(self, violations: Callable[..., list[str]]) -> None:
        assert violations("training: {optimiser: {lr: {log_uniform: [1e-4, 1]}}}") == [
            "f.yaml:5: training.optimiser.lr: input should be a valid number, but got "
            "{'log_uniform': [0.0001, 1]}; this key takes one value, not a search range "
            "(ranges stand under `methods`)"
        ]

    def test_a_misspelt_range(self, violations: Callable[..., list[str]]) -> None:
        assert violations("training: {epochs: {log_unifrom: [1, 2]}}") == [
            "f.yaml:5: training.epochs: input should be a valid integer, but got {'log_unifrom': [1, 2]}; if this is "
            "meant as a search range, 'log_unifrom' is not one: did you mean 'log_uniform'? "
            "Choices: choice, int, log_int, log_uniform, uniform."
        ]

    def test_a_long_value_is_cut(self, violations: Callable[..., list[str]]) -> None:
        (message,) = violations(f"training: {{epochs: {'x' * 200}}}")
        assert message.endswith("but got '" + "x" * 76 + "...")

    @pytest.mark.parametrize("value", ["{}", "", "3", "[erm]"])
    def test_methods_must_be_at_least_one(self, violations: Callable[..., list[str]], value: str) -> None:
        (message,) = violations(methods=value)
        assert message.startswith("f.yaml:4: methods: ")
