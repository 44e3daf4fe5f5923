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

Adaptivity: TypeAlias = Callable[[Tensor, float], Tensor]


def pair_moments(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """The sums from which `invariance_ratio` is made; they add up over workers and batches.

    Args:
        logits_a: Logits of the first members, `[P, K]`.
        logits_b: Logits of the second members, `[P, K]`.

    Returns:
        `[3 + K]`: pairs, sum of `||u_a - u_b||^2 / 2`, sum of `||u||^2`, sum of `u` (per class), where `u` are
        class-centred logits and the last two run over all `2P` members. Double precision where the device has it.
    """
    a, b = (_centred(logits.detach().double()) for logits in (logits_a, logits_b))
    within = (a - b).square().sum() / 2
    squares = a.square().sum() + b.square().sum()
    pairs = torch.full_like(within, a.shape[0])
    return torch.cat([torch.stack([pairs, within, squares]), a.sum(dim=0) + b.sum(dim=0)])


def invariance_ratio(moments: Tensor) -> Tensor:
    """`rho = within-pair variance / variance over all members`, of class-centred logits (our measure).

    0: members are treated alike; about 1: they differ as strangers do. Scaling the network leaves it unchanged,
    so neither shrinking nor growing features satisfies it. A constant predictor has 0 / 0, which counts as 0:
    it does treat members alike, and the collapse flag is what names it.

    Args:
        moments: What `pair_moments` gives, summed over whatever is to be judged together, `[3 + K]`.

    Returns:
        0-dim tensor in [0, 2].
    """
    pairs, within, squares, total = moments[0], moments[1], moments[2], moments[3:]
    members = 2 * pairs
    # The members' squared distances from their mean are `within` plus those of the pairs' means. Where nearly all
    # of `squares` is common to all members, rounding would make them less than `within`, or negative.
    spread = torch.maximum(squares - total.square().sum() / members, within)
    return within / pairs * (members - 1) / spread.clamp_min(torch.finfo(moments.dtype).tiny)


def off(measure: Tensor, threshold: float) -> Tensor:
    """Always correct at full strength."""
    return torch.ones_like(measure)


def gate(measure: Tensor, threshold: float) -> Tensor:
    """Full strength while the condition is violated, nothing while it holds."""
    return (measure > threshold).to(measure.dtype)


def proportional(measure: Tensor, threshold: float) -> Tensor:
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
    still = _centred(logits).var(dim=0, correction=0).sum() < 1e-8
    return (one_class | still).float()


def overshot(logits: Tensor, y: Tensor) -> Tensor:
    """1.0 if a batch's logits `[B, K]` are right three standard errors less often than guessing would be; else 0.0.

    A correction that jumps past invariance makes the model follow the attribute in the opposite direction.
    """
    chance = 1 / logits.shape[1]
    limit = chance - 3 * math.sqrt(chance * (1 - chance) / len(y))
    return ((logits.detach().argmax(dim=1) == y).float().mean() < limit).float()


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=1, keepdim=True)
