"""Training methods: IPG and what it is compared with."""

from ipgl.methods.base import (
    Labelled,
    Method,
    MethodBase,
    MethodContext,
    MethodOptimiser,
    Needs,
    Number,
    Objectives,
    OptimiserKind,
    PackableMethod,
    StepReport,
    TaskOptimiser,
)
from ipgl.methods.registry import METHODS, MethodEntry, method_entry

__all__ = [
    "METHODS",
    "Labelled",
    "Method",
    "MethodBase",
    "MethodContext",
    "MethodEntry",
    "MethodOptimiser",
    "Needs",
    "Number",
    "Objectives",
    "OptimiserKind",
    "PackableMethod",
    "StepReport",
    "TaskOptimiser",
    "method_entry",
]
