from __future__ import annotations

import hashlib

from ipgl.config import (
    Component,
    EvaluationSettings,
    ResourceSettings,
    TrainingSettings,
    TrialConfig,
    config_hash,
)


def trial(**changes: object) -> TrialConfig:
    fields = {
        "study": "s",
        "label": "ipg",
        "phase": "search",
        "seed": 7,
        "hyperparameters": {"strength": 2.5},
        "dataset": Component(name="colored_mnist", source="digits"),
        "model": Component(name="mlp", width=8),
        "method": Component(name="ipg", strength=2.5),
        "training": TrainingSettings(),
        "evaluation": EvaluationSettings(),
        "resources": ResourceSettings(),
        "selection": "pair_robust",
    }
    return TrialConfig(**(fields | changes))


class TestHash:
    def test_is_that_of_the_canonical_json(self) -> None:
        expected = hashlib.sha256(b'{"a":[1,null],"b":{"c":0.5,"d":"x"}}').hexdigest()
        assert config_hash({"b": {"d": "x", "c": 0.5}, "a": [1, None]}) == expected

    def test_the_order_of_keys_does_not_matter_but_that_of_lists_does(self) -> None:
        assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})
        assert config_hash([1, 2]) != config_hash([2, 1])

    def test_every_kind_of_change_shows(self) -> None:
        variants = [{}, {"a": 1}, {"a": 2}, {"a": "1"}, {"a": None}, {"a": [1]}, {"b": 1}, {"a": 1, "b": 1}]
        assert len({config_hash(variant) for variant in variants}) == len(variants)


class TestKey:
    def test_names_label_phase_and_seed_and_ends_in_ten_digits_of_the_hash(self) -> None:
        config = trial()
        digest = config_hash(config.model_dump(mode="json"))
        assert config.key == f"ipg-search-s7-{digest[:10]}"

    def test_survives_storage(self) -> None:
        config = trial()
        assert TrialConfig.model_validate_json(config.model_dump_json()).key == config.key

    def test_differs_with_everything_that_the_result_depends_on(self) -> None:
        variants = [
            trial(),
            trial(study="t"),
            trial(label="other"),
            trial(phase="final"),
            trial(seed=8),
            trial(hyperparameters={"strength": 2.6}),
            trial(dataset=Component(name="colored_mnist", source="mnist")),
            trial(model=Component(name="mlp", width=16)),
            trial(method=Component(name="ipg", strength=2.6)),
            trial(training=TrainingSettings(epochs=21)),
            trial(evaluation=EvaluationSettings(confidence=0.9)),
            trial(resources=ResourceSettings(workers=2)),
            trial(selection="average"),
        ]
        assert len({variant.key for variant in variants}) == len(variants)
