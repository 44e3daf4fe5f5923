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

Adaptivity: TypeAlias = Callable[[Tensor, float | Tensor], Tensor]


def pair_moments(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """The sums from which `invariance_ratio` is made; they add up over workers and batches.

    Args:
        logits_a: Logits of the first members, `[P, K]`.
        logits_b: Logits of the second members, `[P, K]`.

    Returns:
        `[3 + K]`: pairs, sum of `||u_a - u_b||^2 / 2`, sum of `||u||^2`, sum of `u` (per class), where `u` are
        class-centred logits and the last two run over all `2P` members. Double precision where the device has it.
        Of a stack of M models (logits `[M, P, K]`): `[M, 3 + K]`.
    """
    return joint_moments(torch.cat([logits_a, logits_b], dim=-2))


def joint_moments(logits: Tensor) -> Tensor:
    """As `pair_moments`, of all first members' logits followed by all second members', `[..., 2 P, K]`."""
    u = _centred(logits.detach().double())
    a, b = u.chunk(2, dim=-2)
    within = (a - b).square().sum(dim=(-2, -1)) / 2
    pairs = torch.full_like(within, a.shape[-2])
    squares = u.square().sum(dim=(-2, -1))
    return torch.cat([torch.stack([pairs, within, squares], dim=-1), u.sum(dim=-2)], dim=-1)


def invariance_ratio(moments: Tensor, least_spread: float = 0.0) -> Tensor:
    """`rho = within-pair variance / variance over all members`, of class-centred logits (our measure).

    0: members are treated alike; about 1: they differ as strangers do. Scaling the network leaves it unchanged,
    so neither shrinking nor growing features satisfies it. A constant predictor has 0 / 0, which counts as 0:
    it does treat members alike, and the collapse flag is what names it.

    Where a network has collapsed, or has learnt nothing yet, both variances are noise and so is their ratio.
    `least_spread` is added to the variance over all members: a network whose logits vary by much less counts as
    invariant, so that the task may teach it something first.

    Args:
        moments: What `pair_moments` gives, summed over whatever is to be judged together, `[..., 3 + K]`.
        least_spread: A variance of class-centred logits, summed over classes, in squared nats.

    Returns:
        Tensor in [0, 2], `[...]`.
    """
    (pairs, within, squares), total = moments[..., :3].unbind(dim=-1), moments[..., 3:]
    members = 2 * pairs
    # The members' squared distances from their mean are `within` plus those of the pairs' means. Where nearly all
    # of `squares` is common to all members, rounding would make them less than `within`, or negative.
    spread = torch.maximum(squares - total.square().sum(dim=-1) / members, within)
    spread = spread + least_spread * members
    return within / pairs * (members - 1) / spread.clamp_min(torch.finfo(moments.dtype).tiny)


def joint_ratio(logits: Tensor, least_spread: float = 0.0) -> Tensor:
    """`invariance_ratio` of logits as `joint_moments` takes them, in half as many operations; of their own type."""
    u = _centred(logits.detach().double())
    a, b = u.chunk(2, dim=-2)
    pairs, members = a.shape[-2], u.shape[-2]
    within = (a - b).square().sum(dim=(-2, -1)) / 2
    spread = torch.maximum(u.var(dim=-2, correction=0).sum(dim=-1) * members, within) + least_spread * members
    ratio = within * ((members - 1) / pairs) / spread.clamp_min(torch.finfo(u.dtype).tiny)
    return ratio.to(logits.dtype)


def off(measure: Tensor, threshold: float | Tensor) -> Tensor:
    """Always correct at full strength."""
    return torch.ones_like(measure)


def gate(measure: Tensor, threshold: float | Tensor) -> Tensor:
    """Full strength while the condition is violated, nothing while it holds."""
    return (measure > threshold).to(measure.dtype)


def proportional(measure: Tensor, threshold: float | Tensor) -> Tensor:
    """`(measure - threshold) / measure` while the condition is violated, nothing while it holds."""
    return ((measure - threshold) / measure.clamp_min(torch.finfo(measure.dtype).tiny)).clamp_min(0.0)


ADAPTIVITIES: dict[str, Adaptivity] = {"off": off, "gate": gate, "proportional": proportional}


def collapsed(logits: Tensor) -> Tensor:
    """1.0 if a batch's logits `[..., B, K]` choose one class for every example, or hardly vary; else 0.0.

    A constant predictor satisfies every absolute discrepancy perfectly; only this tells it from an invariant one.
    """
    logits = logits.detach()
    choice = logits.argmax(dim=-1)
    one_class = (choice == choice[..., :1]).all(dim=-1)
    still = _centred(logits).var(dim=-2, correction=0).sum(dim=-1) < 1e-8
    return (one_class | still).float()


def overshot(logits: Tensor, y: Tensor) -> Tensor:
    """1.0 if logits `[..., B, K]` are right three standard errors less often than guessing would be; else 0.0.

    A correction that jumps past invariance makes the model follow the attribute in the opposite direction.
    """
    chance = 1 / logits.shape[-1]
    limit = chance - 3 * math.sqrt(chance * (1 - chance) / y.shape[-1])
    return ((logits.detach().argmax(dim=-1) == y).float().mean(dim=-1) < limit).float()


def _centred(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=-1, keepdim=True)
