"""Several runs of one shape trained as one stack, step by step, each with its own data, settings and optimiser.

A method's step is written for one model. Here `torch.func.vmap` makes of it the step of many, whose parameters lie side
by side: forward passes, losses and gradients are computed for all of them at once. Each optimiser then updates its own
model, in its own kernel, as it does alone. So a run ends, to rounding, where it would have ended alone, whatever other
runs are in the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ipgl.data import Inputs, PairBatch
from ipgl.methods import Objectives, PackableMethod, StepReport
from ipgl.models import Classifier
from ipgl.training.batched_layers import BatchedLayers
from ipgl.training.checkpoint import RandomState, random_state, restore_random_state
from ipgl.training.collective import Collective
from ipgl.training.device import autocast
from ipgl.training.loop import TrainingRun, columns
from ipgl.training.optimisers import TorchOptimiser, like
from ipgl.training.recording import Recording

# Layers that make a batched product of a stack, and those that treat each number alone: what is worth stacking.
_LAYERS = (nn.Linear, nn.Flatten)
_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Identity)


# What a step sees: inputs `x` and labels `y`; where there are pairs, their members `a` and `b` and their `labels`; and
# what was `drawn` for them, where they are changed. As for one model if all see the same, else with an M in front.
Seen: TypeAlias = dict[str, Tensor]


class Examples(NamedTuple):
    """Examples with their labels."""

    x: Tensor
    y: Tensor


def stackable(model: Classifier) -> bool:
    """Whether models of this kind can be stacked: chains of linear layers and elementwise functions, all trained."""
    features = model.features
    layers = list(features) if isinstance(features, nn.Sequential) else [features]
    known = all(isinstance(layer, (*_LAYERS, *_ELEMENTWISE)) for layer in layers)
    return known and not list(model.buffers()) and all(p.requires_grad for p in model.parameters())


def stack_key(run: TrainingRun) -> Hashable | None:
    """What runs must have in common to be trained together; None for a run that trains alone."""
    method, dataset, settings = run.method, run.dataset, run.settings
    # A subclass inherits `objectives`, but what it does differently in `step` would be lost: it has to have its own.
    own = isinstance(method, PackableMethod) and "objectives" in vars(type(method))
    kind = method.pack_kind if isinstance(method, PackableMethod) and own else None
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
    first = runs[0]
    stack = Stack(
        [run.model for run in runs],
        [_method(run) for run in runs],
        [run.optimisers.made[0] for run in runs],
        key=stack_key(first),
        precision=partial(autocast, first.settings, first.device),
    )
    batches = _SharedBatches(runs, random) if _see_the_same(runs, random) else _OwnBatches(runs, random)
    reports = []
    steps = min(run.steps_left for run in runs)
    for number in range(steps):
        for run in runs:
            run.optimisers.schedule(run.done + number)
        reports.append(stack.step(batches(number), batches.shared))
    batches.end()
    stack.end()
    for run in runs:
        run.done += steps
    found = columns(reports)
    return [{name: column[:, i] for name, column in found.items()} for i in range(len(runs))]


class Stack:
    """Models, methods and optimisers as one; from then on each model's parameters are views of the stack's.

    Attributes:
        parameters: `[M, ...]` each.
    """

    # What was recorded, by kind of run and shapes of inputs: a run comes here anew after each of its evaluations.
    _recordings: dict[Hashable, Recording] = {}
    _MOST_RECORDINGS = 16

    def __init__(
        self,
        models: Sequence[Classifier],
        methods: Sequence[PackableMethod],
        optimisers: Sequence[TorchOptimiser],
        key: Hashable = None,
        precision: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Stack models of one shape.

        Args:
            models: The models.
            methods: A method of one kind for each.
            optimisers: An optimiser for each.
            key: Stacks of an equal key take the same steps; None for one that has not its like.
            precision: Makes what enters automatic mixed precision.
        """
        self._methods, self._optimisers, self._key, self._precision = methods, optimisers, key, precision
        self._model, self._method = models[0], methods[0]
        self.parameters = _stacked_parameters(models)
        self._numbers: list[NamedTuple] = []
        self._stacked_numbers: tuple[Tensor, ...] = ()
        states = [method.moving() for method in self._methods]
        self._moving = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        self._steps = 0

    def step(self, seen: Seen, shared: bool) -> StepReport:
        """Update all models once; `shared` tells whether all see the same."""
        self._steps += 1
        inputs = (self.parameters, seen, self._stacked(), self._moving)
        shapes = tuple((name, x.shape, x.dtype) for name, x in seen.items())
        key = (self._key, len(self._methods), shared, shapes)
        recording = self._recordings.get(key)
        if recording is None:
            with self._precision(), BatchedLayers():
                recording = Recording(lambda *given: self._compute(shared, *given), *inputs)
            if len(self._recordings) >= self._MOST_RECORDINGS:
                self._recordings.clear()
            if self._key is not None:
                self._recordings[key] = recording
        found = recording(*inputs)
        gradients, scalars, self._moving = found
        of_each = zip(*(g if g is None else g.unbind() for g in gradients), strict=True)
        for optimiser, own in zip(self._optimisers, of_each, strict=True):
            optimiser.step(None, own)
        return StepReport(scalars)

    def end(self) -> None:
        """Give the members' methods the state that they would have alone."""
        for number, method in enumerate(self._methods):
            method.advance(self._steps, {name: value[number].clone() for name, value in self._moving.items()})

    def _stacked(self) -> tuple[Tensor, ...]:
        """The methods' numbers, `[M]` each."""
        numbers = [method.numbers(self._steps) for method in self._methods]
        if numbers != self._numbers:
            self._numbers = numbers
            like = self.parameters[0]
            columns = (
                torch.tensor(c, dtype=like.dtype, device=like.device) for c in zip(*numbers, strict=True)
            )
            self._stacked_numbers = type(numbers[0])._make(columns)
        return self._stacked_numbers

    def _compute(
        self, shared: bool, parameters: list[Tensor], seen: Seen, numbers: Any, moving: dict[str, Tensor]
    ) -> tuple[list[Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """The gradient that each model's optimiser is to follow, what steps report and the state after them."""
        method, of_data = self._method, None if shared else 0
        seen = self._with_changed_pairs(seen, shared)
        one = _OneModel(self._model, method)
        names = [name for name, _ in one.named_parameters()]

        def objectives(own: list[Tensor], seen: Seen, numbers: Any, moving: dict[str, Tensor]) -> Any:
            return functional_call(one, dict(zip(names, own, strict=True)), (seen, numbers, moving))

        found = Objectives(*vmap(objectives, in_dims=(0, of_data, 0, 0))(parameters, seen, numbers, moving))
        gradients = []
        for loss in found.losses:
            # A model's loss depends on its own parameters alone, so the sum's gradient holds that of each.
            of_loss = torch.autograd.grad(
                loss.sum(), parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            gradients.append([like(g, p) for g, p in zip(of_loss, parameters, strict=True)])
        with torch.no_grad():
            if len(gradients) == 1:
                return gradients[0], found.seen, found.moving
            along, scalars = vmap(method.combine)(gradients, found.seen, numbers)
            return along, scalars, found.moving

    def _with_changed_pairs(self, seen: Seen, shared: bool) -> Seen:
        """Each pair changed as was drawn for it. It does not matter whose pair it is, so all stand in one row."""
        if "drawn" not in seen:
            return seen
        row = [
            x if shared else x.flatten(0, 1) for x in (seen["a"], seen["b"], seen["labels"], seen["drawn"])
        ]
        changed = self._method.changed(PairBatch(*row[:3]), row[3])
        return seen | {"a": changed.a.view_as(seen["a"]), "b": changed.b.view_as(seen["b"])}


class _OneModel(nn.Module):
    """One model with its method's forward passes, so that `functional_call` can lend it other parameters."""

    def __init__(self, model: Classifier, method: PackableMethod) -> None:
        super().__init__()
        self.model, self._method = model, method

    def forward(self, seen: Seen, numbers: Any, moving: dict[str, Tensor]) -> tuple[Any, ...]:
        pairs = PairBatch(seen["a"], seen["b"], seen["labels"]) if "a" in seen else None
        examples = Examples(seen["x"], seen["y"])
        return tuple(self._method.objectives(self.model, examples, pairs, numbers, moving))


def _stacked_parameters(models: Sequence[Classifier]) -> list[Tensor]:
    """Parameters of models of one shape, `[M, ...]` each; theirs become views of these."""
    own = [list(model.parameters()) for model in models]
    stacks = [torch.stack([p.detach() for p in alike]).requires_grad_() for alike in zip(*own, strict=True)]
    for number, parameters in enumerate(own):
        for parameter, stack in zip(parameters, stacks, strict=True):
            parameter.data = stack.data[number]
    return stacks


def _see_the_same(runs: Sequence[TrainingRun], random: Sequence[RandomState]) -> bool:
    """Whether all runs see the same examples in the same order, changed alike: trials of a search mostly do."""
    places = {(run.seed, run.done, run.method.pairs_per_step, run.dataset.fingerprint) for run in runs}
    return len(places) == 1 and all(_equal(random[0], other) for other in random[1:])


def _equal(a: RandomState, b: RandomState) -> bool:
    return torch.equal(a["cpu"], b["cpu"]) and all(map(torch.equal, a["cuda"], b["cuda"]))


class _SharedBatches:
    """What runs see that all see the same: gathered once."""

    shared = True

    def __init__(self, runs: Sequence[TrainingRun], random: list[RandomState]) -> None:
        self._run, self._models, self._random = runs[0], len(runs), random
        restore_random_state(random[0])

    def __call__(self, number: int) -> Seen:
        batch, pairs = self._run.batch(self._run.done + number)
        seen = {"x": batch.x, "y": batch.y}
        if pairs is not None:
            seen |= {"a": pairs.a, "b": pairs.b, "labels": pairs.y}
            drawn = _method(self._run).draw(pairs)
            seen |= {} if drawn is None else {"drawn": drawn}
        return seen

    def end(self) -> None:
        self._random[:] = [random_state()] * self._models


class _OwnBatches:
    """What runs see that each see their own: gathered together, with random changes of each run's own generator."""

    shared = False

    def __init__(self, runs: Sequence[TrainingRun], random: list[RandomState]) -> None:
        self._runs, self._random = runs, random
        self._dataset, self._device = runs[0].dataset, runs[0].device

    def __call__(self, number: int) -> Seen:
        models, split, held = len(self._runs), self._dataset.train, self._dataset.pairs
        index = torch.cat([run.batches.order(run.done + number) for run in self._runs])
        seen = {name: self._gathered(part, index, models) for name, part in (("x", split.x), ("y", split.y))}
        orders = [run.batches.pair_order for run in self._runs]
        if orders[0] is None:
            return seen
        chosen = [order(run.done + number) for order, run in zip(orders, self._runs, strict=True) if order]
        index = torch.cat(chosen)
        parts = [self._gathered(part, index, models) for part in (held.a, held.b, held.y)]
        seen |= dict(zip(("a", "b", "labels"), parts, strict=True))
        changes = [self._draw(i, PairBatch(*(part[i] for part in parts))) for i in range(models)]
        drawn = [change for change in changes if change is not None]
        return seen | {"drawn": torch.stack(drawn)} if drawn else seen

    def _gathered(self, part: Inputs, index: Tensor, models: int) -> Tensor:
        assert isinstance(part, Tensor)
        rows = part.index_select(0, index).to(self._device, non_blocking=True)
        return rows.view(models, -1, *rows.shape[1:])

    def _draw(self, number: int, pairs: PairBatch) -> Tensor | None:
        restore_random_state(self._random[number])
        drawn = _method(self._runs[number]).draw(pairs)
        self._random[number] = random_state()
        return drawn

    def end(self) -> None:
        """The states were replaced as they were used."""


def _method(run: TrainingRun) -> PackableMethod:
    assert isinstance(run.method, PackableMethod)
    return run.method
