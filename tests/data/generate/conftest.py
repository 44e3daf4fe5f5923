from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from ipgl.data.generate import draw_sources


class Sources(NamedTuple):
    cub: Path
    places: Path


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """40 training and 24 test birds with their places; tests must not write here."""
    return Sources(*draw_sources(tmp_path_factory.mktemp("drawn"), train=40, test=24, side=40))


@pytest.fixture
def own_sources(tmp_path: Path) -> Sources:
    """A set that the test may damage: 8 training and 4 test birds."""
    root = tmp_path / "sources"
    root.mkdir()
    return Sources(*draw_sources(root, train=8, test=4, side=32))
