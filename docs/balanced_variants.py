"""Forms of the balanced update that the package does not have, measured beside the one that it has.

    IPGL_DATA=... python docs/balanced_variants.py rationale|plain_descent|adaptive|hidden [--epochs 8] [--width 256]

Real MNIST in the `irm` convention, drawn with another data seed than the studies' because the defaults were chosen on
these figures. Many networks are trained at once, one for each combination of numbers, all from one initial state and on
the same batches. docs/results/balanced.md quotes the tables as an earlier form of this script made them on one H200
GPU, in some seven seconds each. Other hardware draws and rounds otherwise; a CPU takes many minutes (`--lr` and
`--only` narrow what is run).
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from ipgl.data import Dataset, PairBatch
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.evaluation.invariance import joint_ratio
from ipgl.methods.ipg.augment import drawn_moves, moved
from ipgl.methods.ipg.discrepancy import DISCREPANCIES, ConstantHead, hidden_difference, mean_distance
from ipgl.methods.ipg.settings import AugmentSettings
from ipgl.models import MODELS, Classifier

BATCH, PAIRS_PER_STEP = 512, 256
Gradients = list[Tensor]


@dataclass(frozen=True)
class Variant:
    """One form of the update.

    Attributes:
        discrepancy: Name of a discrepancy.
        constant_head: Whether the head is constant in it (`through: representation`).
        norm: As the setting.
        relative: What it is divided by: nothing, the spread of centred `logits`, or its `own` over all members.
        kept: Whose length is left out of the corrective gradient: nothing's, each `layer`'s or each `unit`'s.
        held: How the share is kept. `gradient`: one balanced gradient into one optimiser; `metric`: the same with both
            lengths in Adam's own metric; `step`: the task's step scaled to a share of that of an optimiser for the
            correction; `gain`: the task's step may undo a share of the corrective step's first-order gain.
        scaled: As the setting, of `gradient`.
        adam: Whether the optimiser is Adam; plain descent otherwise.
        pairs: Invariance pairs to train by.
        shift: Largest shift of a pair, in pixels.
    """

    discrepancy: str = "rationale"
    constant_head: bool = False
    norm: str = "plain"
    relative: str = ""
    kept: str = ""
    held: str = "gradient"
    scaled: str = "corrective"
    adam: bool = True
    pairs: int = 5000
    shift: int = 0


def grid(**axes: Sequence[float]) -> list[dict[str, float]]:
    """All combinations of numbers."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


RATIONALES = {
    "rationale": Variant(),
    "rationale, each layer's length kept out": Variant(kept="layer"),
    "rationale, each unit's length kept out": Variant(kept="unit"),
    "rationale over the spread of centred logits": Variant(relative="logits"),
    "rationale with constant head": Variant(constant_head=True),
    "logit": Variant("logit"),
}
FEW = Variant(pairs=500, shift=1)
STUDIES: dict[str, tuple[dict[str, Variant], list[dict[str, float]]]] = {
    "rationale": (
        RATIONALES,
        grid(lr=(3e-4, 1e-3, 3e-3), share=(0.5, 2 / 3, 0.8, 0.9, 1), threshold=(0.003, 0.01, 0.03)),
    ),
    "plain_descent": (
        {
            name: replace(variant, adam=False, scaled="task")
            for name, variant in (
                RATIONALES | {"rationale over its own spread": Variant(relative="own")}
            ).items()
        },
        grid(lr=(0.03, 0.1, 0.2, 0.3, 0.6, 1), share=(1 / 3, 2 / 3, 1, 1.5), threshold=(0.003,)),
    ),
    "adaptive": (
        {
            f"held by the {held}, {name}": replace(FEW, discrepancy=name, held=held)
            for held in ("gradient", "metric", "step", "gain")
            for name in ("rationale", "logit")
        },
        grid(lr=(3e-4, 1e-3, 3e-3), share=(1 / 3, 0.5, 2 / 3), hidden=(0.01, 0.1, 1, 10), threshold=(0.003,)),
    ),
    "hidden": (
        {
            f"{name}, {pairs} pairs": Variant(name, True, "squared", pairs=pairs, shift=int(pairs < 5000))
            for name in ("rationale", "logit")
            for pairs in (5000, 500, 100)
        },
        grid(
            lr=(1e-4, 2e-4, 3e-4, 1e-3, 2e-3, 3e-3),
            share=(0.3, 0.5, 0.7),
            hidden=(0, 0.01, 0.1, 1, 10),
            threshold=(0.003,),
        ),
    ),
}


