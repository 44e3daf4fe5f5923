"""Colours belong to methods, are distinguishable, and have enough contrast."""

from __future__ import annotations

import pytest

from ipgl.report.style import DARK, LIGHT, OKABE_ITO, Theme, method_styles, translucent


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_measured_rightly() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_text_can_be_read(theme: Theme) -> None:
    for background in (theme.page, theme.surface):
        assert contrast(theme.text, background) >= 7
        assert contrast(theme.muted, background) >= 4.5
        assert contrast(theme.accent, background) >= 4.5


def test_a_colour_depends_on_the_place_alone() -> None:
    styles = method_styles(["erm", "ipg"])
    assert styles["erm"].colour == OKABE_ITO["blue"]
    assert styles["ipg"].colour == OKABE_ITO["vermillion"]
    assert method_styles(["erm", "ipg", "jtt"])["ipg"] == styles["ipg"]


def test_many_methods_never_look_alike() -> None:
    styles = method_styles([f"m{i}" for i in range(36)])
    assert len(set(styles.values())) == 36
    assert styles["m6"].colour == styles["m0"].colour
    assert styles["m6"].dash != styles["m0"].dash
    assert styles["m6"].symbol != styles["m0"].symbol


def test_translucent() -> None:
    assert translucent("#0072B2", 0.18) == "rgba(0, 114, 178, 0.18)"
