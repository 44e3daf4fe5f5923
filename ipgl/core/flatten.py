"""Flattening of nested mappings into dotted keys."""

from __future__ import annotations

from collections.abc import Mapping


def flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A nested mapping as one mapping with dotted keys; lists and empty mappings are values."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