class OfOne(nn.Module):
    """A function of a model as a module, so that `functional_call` can lend the model other parameters."""

    def __init__(self, model: Classifier, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, *given: Tensor) -> Any:
        """The function's value."""
        return self.function(self.model, *given)


class Optimiser:
    """Steps of M models, each at its own rate: plain descent, or Adam as torch has it."""

    def __init__(self, parameters: Gradients, rates: Tensor, adam: bool) -> None:
        self._rates, self._adam = rates, adam
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.count = torch.zeros_like(rates)

    def preconditioner(self) -> Gradients:
        """What Adam multiplies a gradient by, less the rate."""
        corrected = (1 - 0.999**self.count).clamp_min(1e-3)
        return [1 / ((s / beside(corrected, s)).sqrt() + 1e-8) for s in self.squares]

    def step(self, gradients: Gradients, moving: Tensor) -> Gradients:
        """The steps of those models that move; the state of the others stays."""
        if not self._adam:
            return [-beside(self._rates * moving, g) * g for g in gradients]
        self.count += moving
        steps = []
        corrected = 1 - 0.9 ** self.count.clamp_min(1)
        for number, g in enumerate(gradients):
            on = beside(moving, g) > 0
            self.means[number] = torch.where(on, 0.9 * self.means[number] + 0.1 * g, self.means[number])
            self.squares[number] = torch.where(
                on, 0.999 * self.squares[number] + 0.001 * g * g, self.squares[number]
            )
            steps.append(-beside(self._rates * moving / corrected, g) * self.means[number])
        return [s * p for s, p in zip(steps, self.preconditioner(), strict=True)]


def beside(weight: Tensor, part: Tensor) -> Tensor:
    """`[M]` shaped to multiply `[M, ...]`."""
    return weight.view(-1, *[1] * (part.dim() - 1))


def dot(a: Gradients, b: Gradients) -> Tensor:
    """Inner product of each model's gradients, `[M]`."""
    return torch.stack([(x * y).flatten(1).sum(dim=1) for x, y in zip(a, b, strict=True)]).sum(dim=0)


def without_lengths(corrective: Gradients, parameters: Gradients, kept: str) -> Gradients:
    """The corrective gradient less what changes the length of each layer's weights, or of each unit's.

    A hidden unit's are its incoming weights with the bias; a feature's in the head are those that read it.
    """
    found = list(corrective)
    for number in range(0, len(parameters), 2):
        weight, bias = parameters[number].detach(), parameters[number + 1].detach()
        g_weight, g_bias = corrective[number : number + 2]
        if kept == "layer":
            along = (g_weight * weight).sum(dim=(1, 2), keepdim=True) / weight.square().sum(
                dim=(1, 2), keepdim=True
            )
            found[number] = g_weight - along * weight
        elif number == len(parameters) - 2:
            along = (g_weight * weight).sum(dim=1, keepdim=True) / weight.square().sum(
                dim=1, keepdim=True
            ).clamp_min(1e-30)
            found[number] = g_weight - along * weight
        else:
            size = weight.square().sum(dim=2) + bias.square()
            along = ((g_weight * weight).sum(dim=2) + g_bias * bias) / size.clamp_min(1e-30)
            found[number] = g_weight - along.unsqueeze(2) * weight
            found[number + 1] = g_bias - along * bias
    return found


