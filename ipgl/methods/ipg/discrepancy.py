"""Discrepancies: how differently the model treats the two members of a pair, as a mean over pairs.

Each takes the members' features `z_a, z_b` (`[P, d]`) and the head (`weight [K, d]`), and gives a 0-dim tensor
through which gradients flow into features and head alike. Doubling the network's outputs quadruples the first
three of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

Discrepancy: TypeAlias = Callable[[Tensor, Tensor, nn.Linear], Tensor]


def rationale(z_a: Tensor, z_b: Tensor, head: nn.Linear) -> Tensor:
    """Mean squared Frobenius distance of the members' rationale matrices `R(x)[k, j] = W[k, j] z[j]`.

    The rationale is that of Chen et al. (ICCV 2023), its use for the corrective gradient is the paper's. It is
    computed in closed form: `||R_a - R_b||_F^2 = sum_j c_j (z_aj - z_bj)^2` with `c_j = sum_k W[k, j]^2`, which
    is exact and takes O(P d + K d) where the matrices would take O(P K d).
    """
    return ((z_a - z_b).square() @ head.weight.square().sum(dim=0)).mean()


def centred_rationale(z_a: Tensor, z_b: Tensor, head: nn.Linear) -> Tensor:
    """`rationale` with W less its mean over classes (our extension): what moves all logits alike decides nothing."""
    return ((z_a - z_b).square() @ _centred_weight(head).square().sum(dim=0)).mean()


def logit(z_a: Tensor, z_b: Tensor, head: nn.Linear) -> Tensor:
    """Mean squared distance of the members' class-centred logits (our extension)."""
    return ((z_a - z_b) @ _centred_weight(head).T).square().sum(dim=1).mean()


def probability(z_a: Tensor, z_b: Tensor, head: nn.Linear) -> Tensor:
    """Mean Jensen-Shannon divergence of the members' class probabilities, in nats (our extension); at most log 2."""
    log_a, log_b = head(z_a).log_softmax(dim=1), head(z_b).log_softmax(dim=1)
    a, b = log_a.exp(), log_b.exp()
    log_mean = torch.logaddexp(log_a, log_b) - math.log(2)
    divergence: Tensor = ((a * (log_a - log_mean) + b * (log_b - log_mean)).sum(dim=1) / 2).mean()
    return divergence


def feature(z_a: Tensor, z_b: Tensor, head: nn.Linear) -> Tensor:
    """Mean of one less the cosine of the members' features (our extension), in [0, 2]."""
    return (1 - cosine_similarity(z_a, z_b, dim=1)).mean()


def hidden_difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Squared distance of the members' hidden layers, summed over layers, as a mean over pairs (our extension).

    A layer of shape `[P, C, ...]` counts the sum over C and the mean over further positions. A correction at the
    last layer alone is memorised when pairs are few: it can cancel the attribute in the pairs at hand by any
    route. In an early layer, which acts linearly on the attribute's trace, the same pairs constrain the span of
    their differences, and so pairs never seen.
    """
    return torch.stack([_layer_difference(x, y) for x, y in zip(a, b, strict=True)]).sum()


def _layer_difference(a: Tensor, b: Tensor) -> Tensor:
    squared = (a - b).square().flatten(2) if a.dim() > 2 else (a - b).square().unsqueeze(2)
    return squared.mean(dim=2).sum(dim=1).mean()


def _centred_weight(head: nn.Linear) -> Tensor:
    return head.weight - head.weight.mean(dim=0)


DISCREPANCIES: dict[str, Discrepancy] = {
    "rationale": rationale,
    "centred_rationale": centred_rationale,
    "logit": logit,
    "probability": probability,
    "feature": feature,
}
