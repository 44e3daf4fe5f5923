"""Methods that compare risks between training environments: IRM (v1) and V-REx."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from ipgl.config import LogUniform, Settings
from ipgl.data import Batch, PairBatch
from ipgl.methods.base import MethodBase, MethodContext, Needs, StepReport
from ipgl.models import Classifier, StateDict


class EnvironmentPenaltySettings(Settings):
    """Settings of `irm` and `vrex`."""

    strength: float = Field(1000.0, ge=0, description="Weight of the penalty once it is on.")
    anneal_share: float = Field(
        0.3, ge=0, lt=1, description="Share of all steps at weight 1, before the penalty is on."
    )
    penalty_estimate: Literal["unbiased", "batch"] = Field(
        "unbiased",
        description="unbiased: the penalty's expectation over batches is the penalty of the distribution; "
        "batch: the penalty of the batch as it is, too large by an amount that grows with 1 / batch size.",
    )
    forget_optimiser: bool = Field(
        False, description="Forget the optimiser's momenta when the penalty's weight is switched to strength."
    )


class EnvironmentPenalty(MethodBase):
    """Descent on `mean_e R_e + weight * penalty(R) + decay / 2 ||theta||^2`, divided by the weight where it exceeds 1.

    The division keeps gradients in the range of a risk's (Arjovsky's code does so). Here it is one of the whole
    objective, weight decay included: `TaskOptimiser.divided`. So the share of decay beside the risk is the same at
    every strength, and minimisers are those of the objective above. (Dividing risk and penalty alone, with decay left
    to the optimiser, would multiply decay by the strength.) Under `sgd` the division means a learning rate of
    `lr / weight` for the undivided objective; `adam` and `adamw` do not see it.

    `forget_optimiser` starts the optimiser anew when the weight rises, as DomainBed does, which descends on the
    undivided loss: Adam's second moments are then those of gradients smaller by a factor of the weight. Here, as in
    Arjovsky's and Krueger's own code, the division keeps gradients in one range and the state is kept by default.

    Risks and penalty are those of the batch over all workers. A penalty is not linear in them, so the mean of the
    workers' own penalties would be another objective; what is: each is a function of sums over examples. The sums
    are added up, and every worker descends on its own ones, weighed by the derivatives at the totals.

    Both penalties are convex functions of means over an environment, so a batch overestimates them by a multiple of
    the variance of its means, which falls with the batch size and enters the loss times the strength.
    `penalty_estimate: unbiased` subtracts an unbiased estimate of exactly that; the gradient's expectation is then
    the penalty's gradient. The estimate can be negative. An environment with fewer than two examples in the batch
    has no variance to estimate and is left out of the penalty. Arjovsky's and Krueger's own code takes whole
    environments as one batch, where the two estimates agree up to 1 / n.
    """

    needs = Needs(environments=True)
    # DomainBed: 10^U(-1, 5), and 10^U(0, 4) steps of 5,000 (a share of 1 or more would never turn the penalty on).
    search_space = {"strength": LogUniform(0.1, 1e5), "anneal_share": LogUniform(2e-4, 0.99)}

    def __init__(self, settings: EnvironmentPenaltySettings, context: MethodContext) -> None:
        self._settings, self._context = settings, context
        # The first step at full weight.
        self._switch = math.ceil(settings.anneal_share * context.total_steps)
        # Not those of a batch: the workers' sums must have the same shape.
        self._environments = torch.unique(context.dataset.train.environment)
        self._done = 0

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """One optimiser step on mean risk and penalty."""
        weight = self._weight()
        logits = model(batch.x)
        member = batch.environment == self._environments.to(logits.device)[:, None]
        own = self.sums(logits, batch.y, member)
        count = member.sum(dim=1).to(own.dtype)
        # The last row counts the workers.
        everywhere = self._context.sum_over_workers(
            torch.cat([own.detach(), count[None], torch.ones_like(count)[None]])
        )
        count, workers = everywhere[-2], everywhere[-1, 0]
        total = everywhere[:-2].clone().requires_grad_()
        present = count > 0
        means, count = total[:, present] / count[present], count[present]
        risk, penalty = means[0].mean(), self._penalty(means, count)
        (slopes,) = torch.autograd.grad(risk + weight * penalty, total)
        # Gradients are averaged over workers, but sums add up.
        self._context.optimiser.divided(workers * (slopes * own).sum(), max(1.0, weight))
        self._done += 1
        return StepReport({"loss": risk.detach(), "penalty": penalty.detach()})

    def _weight(self) -> float:
        """The penalty's weight in this step; where it changes, the optimiser starts anew."""
        strength = self._settings.strength
        if self._done < self._switch:
            return 1.0
        if self._settings.forget_optimiser and self._done == self._switch > 0 and strength != 1.0:
            self._context.optimiser.reset()
        return strength

    def _penalty(self, means: Tensor, count: Tensor) -> Tensor:
        """The penalty, 0-dim, from `sums` divided by the environments' numbers of examples `[E]`."""
        if self._settings.penalty_estimate == "batch":
            return self.penalty(means[-2], torch.zeros_like(count))
        known = count > 1
        if not known.any():
            return means.sum() * 0.0
        count, mean, square = count[known], means[-2, known], means[-1, known]
        # The sample variance n / (n - 1) (mean of squares - square of mean), divided by n.
        return self.penalty(mean, (square - mean.square()) / (count - 1))

    def sums(self, logits: Tensor, y: Tensor, member: Tensor) -> Tensor:
        """Sums over each environment's examples, `[S, E]`.

        The first row is that of cross-entropy, the last two of the penalised statistic and of its square; where the
        statistic is the cross-entropy itself, the first row serves as both.

        Args:
            logits: `[N, K]`.
            y: Labels, `[N]`.
            member: Whether an example belongs to an environment, bool `[E, N]`.
        """
        raise NotImplementedError

    def penalty(self, mean: Tensor, noise: Tensor) -> Tensor:
        """The penalty, 0-dim, without the part that noise adds.

        Args:
            mean: The statistic's mean in each environment, `[E]`.
            noise: Variance of that mean as an estimate of the environment's, `[E]`; 0 for the batch's own penalty.
        """
        raise NotImplementedError

    def state_dict(self) -> StateDict:
        """How far annealing is."""
        return {"done": self._done}

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""
        self._done = int(state["done"])


