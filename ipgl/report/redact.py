"""A report is made to be passed on, so what looks like a credential is left out of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

# `user:password@` in an address, as in a tracking server's URI.
_USERINFO = re.compile(r"(?<=://)[^/\s]+(?=@)")
_SECRET_KEY = re.compile(
    r"(?i)passw(?:or)?d|secret|credential|(?:^|[_-])(?:api|access|private)[_-]?key|(?:^|[_-])token$"
)


def redacted(value: Any) -> Any:
    """The same data with credentials masked: user names and passwords in addresses, values under telling keys."""
    if isinstance(value, str):
        return _USERINFO.sub(MASK, value)
    if isinstance(value, Mapping):
        return {key: MASK if _is_secret(key, held) else redacted(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def _is_secret(key: Any, held: Any) -> bool:
    return bool(held) and isinstance(held, str | int | float) and _SECRET_KEY.search(str(key)) is not None
