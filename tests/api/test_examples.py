"""The examples in the docstrings of the public functions run, and print what they say."""

from __future__ import annotations

import doctest

import pytest

from ipgl.api import evaluating, registering, studies, training


@pytest.mark.parametrize("module", [evaluating, registering, studies, training], ids=lambda m: m.__name__)
def test_examples(module: object) -> None:
    failed, attempted = doctest.testmod(module)  # type: ignore[arg-type]
    assert attempted
    assert not failed
