from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ipgl.data.pair_sources import ImagePairSettings, make_pairs
from ipgl.data.table import ImageTable

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


def test_none_gives_empty_sets_that_fit_the_images(
    make_table: Callable[..., ImageTable], make_request: MakeRequest
) -> None:
    table = make_table([(0, 0, 0), (1, 1, 0), (0, 0, 1), (0, 0, 2)])
    made = make_pairs(ImagePairSettings(), make_request(table))
    for pairs in (made.pairs, made.held_out):
        assert len(pairs) == len(pairs.a) == len(pairs.b) == 0
        assert pairs.a.shape == (0, 3, 12, 12)
        assert pairs.y.dtype == pairs.source.dtype == torch.int64
