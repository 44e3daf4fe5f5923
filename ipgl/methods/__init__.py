"""Training methods: IPG and what it is compared with."""

from ipgl.methods.base import (
    Method,
    MethodBase,
    MethodContext,
    MethodOptimiser,
    Needs,
    OptimiserKind,
    StackableMethod,
    StackedMethod,
    StepReport,
    TaskOptimiser,
)
from ipgl.methods.registry import METHODS, MethodEntry, method_entry

__all__ = [
    "METHODS",
    "Method",
    "MethodBase",
    "MethodContext",
    "MethodEntry",
    "MethodOptimiser",
    "Needs",
    "OptimiserKind",
    "StackableMethod",
    "StackedMethod",
    "StepReport",
    "TaskOptimiser",
    "method_entry",
]