class Training:
    """Networks that differ in their numbers alone, trained together."""

    def __init__(
        self, variant: Variant, rows: list[dict[str, float]], dataset: Dataset, width: int, seed: int
    ) -> None:
        self.variant, self.rows, self.dataset = variant, rows, dataset
        self.device = dataset.train.y.device
        torch.manual_seed(seed)
        mlp = MODELS["mlp"]
        first = mlp.build(mlp.settings(width=width, depth=2), dataset.input_shape, 2).to(self.device)
        models = [
            mlp.build(mlp.settings(width=width, depth=2), dataset.input_shape, 2).to(self.device)
            for _ in rows
        ]
        for model in models:
            model.load_state_dict(first.state_dict())
        self.model = models[0]
        stacked, _ = stack_module_state(models)
        self.parameters = {f"model.{name}": value for name, value in stacked.items()}
        self.numbers = {
            name: torch.tensor([row.get(name, 0.0) for row in rows], device=self.device)
            for name in ("lr", "share", "threshold", "hidden")
        }
        parameters = list(self.parameters.values())
        self.task = Optimiser(parameters, self.numbers["lr"], variant.adam)
        self.correction = Optimiser(parameters, self.numbers["lr"], variant.adam)
        self.violated = torch.zeros(len(rows), device=self.device)

    def of_each(self, function: Callable[..., Any], *given: Tensor) -> Any:
        """What a function of one model, and of a number of its own in each `[M]` of `given`, is of every model."""
        one = OfOne(self.model, function)

        def called(own: dict[str, Tensor], *numbers: Tensor) -> Any:
            return functional_call(one, own, numbers)

        return vmap(called)(self.parameters, *given)

    def discrepancy(self, model: Classifier, pairs: PairBatch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """D and rho of one model, 0-dim."""
        variant, count = self.variant, len(pairs.y)
        with model.recording_hidden() as layers:
            z = model.features(torch.cat([pairs.a, pairs.b]))
        head: Any = ConstantHead(model.head) if variant.constant_head else model.head
        squares = DISCREPANCIES[variant.discrepancy](z[:count], z[count:], head)
        value = mean_distance(squares, variant.norm)
        if variant.relative:
            weight = head.weight - head.weight.mean(dim=0, keepdim=True)
            if variant.relative == "logits":
                spread = (z @ weight.mT).var(dim=0, correction=0).sum()
            else:
                spread = (z.var(dim=0, correction=0) * head.weight.square().sum(dim=0)).sum()
            value = value / (spread + 1e-10).sqrt()
        if self.numbers["hidden"].any():
            value = value + hidden * hidden_difference([(layer[:count], layer[count:]) for layer in layers])
        return value, joint_ratio(model.head(z.detach()).detach())

    def step(self, x: Tensor, y: Tensor, pairs: PairBatch) -> None:
        """One update of all models."""
        parameters = list(self.parameters.values())
        loss = self.of_each(lambda model: cross_entropy(model(x), y))
        task: Gradients = list(torch.autograd.grad(loss.sum(), parameters))
        value, rho = self.of_each(
            lambda model, hidden: self.discrepancy(model, pairs, hidden), self.numbers["hidden"]
        )
        given = torch.autograd.grad(value.sum(), parameters, allow_unused=True)
        corrective = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, given, strict=True)]
        if self.variant.kept:
            corrective = without_lengths(corrective, parameters, self.variant.kept)
        violated = (rho > self.numbers["threshold"]).float()
        self.violated += violated
        with torch.no_grad():
            for p, s in zip(parameters, self._steps(task, corrective, violated), strict=True):
                p += s

    def _steps(self, task: Gradients, corrective: Gradients, violated: Tensor) -> Gradients:
        share, every = self.numbers["share"], torch.ones_like(violated)
        held = self.variant.held
        if held in ("gradient", "metric"):
            metric = self.task.preconditioner() if held == "metric" and bool(self.task.count.any()) else None
            a, b = (
                [g * m for g, m in zip(part, metric, strict=True)] if metric else part
                for part in (task, corrective)
            )
            ratio = dot(a, a).sqrt() / (share * dot(b, b).sqrt().clamp_min(1e-12))
            length = torch.where(violated > 0, 1 / ratio, every) if self.variant.scaled == "task" else every
            joint = [
                beside(length, g) * (g + beside(violated * ratio, c) * c)
                for g, c in zip(task, corrective, strict=True)
            ]
            return self.task.step(joint, every)
        own, other = self.task.step(task, every), self.correction.step(corrective, violated)
        if held == "step":
            factor = share * dot(other, other).sqrt() / dot(own, own).sqrt().clamp_min(1e-30)
        else:
            up, gain = dot(corrective, own), -dot(corrective, other)
            factor = torch.where(up > 0, (share * gain / up.clamp_min(1e-30)).clamp(0, 1), every)
        factor = torch.where(violated > 0, factor, every)
        return [beside(factor, s) * s + c for s, c in zip(own, other, strict=True)]

    def run(self, epochs: int, seed: int) -> list[dict[str, float]]:
        """Train; each model's numbers with what became of it."""
        train, held = self.dataset.train, self.dataset.pairs
        generator = torch.Generator().manual_seed(seed)
        per_pass = len(train) // BATCH
        augment = AugmentSettings(shift_pixels=self.variant.shift)
        for number in range(epochs * per_pass):
            if number % per_pass == 0:
                order = torch.randperm(len(train), generator=generator).to(self.device)
            index = order[number % per_pass * BATCH :][:BATCH]
            chosen = torch.randint(self.variant.pairs, (PAIRS_PER_STEP,), generator=generator).to(self.device)
            pairs = PairBatch(held.a[chosen], held.b[chosen], held.y[chosen])
            self.step(train.x[index], train.y[index], moved(pairs, drawn_moves(pairs, augment), augment))
        return self._outcomes(epochs * per_pass)

    @torch.inference_mode()
    def _classes(self, x: Tensor) -> Tensor:
        parts = [self.of_each(lambda model, x=part: model(x).argmax(dim=-1)) for part in x.split(2500)]
        return torch.cat(parts, dim=1)

    def _outcomes(self, steps: int) -> list[dict[str, float]]:
        test, validation, held = self.dataset.test, self.dataset.validation, self.dataset.held_out_pairs
        right = (self._classes(test.x) == test.y).double()
        aligned, conflicting = (
            sum((test.y == k).double().mean() * right[:, (test.y == k) & mask].mean(dim=1) for k in (0, 1))
            for mask in (test.attribute == test.y, test.attribute != test.y)
        )
        found = self._classes(validation.x)
        flips = (self._classes(held.a) != self._classes(held.b)).double().mean(dim=1)
        observed = (found == validation.y).double().mean(dim=1)
        positive, share = found.double().mean(dim=1), validation.y.double().mean()
        chance = positive * share + (1 - positive) * (1 - share)
        score = (observed - chance) / (1 - chance).clamp_min(1e-9) * (1 - flips) ** 2
        columns = {
            "at 10%": 10 * aligned + 90 * conflicting,
            "at 90%": 90 * aligned + 10 * conflicting,
            "score": score,
            "violated": self.violated / steps,
            "one class": torch.maximum(positive, 1 - positive),
        }
        return [
            row | {name: value[i].item() for name, value in columns.items()}
            for i, row in enumerate(self.rows)
        ]


