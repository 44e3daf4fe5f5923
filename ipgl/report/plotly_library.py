"""plotly.js in compressed form, as the HTML report embeds it."""

from __future__ import annotations

import base64
import gzip
from functools import lru_cache

from plotly.offline import get_plotlyjs


@lru_cache(maxsize=1)
def compressed_plotly() -> str:
    """plotly.js (MIT licence) as base64 of gzip, about 1.9 MB; the page inflates it with `DecompressionStream`."""
    # mtime: the same library gives the same report, byte for byte.
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode("ascii")
