"""Lookup of components by name, with errors that list the known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ipgl.core.errors import IpglError

T = TypeVar("T")


class UnknownNameError(IpglError):
    """No registry entry has this name."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most similar to `name`; None if none is similar."""
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: str, choices: Iterable[str]) -> str:
    """The end of an error message, which lists the choices: `did you mean 'ipg'? Choices: erm, ipg.`"""
    names = sorted(choices)
    if not names:
        return "there is none to choose from."
    match = nearest(name, names)
    meant = f"did you mean {match!r}? " if match else ""
    return f"{meant}Choices: {', '.join(names)}."


def lookup(kind: str, registry: Mapping[str, T], name: str) -> T:
    """Return `registry[name]`.

    Raises:
        UnknownNameError: No such entry; the message lists the choices.
    """
    try:
        return registry[name]
    except KeyError:
        raise UnknownNameError(f"unknown {kind} {name!r}: {suggestion(name, registry)}") from None
