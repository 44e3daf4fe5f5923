"""Discrepancies: how differently the model treats the two members of each pair.

Each takes the members' features `z_a, z_b` (`[P, d]`) and the head (`weight [K, d]`), and gives the *squared* distance
of each pair, `[P]`, through which gradients flow into features and head alike. Doubling the network's outputs
quadruples the first three of them. `mean_distance` makes one number of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ipgl.models import Head

Discrepancy: TypeAlias = Callable[[Tensor, Tensor, Head], Tensor]
Norm: TypeAlias = Literal["squared", "plain"]


def rationale(z_a: Tensor, z_b: Tensor, head: Head) -> Tensor:
    """Squared Frobenius distance of the members' rationale matrices `R(x)[k, j] = W[k, j] z[j]`.

    The rationale is that of Chen et al. (ICCV 2023), its use for the corrective gradient is the paper's. It is
    computed in closed form: `||R_a - R_b||_F^2 = sum_j c_j (z_aj - z_bj)^2` with `c_j = sum_k W[k, j]^2`, which
    is exact and takes O(P d + K d) where the matrices would take O(P K d).
    """
    return _weighted_squares(z_a - z_b, head.weight)


def centred_rationale(z_a: Tensor, z_b: Tensor, head: Head) -> Tensor:
    """`rationale` with W less its mean over classes (our extension): what moves all logits alike decides nothing."""
    return _weighted_squares(z_a - z_b, _centred_weight(head))


def logit(z_a: Tensor, z_b: Tensor, head: Head) -> Tensor:
    """Squared distance of the members' class-centred logits.

    Its mean over pairs, added to the loss with a fixed weight, is close to two known penalties: the conditional
    variance penalty of CoRe (Heinze-Deml and Meinshausen, arXiv 1710.11469), which takes the variance of predictions
    within groups of one object and class, and the match penalty of MatchDG (Mahajan et al., ICML 2021). For groups of
    two that variance is half of this distance; theirs does not centre over classes. What is ours is the centring.
    """
    return ((z_a - z_b) @ _centred_weight(head).mT).square().sum(dim=-1)


def probability(z_a: Tensor, z_b: Tensor, head: Head) -> Tensor:
    """Jensen-Shannon divergence of the members' class probabilities, in nats (our extension); at most log 2.

    It is the square of a metric, so it counts as a squared distance like the others.
    """
    log_a, log_b = head(z_a).log_softmax(dim=-1), head(z_b).log_softmax(dim=-1)
    a, b = log_a.exp(), log_b.exp()
    log_mean = torch.logaddexp(log_a, log_b) - math.log(2)
    divergence: Tensor = (a * (log_a - log_mean) + b * (log_b - log_mean)).sum(dim=-1) / 2
    return divergence


def feature(z_a: Tensor, z_b: Tensor, head: Head) -> Tensor:
    """One less the cosine of the members' features (our extension), in [0, 2]: half a squared chord."""
    return 1 - cosine_similarity(z_a, z_b, dim=-1)


def mean_distance(squares: Tensor, norm: Norm) -> Tensor:
    """A discrepancy's mean over pairs: of the squared distances `[P]`, or of the distances themselves.

    A squared distance's gradient vanishes together with it; a plain one's keeps its length until members are equal,
    where it is 0.
    """
    if norm == "plain":
        # Below the smallest normal number the root counts as constant: its derivative at 0 would be infinite.
        squares = squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt()
    return squares.mean(dim=-1)


@dataclass(frozen=True)
class ConstantHead:
    """A head through which no gradient flows into its own weights, so that a correction moves the features alone."""

    of: Head

    @property
    def weight(self) -> Tensor:
        """The head's weights, detached."""
        return self.of.weight.detach()

    @property
    def bias(self) -> Tensor | None:
        """The head's bias, detached."""
        return None if self.of.bias is None else self.of.bias.detach()

    def __call__(self, z: Tensor, /) -> Tensor:
        """Logits of features, with gradients to the features."""
        logits = z @ self.weight.mT
        return logits if self.bias is None else logits + self.bias.unsqueeze(-2)


def hidden_difference(layers: Sequence[Sequence[Tensor]]) -> Tensor:
    """Squared distance of the members' hidden layers, summed over layers, as a mean over pairs (our extension).

    A layer of shape `[P, C, ...]` counts the sum over C and the mean over further positions. A correction at the
    last layer alone is memorised when pairs are few: it can cancel the attribute in the pairs at hand by any
    route. In an early layer, which acts linearly on the attribute's trace, the same pairs constrain the span of
    their differences, and so pairs never seen.

    Args:
        layers: Of each layer, its outputs for first and for second members.
    """
    return torch.stack([_layer_difference(a, b) for a, b in layers]).sum(dim=0)


def _layer_difference(a: Tensor, b: Tensor) -> Tensor:
    squared = (a - b).square()
    if squared.dim() > 2:
        squared = squared.flatten(2).mean(dim=-1)
    return squared.sum(dim=-1).mean(dim=-1)


def _weighted_squares(difference: Tensor, weight: Tensor) -> Tensor:
    per_feature = weight.square().sum(dim=-2)
    return (difference.square() @ per_feature.unsqueeze(-1)).squeeze(-1)


def _centred_weight(head: Head) -> Tensor:
    return head.weight - head.weight.mean(dim=-2, keepdim=True)


DISCREPANCIES: dict[str, Discrepancy] = {
    "rationale": rationale,
    "centred_rationale": centred_rationale,
    "logit": logit,
    "probability": probability,
    "feature": feature,
}