class Irm(EnvironmentPenalty):
    """IRMv1 (Arjovsky et al. 2019): the penalty is `mean_e ||d R_e(w * f) / d w at w = 1||^2`.

    With n examples whose derivatives have mean m and sample variance s^2, `E[m^2]` is the penalty plus `s^2 / n`.
    `m^2 - s^2 / n` is the mean of `m_1 m_2` over all ways to halve the examples: DomainBed's unbiased estimate, of
    even against odd positions, without the noise of the one choice of halves.
    """

    def sums(self, logits: Tensor, y: Tensor, member: Tensor) -> Tensor:
        """Cross-entropy, its derivative in a scale of the logits, and the derivative's square."""
        scale = torch.ones(
            (len(logits), 1),
            device=logits.device,
            dtype=torch.promote_types(logits.dtype, torch.float32),
            requires_grad=True,
        )
        losses = cross_entropy(logits * scale, y, reduction="none")
        (slopes,) = torch.autograd.grad(losses.sum(), scale, create_graph=True)
        slopes = slopes.squeeze(1)
        return torch.stack([_sums_over(member, values) for values in (losses, slopes, slopes.square())])

    def penalty(self, mean: Tensor, noise: Tensor) -> Tensor:
        """Mean square of the risks' derivatives."""
        return (mean.square() - noise).mean()


class Vrex(EnvironmentPenalty):
    """V-REx (Krueger et al. 2021): the penalty is the variance of the risks over environments.

    Over E environments, with n_e examples whose losses have sample variance s_e^2, a batch's variance of risks is
    in expectation the true one plus `(1 - 1 / E) mean_e s_e^2 / n_e`.
    """

    def sums(self, logits: Tensor, y: Tensor, member: Tensor) -> Tensor:
        """Cross-entropy and its square."""
        losses = cross_entropy(logits, y, reduction="none")
        return torch.stack([_sums_over(member, values) for values in (losses, losses.square())])

    def penalty(self, mean: Tensor, noise: Tensor) -> Tensor:
        """Variance of the risks."""
        return mean.var(correction=0) - (1 - 1 / len(mean)) * noise.mean()


def _sums_over(member: Tensor, values: Tensor) -> Tensor:
    # Not a matrix product, which autocast would compute in low precision.
    return torch.where(member, values, values.new_zeros(())).sum(dim=1)