def print_table(title: str, outcomes: list[dict[str, float]]) -> None:
    """A row for each share (and hidden weight), a column for each rate; cells at the smallest threshold."""
    collapsed = sum(one["one class"] > 0.97 for one in outcomes)
    best = max(outcomes, key=lambda one: -math.inf if math.isnan(one["score"]) else one["score"])
    print(f"\n### {title}\n\ncollapsed: {collapsed} of {len(outcomes)}; kappa x (1 - flip rate)^2 chooses")
    print(", ".join(f"{name} {value:.4g}" for name, value in best.items()) + "\n")
    rates = sorted({one["lr"] for one in outcomes})
    print("| hidden | share | " + " | ".join(f"{rate:g}" for rate in rates) + " |")
    print("|---" * (len(rates) + 2) + "|")
    least = min(one["threshold"] for one in outcomes)
    for hidden, share in sorted({(one.get("hidden", 0.0), one["share"]) for one in outcomes}):
        cells = [
            f"{one['at 10%']:.1f} / {one['at 90%']:.1f} ({one['violated']:.2f})"
            for rate in rates
            for one in outcomes
            if (one["lr"], one["share"], one.get("hidden", 0.0), one["threshold"])
            == (rate, share, hidden, least)
        ]
        print(f"| {hidden:g} | {share:.2f} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, nargs="*", help="only these learning rates")
    parser.add_argument("--only", default="", help="variants whose name contains this")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    settings = ColoredMnistSettings(seed=1, pairs={"train": 5000, "held_out": 500, "seed": 1})
    dataset = build_colored_mnist(settings).to(torch.device(given.device))
    variants, rows = STUDIES[given.study]
    rows = [row for row in rows if not given.lr or row["lr"] in given.lr]
    for name, variant in variants.items():
        if given.only in name:
            training = Training(variant, rows, dataset, given.width, given.seed)
            print_table(name, training.run(given.epochs, given.seed))


if __name__ == "__main__":
    main()
