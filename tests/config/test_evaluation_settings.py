"""Evaluation settings: allowed robustness curves and their points."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from ipgl.config import EvaluationSettings, StudyConfig


def test_all_curves_by_default() -> None:
    settings = EvaluationSettings()
    assert settings.curves == ("mixture", "worst_case_kl", "worst_case_tv", "interpolation", "corruption")
    assert settings.worst_case_mix == "training"
    assert settings.kl_radii[0] == settings.tv_radii[0] == settings.corruption_levels[0] == 0
    assert settings.tv_radii == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def test_a_study_may_ask_for_its_own(check: Callable[..., StudyConfig]) -> None:
    settings = check(
        "evaluation:\n"
        "  curves: [worst_case_kl, mixture]\n"
        "  worst_case_mix: test\n"
        "  kl_radii: [2.5, 0]\n"
        "  tv_radii: [0.05]\n"
        "  interpolation_points: 2\n"
        "  corruption_levels: [1, 0.5]\n"
        "  permutations: 100"
    ).evaluation
    assert settings.curves == ("worst_case_kl", "mixture")
    assert settings.worst_case_mix == "test"
    assert settings.kl_radii == (2.5, 0.0)
    assert settings.tv_radii == (0.05,)
    assert settings.interpolation_points == 2
    assert settings.corruption_levels == (1.0, 0.5)
    assert settings.permutations == 100


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("kl_radii: [0, -1]", ".kl_radii[1]: input should be greater than or equal to 0, but got -1"),
        ("kl_radii: [0, .inf]", ".kl_radii[1]: input should be a finite number, but got inf"),
        ("kl_radii: [0, .nan]", ".kl_radii[1]: input should be a finite number, but got nan"),
        (
            "kl_radii: []",
            ".kl_radii: tuple should have at least 1 item after validation, not 0, but got []",
        ),
        ("kl_radii: [1, 0.5, 1]", ": kl_radii must be distinct, but got [1.0, 0.5, 1.0]"),
        (
            "tv_radii: []",
            ".tv_radii: tuple should have at least 1 item after validation, not 0, but got []",
        ),
        ("tv_radii: [0, 0]", ": tv_radii must be distinct, but got [0.0, 0.0]"),
        ("corruption_levels: [1, 1]", ": corruption_levels must be distinct, but got [1.0, 1.0]"),
        (
            "interpolation_points: 1",
            ".interpolation_points: input should be greater than or equal to 2, but got 1",
        ),
        ("permutations: 99", ".permutations: input should be greater than or equal to 100, but got 99"),
        (
            "worst_case_mix: validation",
            ".worst_case_mix: input should be 'training' or 'test', but got 'validation'",
        ),
        (
            "curves: [mixture, worst_case]",
            ".curves[1]: input should be 'mixture', 'worst_case_kl', 'worst_case_tv', 'interpolation' or "
            "'corruption', but got 'worst_case'",
        ),
        ("curves: [mixture, mixture]", ": curves must be distinct, but got ['mixture', 'mixture']"),
        (
            "curves: [corruption]",
            ": curves must hold `mixture`, which every comparison is made on, but got ['corruption']",
        ),
        ("curves: []", ": curves must hold `mixture`, which every comparison is made on, but got []"),
    ],
)
def test_each_rule_names_line_path_rule_and_value(
    violations: Callable[..., list[str]], extra: str, message: str
) -> None:
    (found,) = violations(f"evaluation: {{{extra}}}")
    assert found.startswith(f"f.yaml:5: evaluation{message}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("{blond: female, dark: male}", {"blond": "female", "dark": "male"}),
        ("{'0': 1, '1': 0}", {"0": 1, "1": 0}),
        ("[1, male]", (1, "male")),
    ],
)
def test_alignment(
    check: Callable[..., StudyConfig], text: str, value: str | dict[str, str | int] | tuple[int, str]
) -> None:
    settings = check(f"evaluation: {{alignment: {text}}}").evaluation
    assert settings.alignment == value
    assert EvaluationSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    "text", ["automatic", "null", "3", "[]", "{}", "[true, 1]", "{blond: [1]}", "[0.5, 1]"]
)
def test_alignment_is_a_word_a_mapping_or_a_list(violations: Callable[..., list[str]], text: str) -> None:
    (found,) = violations(f"evaluation: {{alignment: {text}}}")
    assert found.startswith(
        "f.yaml:5: evaluation.alignment: input should be auto, none, or each class's attribute value, by name or "
        "number: {class: value, ...} or [value, ...] by label, but got "
    )


@pytest.mark.parametrize("name", ["tv_radii", "corruption_levels"])
@pytest.mark.parametrize("value", ["1.1", "-0.5"])
def test_shares_lie_between_0_and_1(violations: Callable[..., list[str]], name: str, value: str) -> None:
    (found,) = violations(f"evaluation: {{{name}: [0, {value}]}}")
    assert found.startswith(f"f.yaml:5: evaluation.{name}[1]: ")
    assert "[0, 1]" in found
    assert found.endswith(f"but got {value}")


@pytest.mark.parametrize("radius", [-1e-9, math.inf, math.nan])
def test_a_radius_is_a_finite_length(radius: float) -> None:
    with pytest.raises(ValueError, match="kl_radii"):
        EvaluationSettings(kl_radii=(radius,))
