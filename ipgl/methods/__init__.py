"""Training methods: IPG and what it is compared with."""

from ipgl.methods.base import (
    Descent,
    DescentKind,
    Method,
    MethodBase,
    Needs,
    StackableMethod,
    StackedMethod,
    StepReport,
    TaskDescent,
    Toolbox,
)
from ipgl.methods.registry import METHODS, MethodEntry, method_entry

__all__ = [
    "METHODS",
    "Descent",
    "DescentKind",
    "Method",
    "MethodBase",
    "MethodEntry",
    "Needs",
    "StackableMethod",
    "StackedMethod",
    "StepReport",
    "TaskDescent",
    "Toolbox",
    "method_entry",
]
