"""Study files as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipgl.config import ConfigError, StudyConfig, check_document, parse_document

# Four lines, so that what a test appends begins on line 5.
MINIMAL = """\
name: s
dataset: {name: colored_mnist}
model: {name: mlp}
methods: {erm: {}}
"""


@pytest.fixture
def minimal() -> str:
    return MINIMAL


@pytest.fixture
def check() -> Callable[..., StudyConfig]:
    """Check the minimal study, with lines appended or some of its text replaced."""

    def check(extra: str = "", **replace: str) -> StudyConfig:
        text = MINIMAL + extra
        for old, new in replace.items():
            lines = [line for line in MINIMAL.splitlines() if line.startswith(f"{old}:")]
            text = text.replace(lines[0], f"{old}: {new}")
        return check_document(parse_document(text, "f.yaml"))

    return check


@pytest.fixture
def violations(check: Callable[..., StudyConfig]) -> Callable[..., list[str]]:
    """The lines of the error that a study is refused with."""

    def violations(extra: str = "", **replace: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            check(extra, **replace)
        return str(caught.value).splitlines()

    return violations
