"""Invariance Pair-Guided learning."""

from ipgl.methods.ipg.method import Ipg
from ipgl.methods.ipg.settings import IpgSettings

__all__ = ["Ipg", "IpgSettings"]
