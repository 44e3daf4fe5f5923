"""Training methods: IPG and what it is compared with."""

from ipgl.methods.base import Descent, Method, Needs, StepReport, Toolbox
from ipgl.methods.registry import METHODS, MethodEntry

__all__ = ["METHODS", "Descent", "Method", "MethodEntry", "Needs", "StepReport", "Toolbox"]
