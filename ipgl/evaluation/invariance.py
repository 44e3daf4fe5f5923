"""The invariance ratio `rho`: how differently a model treats the two members of invariance pairs.

It is evaluated on held-out pairs after training, and `ipg` uses it as its invariance condition during training. All of
it stays a tensor, so that a training step on a GPU never waits for the host.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
    u = centred(logits.detach().double())
    a, b = u.chunk(2, dim=-2)
    within = (a - b).square().sum(dim=(-2, -1)) / 2
    pairs = torch.full_like(within, a.shape[-2])
    squares = u.square().sum(dim=(-2, -1))
    return torch.cat([torch.stack([pairs, within, squares], dim=-1), u.sum(dim=-2)], dim=-1)


def invariance_ratio(moments: Tensor, least_spread: float = 0.0) -> Tensor:
    """`rho = within-pair variance / variance over all members`, of class-centred logits (our measure).

    0: members are treated alike; about 1: they differ as much as members of different pairs. Scaling the network
    leaves it unchanged, so neither shrinking nor growing features satisfies it. A constant predictor has 0 / 0, which
    counts as 0: it does treat members alike, and the collapse flag reports it.

    Where a network has collapsed, or has learnt nothing yet, both variances are noise and so is their ratio.
    `least_spread` is added to the variance over all members: a network whose logits vary by much less counts as
    invariant, so that it may learn the task first.

    Args:
        moments: Result of `pair_moments`, summed over batches and workers, `[..., 3 + K]`.
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
    u = centred(logits.detach().double())
    a, b = u.chunk(2, dim=-2)
    pairs, members = a.shape[-2], u.shape[-2]
    within = (a - b).square().sum(dim=(-2, -1)) / 2
    spread = torch.maximum(u.var(dim=-2, correction=0).sum(dim=-1) * members, within) + least_spread * members
    ratio = within * ((members - 1) / pairs) / spread.clamp_min(torch.finfo(u.dtype).tiny)
    return ratio.to(logits.dtype)


def centred(logits: Tensor) -> Tensor:
    """Logits `[..., K]` minus their mean over classes, which no softmax depends on."""
    return logits - logits.mean(dim=-1, keepdim=True)
