"""The invariance condition `measure <= threshold`, and how strongly a violation is corrected.

That the correction is adaptive and follows a predefined invariance condition is the paper's; the measure `rho`
and the three adaptivities are our reading. Everything stays a tensor: a decision in Python would make the
host wait for the device in every step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ipgl.evaluation.invariance import centred
from ipgl.methods.base import Number

Adaptivity: TypeAlias = Callable[[Tensor, Number], Tensor]


def off(measure: Tensor, threshold: Number) -> Tensor:
    """Always correct at full strength."""
    return torch.ones_like(measure)


def gate(measure: Tensor, threshold: Number) -> Tensor:
    """Full strength while the condition is violated, nothing while it holds."""
    return (measure > threshold).to(measure.dtype)


def proportional(measure: Tensor, threshold: Number) -> Tensor:
    """`(measure - threshold) / measure` while the condition is violated, nothing while it holds."""
    return ((measure - threshold) / measure.clamp_min(torch.finfo(measure.dtype).tiny)).clamp_min(0.0)


ADAPTIVITIES: dict[str, Adaptivity] = {"off": off, "gate": gate, "proportional": proportional}


def collapsed(logits: Tensor) -> Tensor:
    """1.0 if a batch's logits `[B, K]` choose one class for every example, or hardly vary; else 0.0.

    A constant predictor satisfies every absolute discrepancy perfectly; only this tells it from an invariant one.
    """
    logits = logits.detach()
    choice = logits.argmax(dim=1)
    one_class = (choice == choice[0]).all()
    still = centred(logits).var(dim=0, correction=0).sum() < 1e-8
    return (one_class | still).float()


def overshot(logits: Tensor, y: Tensor) -> Tensor:
    """1.0 if logits `[B, K]` are right three standard errors less often than guessing would be; else 0.0.

    A correction that jumps past invariance makes the model follow the attribute in the opposite direction.
    """
    chance = 1 / logits.shape[1]
    limit = chance - 3 * math.sqrt(chance * (1 - chance) / len(y))
    return ((logits.detach().argmax(dim=1) == y).float().mean() < limit).float()
