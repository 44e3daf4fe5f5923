"""Look a component up by name; an unknown name's error lists the choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ipgl.core.errors import IpglError

T = TypeVar("T")


class UnknownNameError(IpglError):
    """A name that no registry entry has."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most like `name`, or None where nothing is close."""
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return matches[0] if matches else None


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Text that lists the choices, the nearest one first: `did you mean 'ipg'? Choices: erm, ipg.`"""
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
