"""Tables as pandas data frames; pandas is imported when one is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def frame(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> pandas.DataFrame:
    """A data frame of rows, one value per column."""
    import pandas

    return pandas.DataFrame(list(rows), columns=list(columns))
