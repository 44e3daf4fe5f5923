"""Methods by name: the settings class, the class that trains, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ipgl.config import Range, Settings
from ipgl.methods.balanced_sampling import BalancedSettings, ClassBalanced, GroupBalanced
from ipgl.methods.base import Method, MethodContext, Needs
from ipgl.methods.counterfactual import (
    CounterfactualAugmentation,
    CounterfactualAugmentationSettings,
    LogitPairing,
    LogitPairingSettings,
)
from ipgl.methods.dfr import Dfr, DfrSettings
from ipgl.methods.environments import EnvironmentPenaltySettings, Irm, Vrex
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.methods.group_dro import GroupDro, GroupDroSettings
from ipgl.methods.ipg import Ipg, IpgSettings
from ipgl.methods.jtt import Jtt, JttSettings
from ipgl.methods.lff import Lff, LffSettings
from ipgl.methods.mixup import Lisa, LisaSettings, Mixup, MixupSettings
from ipgl.methods.ridg import Ridg, RidgSettings


@dataclass(frozen=True)
class MethodEntry:
    """One registry line.

    Attributes:
        settings: Class of the method's settings.
        build: Takes settings and context.
        needs: What it asks of the data beyond inputs and labels.
        source: The paper.
        search_space: Recommended ranges of its settings.
        range_notes: What a reader of a range has to know, by setting.
    """

    settings: type[Settings]
    build: Callable[[Any, MethodContext], Method]
    needs: Needs
    source: str
    search_space: dict[str, Range]
    range_notes: dict[str, str] = field(default_factory=dict)


def method_entry(method: Any, settings: type[Settings], source: str) -> MethodEntry:
    """The registry line of a class like those here: it is built from settings and context, and declares its needs.

    `METHODS["name"] = method_entry(Name, NameSettings, "Author 2026")` registers one's own.
    """
    notes = getattr(method, "range_notes", {})
    return MethodEntry(settings, method, method.needs, source, method.search_space, notes)


METHODS: dict[str, MethodEntry] = {
    "erm": method_entry(Erm, ErmSettings, "Vapnik 1998"),
    "ipg": method_entry(Ipg, IpgSettings, "Surner et al. 2025, arXiv 2502.18975"),
    "class_balanced": method_entry(ClassBalanced, BalancedSettings, "Idrissi et al. 2022"),
    "group_balanced": method_entry(GroupBalanced, BalancedSettings, "Idrissi et al. 2022"),
    "counterfactual_augmentation": method_entry(
        CounterfactualAugmentation, CounterfactualAugmentationSettings, "Kaushik et al. 2020"
    ),
    "clp": method_entry(LogitPairing, LogitPairingSettings, "Garg et al. 2019"),
    "ridg": method_entry(Ridg, RidgSettings, "Chen et al. 2023"),
    "irm": method_entry(Irm, EnvironmentPenaltySettings, "Arjovsky et al. 2019"),
    "vrex": method_entry(Vrex, EnvironmentPenaltySettings, "Krueger et al. 2021"),
    "group_dro": method_entry(GroupDro, GroupDroSettings, "Sagawa et al. 2020"),
    "jtt": method_entry(Jtt, JttSettings, "Liu et al. 2021"),
    "lff": method_entry(Lff, LffSettings, "Nam et al. 2020"),
    "dfr": method_entry(Dfr, DfrSettings, "Kirichenko et al. 2023"),
    "mixup": method_entry(Mixup, MixupSettings, "Zhang et al. 2018"),
    "lisa": method_entry(Lisa, LisaSettings, "Yao et al. 2022"),
}
