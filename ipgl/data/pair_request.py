"""Input and output of the sources of invariance pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ipgl.data.duplicate_images import evaluation_rows_by_content
from ipgl.data.images import Images, ImageSource
from ipgl.data.table import ImageTable
from ipgl.data.types import PairSet


@dataclass(frozen=True)
class PairRequest:
    """Input of `make_pairs(settings, request)`.

    Attributes:
        table: The data set's rows; images that could not be read are no longer among them.
        images: Their pixels, one row per row of `table`: `images.take(rows)` needs no second decoding.
        store: Decodes other pictures (composites, further files) in the same way and size. With `skip_bad` what
            cannot be read is in `Images.skipped`, and the pair must be left out; without, it raises `DataError`.
        skip_bad: Leave out and note, rather than raise, what is wrong with single pairs.
    """

    table: ImageTable
    images: Images
    store: Callable[[Sequence[ImageSource]], Images]
    skip_bad: bool

    @cached_property
    def evaluation_contents(self) -> dict[bytes, int]:
        """Content of each validation and test picture -> its row; no member of a pair may equal one of these."""
        return evaluation_rows_by_content(self.table, self.images)


@dataclass(frozen=True)
class MadePairs:
    """Pairs for training and, from other training rows, for measuring.

    Attributes:
        pairs: `PairSet.source` counts within the training split: row `table.rows_of(TRAIN)[source]`.
        held_out: Likewise; shares no source with `pairs`.
        notes: What the user should know, a sentence each (what was skipped, and why).
        names: Text that tells these pairs from others made with the same settings (joins the fingerprint).
    """

    pairs: PairSet
    held_out: PairSet
    notes: tuple[str, ...] = ()
    names: str = ""
