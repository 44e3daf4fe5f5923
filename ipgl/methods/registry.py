"""Methods by name: the settings class and the class that trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipgl.config import Settings
from ipgl.methods.base import Method, Needs, Toolbox
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.methods.ipg import Ipg, IpgSettings


@dataclass(frozen=True)
class MethodEntry:
    """One registry line; `build` takes settings and toolbox."""

    settings: type[Settings]
    build: Callable[[Any, Toolbox], Method]
    needs: Needs


METHODS: dict[str, MethodEntry] = {
    "erm": MethodEntry(ErmSettings, Erm, Erm.needs),
    "ipg": MethodEntry(IpgSettings, Ipg, Ipg.needs),
}
