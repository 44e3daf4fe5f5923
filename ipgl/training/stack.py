"""Several runs of one shape trained as one stack, step by step, each with its own data, settings and optimiser.

Layers, losses and gradients are computed for all of them at once; each optimiser then updates its own model, in its
own kernel, as it does alone. So a run ends, to rounding, where it would have ended alone, whoever trains beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ipgl.data import Inputs, PairBatch
from ipgl.methods import OptimiserKind, StackableMethod, StackedMethod
from ipgl.models import Classifier, StackedClassifier, shared, stackable
from ipgl.training.checkpoint import RandomState, random_state, restore_random_state
from ipgl.training.collective import Collective
from ipgl.training.device import autocast
from ipgl.training.loop import TrainingRun, columns
from ipgl.training.optimiser import TorchOptimiser, like


@dataclass(frozen=True)
class Examples:
    """Inputs `[M, B, ...]` and labels `[M, B]` of a stack's step."""

    x: Tensor
    y: Tensor


def stack_key(run: TrainingRun) -> Hashable | None:
    """What runs must have in common to be trained together; None for a run that trains alone."""
    method, dataset, settings = run.method, run.dataset, run.settings
    # A subclass inherits `stacked`, but what it does differently would be lost there: it has to have its own.
    own = isinstance(method, StackableMethod) and "stacked" in vars(type(method))
    kind = method.stack_kind if isinstance(method, StackableMethod) and own else None
    inputs = (dataset.train.x, dataset.pairs.a)
    if kind is None or not stackable(run.model) or Collective().workers > 1:
        return None
    if not all(isinstance(x, Tensor) for x in inputs):
        return None
    shapes = tuple((name, tuple(p.shape)) for name, p in run.model.named_parameters())
    return (
        type(method),
        kind,
        shapes,
        repr(run.model.features),
        dataset.fingerprint,
        run.device,
        settings.batch_size,
        settings.precision,
        settings.optimiser.name,
        settings.optimiser.momentum > 0,
    )


def train_together(runs: Sequence[TrainingRun], random: list[RandomState]) -> list[dict[str, Tensor]]:
    """Train runs of one `stack_key` to the first evaluation that any of them comes to.

    Args:
        runs: The runs.
        random: State of torch's generators for each run, as it would be if the run were alone; those after replace
            them.

    Returns:
        What each step reported, for each run: `[steps]` by name.
    """
    stack = StackedClassifier([run.model for run in runs])
    optimisers = _StackedOptimisers(stack, runs)
    first = runs[0]
    assert isinstance(first.method, StackableMethod)
    method = first.method.stacked([run.method for run in runs], optimisers)
    batches = (
        _SharedBatches(runs, method, random)
        if _see_the_same(runs, random)
        else _OwnBatches(runs, method, random)
    )
    reports = []
    steps = min(run.steps_left for run in runs)
    for number in range(steps):
        for run in runs:
            run.optimisers.schedule(run.done + number)
        examples, pairs = batches(number)
        with autocast(first.settings, first.device):
            reports.append(method.step(stack, examples, pairs))
    batches.end()
    method.unstack(steps)
    for run in runs:
        run.done += steps
    found = columns(reports)
    return [{name: column[:, i] for name, column in found.items()} for i in range(len(runs))]


def _see_the_same(runs: Sequence[TrainingRun], random: Sequence[RandomState]) -> bool:
    """Whether all runs see the same examples in the same order, changed alike: trials of a search mostly do."""
    places = {(run.seed, run.done, run.method.pairs_per_step, run.dataset.fingerprint) for run in runs}
    return len(places) == 1 and all(_equal(random[0], other) for other in random[1:])


def _equal(a: RandomState, b: RandomState) -> bool:
    return torch.equal(a["cpu"], b["cpu"]) and all(map(torch.equal, a["cuda"], b["cuda"]))


class _SharedBatches:
    """What runs see that all see the same: gathered and changed once."""

    def __init__(self, runs: Sequence[TrainingRun], method: StackedMethod, random: list[RandomState]) -> None:
        self._run, self._models, self._method, self._random = runs[0], len(runs), method, random
        restore_random_state(random[0])

    def __call__(self, number: int) -> tuple[Examples, PairBatch | None]:
        run, models = self._run, self._models
        batch, pairs = run.batch(run.done + number)
        if pairs is not None:
            pairs = self._method.changed(pairs, self._method.draw(pairs))
            pairs = PairBatch(*(shared(part, models) for part in (pairs.a, pairs.b, pairs.y)))
        return Examples(shared(batch.x, models), shared(batch.y, models)), pairs

    def end(self) -> None:
        self._random[:] = [random_state()] * self._models


