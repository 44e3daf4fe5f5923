"""Fixtures: a small table of plain images and a pair request on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipgl.data.generate import WaterbirdsPlan, draw_sources, generate_waterbirds
from ipgl.data.image_cache import Preparation, build_cache
from ipgl.data.manifest import check_table, read_csv
from ipgl.data.pair_request import PairRequest
from ipgl.data.table import ImageTable
from ipgl.data.waterbirds import COLUMNS

MakeRequest = Callable[..., PairRequest]


@pytest.fixture
def make_request(tmp_path: Path) -> MakeRequest:
    """A request on a table; its images are decoded into a cache below `tmp_path`."""

    def make(table: ImageTable, skip_bad: bool = False, size: int = 12) -> PairRequest:
        store = partial(
            build_cache, preparation=Preparation(size, size), folder=tmp_path / "cache", skip_bad=skip_bad
        )
        return PairRequest(table, store([table.source(i) for i in range(len(table))]), store, skip_bad)

    return make


@pytest.fixture
def make_table(tmp_path: Path) -> Callable[..., ImageTable]:
    """Rows `(label, attribute, split)`; picture i is plain, of the colour (i, 2 i, 200 - i)."""

    def make(rows: Sequence[tuple[int, int, int]], **extra: Sequence[object]) -> ImageTable:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for i in range(len(rows)):
            Image.new("RGB", (8, 8), (i, 2 * i, 200 - i)).save(root / f"{i}.png")
        label, attribute, split = np.array(rows, dtype=np.int64).T
        return ImageTable(
            root / "table.csv",
            root,
            tuple(f"{i}.png" for i in range(len(rows))),
            label,
            attribute,
            split,
            np.zeros(len(rows), dtype=np.int64),
            np.arange(2, len(rows) + 2),
            ("cat", "dog"),
            tuple(f"attribute {a}" for a in range(int(attribute.max()) + 1)),
            {name: np.array([str(value) for value in values]) for name, values in extra.items()},
        )

    return make


@pytest.fixture(scope="session")
def waterbirds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `CUB_200_2011`, `places365` and Waterbirds-100 in `waterbirds`; tests must not write here."""
    root = tmp_path_factory.mktemp("waterbirds")
    sources = draw_sources(root, train=30, test=20, side=40)
    generate_waterbirds(WaterbirdsPlan(strength=1.0), *sources, root / "waterbirds")
    return root


@pytest.fixture
def waterbirds_table(waterbirds: Path) -> ImageTable:
    folder = waterbirds / "waterbirds"
    return check_table(read_csv(folder / "metadata.csv"), folder, COLUMNS)[0]
