"""One step of Invariance Pair-Guided learning in plain PyTorch: the whole algorithm on one screen.

`ipgl.methods.ipg.update` takes the same step with any optimiser, for several models at once and on several workers;
tests hold each of those forms to this function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def ipg_step(
    features: nn.Module,
    head: nn.Linear,
    batch: tuple[Tensor, Tensor],
    pairs: tuple[Tensor, Tensor],
    lr: float,
    *,
    threshold: float = 0.003,
    task_share: float = 2 / 3,
    scale_task: bool = True,
) -> float:
    """Update the network `head(features(x))` in place by one step of gradient descent (arXiv 2502.18975).

    Args:
        features: The representation, inputs `[N, ...]` to `[N, d]`.
        head: The linear classifier, `[N, d]` to logits `[N, K]`.
        batch: Inputs `[B, ...]` and their classes, int64 `[B]`.
        pairs: First and second members of invariance pairs, `[P, ...]` each, which differ in the spurious attribute.
        lr: Learning rate.
        threshold: The invariance condition is `rho <= threshold`; while it holds, the step is ordinary descent.
        task_share: Length of the task gradient as a share of the corrective gradient's; 2/3 in the paper.
        scale_task: Reach that share by scaling the task gradient (the paper's form), or else the corrective one.

    Returns:
        The measure `rho` before the step: 0 where members are treated alike, about 1 where they differ as strangers.
    """
    parameters = [*features.parameters(), *head.parameters()]
    x, y = batch
    task = torch.autograd.grad(cross_entropy(head(features(x)), y), parameters)

    # How far apart are the members' rationale matrices, R[k, j] = W[k, j] z[j]? W counts as a constant.
    z_a, z_b = (features(member) for member in pairs)
    rationale_a, rationale_b = (head.weight.detach() * z.unsqueeze(1) for z in (z_a, z_b))
    discrepancy = (rationale_a - rationale_b).square().sum(dim=(1, 2)).mean()
    corrective = torch.autograd.grad(discrepancy, parameters, allow_unused=True, materialize_grads=True)

    with torch.no_grad():
        # rho: variance within pairs over variance among all members, of logits less their mean over classes.
        u_a, u_b = (head(z) - head(z).mean(dim=1, keepdim=True) for z in (z_a, z_b))
        members = torch.cat([u_a, u_b])
        rho = (u_a - u_b).square().sum(dim=1).mean() / 2 / members.var(dim=0).sum()

        step = task
        if rho > threshold:
            task_length, corrective_length = (
                torch.cat([g.flatten() for g in gs]).norm() for gs in (task, corrective)
            )
            ratio = (
                task_share * corrective_length / task_length
            )  # the task gradient's scale in the paper's step
            scale = ratio if scale_task else 1.0
            step = tuple(scale * (t + c / ratio) for t, c in zip(task, corrective, strict=True))
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.sub_(lr * gradient)
    return float(rho)
