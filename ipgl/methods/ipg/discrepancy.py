"""Discrepancies: how differently the model treats the two members of a pair, as a mean over pairs.

Each takes the members' features `z_a, z_b` (`[P, d]`) and the head (`weight [K, d]`), and gives a 0-dim tensor
through which gradients flow into features and head alike. Doubling the network's outputs quadruples each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

Discrepancy: TypeAlias = Callable[[Tensor, Tensor, nn.Linear], Tensor]


def rationale(z_a: Tensor, z_b: Tensor, head: nn.Linear) -> Tensor:
    """Mean squared Frobenius distance of the members' rationale matrices `R(x)[k, j] = W[k, j] z[j]`.

    The rationale is that of Chen et al. (ICCV 2023), its use for the corrective gradient is the paper's. It is
    computed in closed form: `||R_a - R_b||_F^2 = sum_j c_j (z_aj - z_bj)^2` with `c_j = sum_k W[k, j]^2`, which
    is exact and takes O(P d + K d) where the matrices would take O(P K d).
    """
    return ((z_a - z_b).square() @ head.weight.square().sum(dim=0)).mean()


def logit(z_a: Tensor, z_b: Tensor, head: nn.Linear) -> Tensor:
    """Mean squared distance of the members' class-centred logits (our extension).

    Centring over classes leaves out what moves all logits alike, since that cannot change a decision.
    """
    centred = head.weight - head.weight.mean(dim=0)
    return ((z_a - z_b) @ centred.T).square().sum(dim=1).mean()


DISCREPANCIES: dict[str, Discrepancy] = {"rationale": rationale, "logit": logit}
