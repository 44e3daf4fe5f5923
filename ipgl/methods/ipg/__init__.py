"""Invariance Pair-Guided learning."""

from ipgl.methods.ipg.condition import invariance_ratio, pair_moments
from ipgl.methods.ipg.method import Ipg
from ipgl.methods.ipg.settings import IpgSettings

__all__ = ["Ipg", "IpgSettings", "invariance_ratio", "pair_moments"]
