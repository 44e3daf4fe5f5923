"""Methods by name: the settings class, the class that trains, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipgl.config import Range, Settings
from ipgl.methods.balanced import BalancedSettings, ClassBalanced, GroupBalanced
from ipgl.methods.base import Method, Needs, Toolbox
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
from ipgl.methods.mixing import Lisa, LisaSettings, Mixup, MixupSettings
from ipgl.methods.ridg import Ridg, RidgSettings


@dataclass(frozen=True)
class MethodEntry:
    """One registry line.

    Attributes:
        settings: Class of the method's settings.
        build: Takes settings and toolbox.
        needs: What it asks of the data beyond inputs and labels.
        source: The paper.
        search_space: Recommended ranges of its settings.
    """

    settings: type[Settings]
    build: Callable[[Any, Toolbox], Method]
    needs: Needs
    source: str
    search_space: dict[str, Range]


def _entry(method: Any, settings: type[Settings], source: str) -> MethodEntry:
    return MethodEntry(settings, method, method.needs, source, method.search_space)


METHODS: dict[str, MethodEntry] = {
    "erm": _entry(Erm, ErmSettings, "Vapnik 1998"),
    "ipg": _entry(Ipg, IpgSettings, "Surner et al. 2025, arXiv 2502.18975"),
    "class_balanced": _entry(ClassBalanced, BalancedSettings, "Idrissi et al. 2022"),
    "group_balanced": _entry(GroupBalanced, BalancedSettings, "Idrissi et al. 2022"),
    "counterfactual_augmentation": _entry(
        CounterfactualAugmentation, CounterfactualAugmentationSettings, "Kaushik et al. 2020"
    ),
    "clp": _entry(LogitPairing, LogitPairingSettings, "Garg et al. 2019"),
    "ridg": _entry(Ridg, RidgSettings, "Chen et al. 2023"),
    "irm": _entry(Irm, EnvironmentPenaltySettings, "Arjovsky et al. 2019"),
    "vrex": _entry(Vrex, EnvironmentPenaltySettings, "Krueger et al. 2021"),
    "group_dro": _entry(GroupDro, GroupDroSettings, "Sagawa et al. 2020"),
    "jtt": _entry(Jtt, JttSettings, "Liu et al. 2021"),
    "lff": _entry(Lff, LffSettings, "Nam et al. 2020"),
    "dfr": _entry(Dfr, DfrSettings, "Kirichenko et al. 2023"),
    "mixup": _entry(Mixup, MixupSettings, "Zhang et al. 2018"),
    "lisa": _entry(Lisa, LisaSettings, "Yao et al. 2022"),
}