class _OwnBatches:
    """What runs see that each see their own: gathered together, each changed by its own random numbers."""

    def __init__(self, runs: Sequence[TrainingRun], method: StackedMethod, random: list[RandomState]) -> None:
        self._runs, self._method, self._random = runs, method, random
        self._dataset, self._device = runs[0].dataset, runs[0].device

    def __call__(self, number: int) -> tuple[Examples, PairBatch | None]:
        models, split, held = len(self._runs), self._dataset.train, self._dataset.pairs
        index = torch.cat([run.batches.order(run.done + number) for run in self._runs])
        examples = Examples(*(self._gathered(part, index, models) for part in (split.x, split.y)))
        orders = [run.batches.pair_order for run in self._runs]
        if orders[0] is None:
            return examples, None
        chosen = [order(run.done + number) for order, run in zip(orders, self._runs, strict=True) if order]
        index = torch.cat(chosen)
        pairs = PairBatch(*(self._gathered(part, index, models) for part in (held.a, held.b, held.y)))
        if self._method.draws:
            flat = PairBatch(pairs.a.flatten(0, 1), pairs.b.flatten(0, 1), pairs.y.flatten())
            changed = self._method.changed(flat, torch.cat([self._draw(i, pairs) for i in range(models)]))
            pairs = PairBatch(changed.a.view_as(pairs.a), changed.b.view_as(pairs.b), pairs.y)
        return examples, pairs

    def _gathered(self, part: Inputs, index: Tensor, models: int) -> Tensor:
        assert isinstance(part, Tensor)
        rows = part.index_select(0, index).to(self._device, non_blocking=True)
        return rows.view(models, -1, *rows.shape[1:])

    def _draw(self, number: int, pairs: PairBatch) -> Tensor:
        restore_random_state(self._random[number])
        drawn = self._method.draw(PairBatch(pairs.a[number], pairs.b[number], pairs.y[number]))
        self._random[number] = random_state()
        assert drawn is not None
        return drawn

    def end(self) -> None:
        """The states were replaced as they were used."""


class _StackedOptimisers:
    """The members' optimisers, in the order in which their methods asked for them."""

    def __init__(self, stack: StackedClassifier, runs: Sequence[TrainingRun]) -> None:
        self._stack, self._members = stack, [run.optimisers.made for run in runs]
        self._made = [StackedOptimiser(stack, [made[0] for made in self._members])]
        self.device = runs[0].device

    @property
    def optimiser(self) -> StackedOptimiser:
        return self._made[0]

    def new_optimiser(self, kind: OptimiserKind, model: Classifier | None) -> StackedOptimiser:
        self._made.append(StackedOptimiser(self._stack, [made[len(self._made)] for made in self._members]))
        return self._made[-1]


class StackedOptimiser:
    """`MethodOptimiser` on a stack: losses and scales are `[M]`, gradients `[M, ...]`; each takes its own step."""

    def __init__(self, stack: StackedClassifier, members: Sequence[TorchOptimiser]) -> None:
        self._stack, self._members = stack, members

    def minimise(self, loss: Tensor, scale: Tensor | None = None) -> None:
        """Take one step of each model down the gradient of its loss; `scale` multiplies the steps."""
        for parameter in self._stack.parameters:
            parameter.grad = None
        # A model's loss depends on its own parameters alone, so the sum's gradient holds that of each.
        torch.autograd.backward(loss.sum())
        self._step([parameter.grad for parameter in self._stack.parameters], scale)

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Gradients of each model's loss (zeros where there is none)."""
        parameters = self._stack.parameters
        found = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]

    def step_along(self, gradients: Sequence[Tensor]) -> None:
        """Take one step of each model from given gradients."""
        self._step([like(g, p) for g, p in zip(gradients, self._stack.parameters, strict=True)], None)

    def _step(self, gradients: Sequence[Tensor | None], scale: Tensor | None) -> None:
        models = len(self._members)
        pieces = ([None] * models if g is None else g.unbind() for g in gradients)
        of_each = zip(*pieces, strict=True)
        if scale is None:
            for member, own in zip(self._members, of_each, strict=True):
                member.step(None, own)
            return
        # Alone, a model whose correction is known to be nothing takes no second step; on a GPU nobody waits to know.
        moving = (scale != 0).tolist() if scale.device.type == "cpu" else [True] * models
        for member, own, factor, moves in zip(self._members, of_each, scale.unbind(), moving, strict=True):
            if moves:
                member.step(factor, own)
