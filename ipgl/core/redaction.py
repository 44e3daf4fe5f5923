"""Masking of credentials in text and settings before these are printed, stored in reports or sent to a tracker."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import overload

MASK = "***"

# `user:password@` of a URL: a password may hold anything but whitespace and quotes (up to the last @ before the path);
# without a password the name alone may be a token.
USERINFO = re.compile(r"(?<=://)(?:[^\s'\"/:@]*:[^\s'\"@]*(?:@[^\s'\"/@]*)*|[^\s'\"/?#]+)@")
QUERY_SECRET = re.compile(r"(?i)([?&][\w-]*(?:password|passwd|pwd|token|secret)[\w-]*=)[^&\s'\"#]+")
_SECRET_NAME = re.compile(
    r"(?i)passw(?:or)?d|secret|credential|(?:api|access|private)[_-]?key|(?:^|[_-])token(?:$|[_-])"
)


def without_credentials(text: str) -> str:
    """The text with user names, passwords and tokens masked in every URL in it."""
    return QUERY_SECRET.sub(rf"\g<1>{MASK}", USERINFO.sub(f"{MASK}@", text))


def names_secret(name: str) -> bool:
    """Whether a key or variable with this name usually holds a secret, as `HF_TOKEN`, `password`, `api_key` do."""
    return _SECRET_NAME.search(name) is not None


@overload
def redacted(value: str) -> str: ...


@overload
def redacted(value: Mapping[str, object]) -> dict[str, object]: ...


@overload
def redacted(value: object) -> object: ...


def redacted(value: object) -> object:
    """The same data with credentials masked: those in URLs, and values whose key satisfies `names_secret`."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {key: MASK if _is_secret(key, held) else redacted(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def _is_secret(key: object, held: object) -> bool:
    return bool(held) and isinstance(held, str | int | float) and names_secret(str(key))
