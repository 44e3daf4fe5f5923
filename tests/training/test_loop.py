"""The training loop against a plain one, interrupted and resumed, and where numbers run away."""

from __future__ import annotations

import errno
import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from narrowing import Keywords, known, of_kind
from torch.nn.functional import cross_entropy

from ipgl.config import OptimiserSettings, ScheduleSettings
from ipgl.core.errors import StudyStateError
from ipgl.data import Batch, Dataset, PairBatch, ShuffledOrder, derive_seed
from ipgl.methods import METHODS as REGISTRY
from ipgl.methods import MethodBase, MethodContext, StepReport
from ipgl.methods import base as protocol
from ipgl.models import Classifier
from ipgl.training import Checkpoint, NonFiniteError, SilentReporter, TrainingOutcome, evaluation_steps, train
from ipgl.training import loop as loop_module
from ipgl.training.checkpoint import save_checkpoint

if TYPE_CHECKING:
    from tests.training.conftest import Rows, Toys


STEPS = 12  # 4 epochs of 3


def fit(
    toys: type[Toys],
    method: Callable[[MethodContext], protocol.Method] | None = None,
    *,
    path: Path | None = None,
    reporter: Rows | None = None,
    seed: int = 0,
    model: Classifier | None = None,
    dataset: Dataset | None = None,
    **changes: Any,
) -> tuple[Classifier, TrainingOutcome, Rows]:
    """Train, and hand back model, outcome and reporter."""
    dataset = dataset or toys.dataset()
    model = model or toys.model()
    reporter = reporter or toys.Rows()
    outcome = train(
        model,
        method or toys.method("erm"),
        dataset,
        toys.settings(**changes),
        seed=seed,
        evaluate=toys.accuracy(dataset),
        reporter=reporter,
        checkpoint_path=path,
        config_hash="this run",
    )
    return model, outcome, reporter


def same_bits(model: Classifier, other: Classifier) -> bool:
    return all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def without_time(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "time"} for row in rows]


def assert_same(found: Any, expected: Any) -> None:
    """Nested dicts, lists, tensors and values, equal to the last bit."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert_same(mine, theirs)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


# --- when to evaluate ---


@pytest.mark.parametrize(
    ("total", "evaluations", "expected"),
    [
        (100, 4, [25, 50, 75, 100]),
        (10, 3, [3, 7, 10]),
        (7, 1, [7]),
        (3, 3, [1, 2, 3]),
        (5, 10, [1, 2, 3, 4, 5]),
        (1, 5, [1]),
    ],
)
def test_evaluation_steps(total: int, evaluations: int, expected: list[int]) -> None:
    assert evaluation_steps(total, evaluations) == expected


def test_evaluation_steps_always_end_with_the_last() -> None:
    for total, evaluations in itertools.product(range(1, 30), range(1, 35)):
        steps = evaluation_steps(total, evaluations)
        assert steps[-1] == total
        assert steps[0] >= 1
        assert len(set(steps)) == len(steps) == min(total, evaluations)


# --- against a plain loop ---


def naive_run(
    toys: type[Toys], dtype: torch.dtype, strength: float, seed: int
) -> tuple[list[torch.Tensor], list[float]]:
    """Sequential IPG (logit, proportional) with SGD, momentum, decay and a cosine, written out."""
    dataset, lr, momentum, decay, threshold = toys.dataset(dtype), 0.2, 0.9, 0.01, 0.02
    theta = [p.detach().clone().requires_grad_() for p in toys.model(dtype).parameters()]
    buffers = [torch.zeros_like(p) for p in theta]
    order = ShuffledOrder(50, 16, derive_seed(seed, "order"))
    pair_order = ShuffledOrder(20, 8, derive_seed(seed, "pairs"))
    losses = []

    def logits(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]

    for step in range(STEPS):
        rate = lr * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        chosen = order(step)
        loss = cross_entropy(logits(dataset.train.x[chosen]), dataset.train.y[chosen])
        losses.append(loss.item())
        for number, gradient in enumerate(torch.autograd.grad(loss, theta)):
            buffers[number] = momentum * buffers[number] + gradient + decay * theta[number].detach()
        theta = [(p - rate * b).detach().requires_grad_() for p, b in zip(theta, buffers, strict=True)]

        chosen = pair_order(step)
        u_a, u_b = logits(dataset.pairs.a[chosen]), logits(dataset.pairs.b[chosen])
        u_a, u_b = u_a - u_a.mean(dim=1, keepdim=True), u_b - u_b.mean(dim=1, keepdim=True)
        value = (u_a - u_b).square().sum(dim=1).mean()
        members = torch.cat([u_a, u_b]).detach()
        variance = (members - members.mean(dim=0)).square().sum() / (len(members) - 1)
        rho = value.item() / 2 / variance.item()
        a = max(0.0, (rho - threshold) / rho)
        found = torch.autograd.grad(value, theta[:3])
        corrective = [*found, torch.zeros_like(theta[3])]
        theta = [
            (p - rate * strength * a * g).detach().requires_grad_()
            for p, g in zip(theta, corrective, strict=True)
        ]
    return theta, losses


def test_a_whole_run_equals_a_plain_loop(toys: type[Toys]) -> None:
    dtype = torch.float64
    theta, losses = naive_run(toys, dtype, strength=0.5, seed=3)
    model, outcome, reporter = fit(
        toys,
        toys.method(
            "ipg",
            update="sequential",
            through="both",
            least_spread=0.0,
            discrepancy="logit",
            adaptivity="proportional",
            strength=0.5,
            invariance_threshold=0.02,
            pairs_per_step=8,
        ),
        dataset=toys.dataset(dtype),
        model=toys.model(dtype),
        seed=3,
        optimiser=OptimiserSettings(name="sgd", lr=0.2, momentum=0.9, weight_decay=0.01),
        schedule=ScheduleSettings(name="cosine"),
        evaluations=2,
    )
    for found, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-9, atol=1e-11)
    # Each row holds the mean loss of its six steps; reports are kept in single precision.
    means = [sum(losses[:6]) / 6, sum(losses[6:]) / 6]
    assert [row["train/loss"] for row in outcome.history] == pytest.approx(means, rel=1e-5)
    assert reporter.rows == outcome.history
    assert outcome.steps == STEPS


def test_rows(toys: type[Toys]) -> None:
    _, outcome, _ = fit(toys, evaluations=5)
    assert [row["step"] for row in outcome.history] == [2, 5, 7, 10, 12]
    assert [row["evaluation"] for row in outcome.history] == [1, 2, 3, 4, 5]
    assert [row["epoch"] for row in outcome.history] == pytest.approx([2 / 3, 5 / 3, 7 / 3, 10 / 3, 4])
    for row in outcome.history:
        assert set(row) == {
            "evaluation",
            "step",
            "epoch",
            "time",
            "train/loss",
            "validation/accuracy",
        }
        assert all(isinstance(value, float) for value in row.values())
    times = [row["time"] for row in outcome.history]
    assert times == sorted(times)


@pytest.mark.parametrize("evaluations", [2, 4, 12])
def test_a_mean_is_over_the_steps_that_report_the_name(toys: type[Toys], evaluations: int) -> None:
    """A method need not report the same names in each step: here `even` comes with every second one."""

    class Alternating(Method):
        count = 0

        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            self.count += 1
            scalars = {"loss": torch.tensor(float(self.count))}
            if self.count % 2 == 0:
                scalars["even"] = torch.tensor(10.0 * self.count)
            return StepReport(scalars)

    _, outcome, _ = fit(toys, Alternating, evaluations=evaluations)
    size = STEPS // evaluations
    for number, row in enumerate(outcome.history):
        steps = range(number * size + 1, (number + 1) * size + 1)
        assert row["train/loss"] == pytest.approx(sum(steps) / size)
        even = [step for step in steps if step % 2 == 0]
        if even:
            assert row["train/even"] == pytest.approx(10 * sum(even) / len(even))
        else:
            assert "train/even" not in row


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_method_that_corrects_now_and_then(toys: type[Toys], every: int) -> None:
    _, outcome, _ = fit(toys, toys.method("ipg", every=every, pairs_per_step=8))
    assert len(outcome.history) == 4
    assert any("train/measure" in row for row in outcome.history)


def test_diagnostics_join_the_row_and_leave_the_run_alone(toys: type[Toys]) -> None:
    plain, outcome, _ = fit(toys, toys.method("ipg", pairs_per_step=8), evaluations=1)
    often, diagnosed, _ = fit(toys, toys.method("ipg", pairs_per_step=8), evaluations=12)
    names = {
        "task_gradient_norm",
        "corrective_gradient_norm",
        "gradient_cosine",
        "collapsed",
        "overshot",
    }
    for row in (*outcome.history, *diagnosed.history):
        assert {name.removeprefix("diagnostic/") for name in row if name.startswith("diagnostic/")} == names
    assert same_bits(plain, often)


def test_learning_lowers_the_loss(toys: type[Toys]) -> None:
    _, outcome, _ = fit(toys, epochs=30)
    assert outcome.history[-1]["train/loss"] < 0.6 * outcome.history[0]["train/loss"]


def test_the_model_trains_in_training_mode_and_ends_in_evaluation_mode(toys: type[Toys]) -> None:
    modes = []

    class Watcher(Method):
        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            modes.append(model.training)
            return super().step(model, batch, pairs)

    model, _, _ = fit(toys, Watcher)
    assert modes == [True] * STEPS
    assert not model.training


# --- seeds and data order ---


class Method(MethodBase):
    """A stand-in that steps as ERM does and writes down what it was given."""

    pairs_per_step = 6

    def __init__(self, context: MethodContext) -> None:
        self.context = context
        self.batches: list[list[int]] = []
        self.pair_batches: list[list[float]] = []

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        self.batches.append(batch.index.tolist())
        self.pair_batches.append(known(pairs).a[:, 0].tolist())
        loss = cross_entropy(model(batch.x), batch.y)
        self.context.optimiser.minimise(loss)
        return StepReport({"loss": loss.detach()})

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        assert state == {}


class TestTrace:
    """What steps report, as means over equal spans of the run."""

    class Counting(Method):
        """Reports its own step's number, and in every third step its square."""

        count = 0

        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            self.count += 1
            report = super().step(model, batch, pairs)
            own = {"number": torch.tensor(float(self.count))}
            if self.count % 3 == 0:
                own["square"] = torch.tensor(float(self.count**2))
            return StepReport(report.scalars | own)

    def run(
        self, toys: type[Toys], monkeypatch: pytest.MonkeyPatch, rows: int, **more: Any
    ) -> TrainingOutcome:
        monkeypatch.setattr("ipgl.training.loop.TRACE_ROWS", rows)
        return fit(toys, self.Counting, evaluations=2, **more)[1]

    def test_a_row_for_each_step_where_there_is_room(
        self, toys: type[Toys], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outcome = self.run(toys, monkeypatch, 200)
        assert [row["step"] for row in outcome.trace] == list(range(1, STEPS + 1))
        assert [row["number"] for row in outcome.trace] == list(range(1, STEPS + 1))
        assert [row["epoch"] for row in outcome.trace] == pytest.approx(
            [step / 3 for step in range(1, STEPS + 1)]
        )
        assert {row["step"]: row["square"] for row in outcome.trace if "square" in row} != {}

    def test_means_of_spans(self, toys: type[Toys], monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = self.run(toys, monkeypatch, 4)  # two spans of three steps before each of two evaluations
        assert [row["step"] for row in outcome.trace] == [3, 6, 9, 12]
        assert [row["number"] for row in outcome.trace] == [2, 5, 8, 11]
        assert [row["square"] for row in outcome.trace] == [9, 36, 81, 144]
        means = [sum(row["loss"] for row in outcome.trace[i : i + 2]) / 2 for i in (0, 2)]
        assert [row["train/loss"] for row in outcome.history] == pytest.approx(means, rel=1e-6)

    @pytest.mark.parametrize("rows", [1, 2, 5])
    def test_there_are_few_of_them(
        self, toys: type[Toys], monkeypatch: pytest.MonkeyPatch, rows: int
    ) -> None:
        assert len(self.run(toys, monkeypatch, rows).trace) <= max(rows, 2)

    def test_a_resumed_run_has_all_of_it(
        self, toys: type[Toys], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "checkpoint.pt"

        def kill(row: dict[str, float]) -> None:
            if row["evaluation"] == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.run(toys, monkeypatch, 4, path=path, reporter=toys.Rows(after=kill))
        resumed = self.run(toys, monkeypatch, 4, path=path)
        unbroken = self.run(toys, monkeypatch, 4)
        # The method's own count begins anew, as it keeps no state; loss and places are the unbroken run's.
        for name in ("step", "epoch", "loss"):
            assert [row[name] for row in resumed.trace] == [row[name] for row in unbroken.trace]

    def test_a_checkpoint_from_before_there_was_one(self, toys: type[Toys], tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.pt"
        fit(toys, path=path, evaluations=2)
        content = torch.load(path, weights_only=True)
        del content["trace"]
        torch.save(content, path)
        assert fit(toys, path=path, evaluations=2)[1].trace == []


def given(toys: type[Toys], **changes: Any) -> tuple[Classifier, TrainingOutcome, Method]:
    methods = []

    def build(context: MethodContext) -> Method:
        methods.append(Method(context))
        return methods[0]

    model, outcome, _ = fit(toys, build, **changes)
    return model, outcome, methods[0]


def test_the_order_does_not_depend_on_the_evaluations(toys: type[Toys]) -> None:
    models, methods = [], []
    for evaluations in (1, 5):
        model, _, method = given(toys, evaluations=evaluations)
        models.append(model)
        methods.append(method)
    assert methods[0].batches == methods[1].batches
    assert methods[0].pair_batches == methods[1].pair_batches
    assert same_bits(*models)


def test_every_epoch_is_a_pass_without_repetition(toys: type[Toys]) -> None:
    _, _, method = given(toys)
    epochs = [list(itertools.chain(*method.batches[start : start + 3])) for start in range(0, STEPS, 3)]
    assert [len(set(epoch)) for epoch in epochs] == [48] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [len(batch) for batch in method.pair_batches] == [6] * STEPS


def test_equal_seeds_give_equal_runs_and_others_do_not(toys: type[Toys]) -> None:
    ipg = toys.method("ipg", pairs_per_step=8)
    model, outcome, _ = fit(toys, ipg, seed=1)
    again, repeated, _ = fit(toys, ipg, seed=1)
    other, different, _ = fit(toys, ipg, seed=2)
    assert same_bits(model, again)
    assert without_time(outcome.history) == without_time(repeated.history)
    assert not same_bits(model, other)
    assert without_time(outcome.history) != without_time(different.history)


def test_more_pairs_than_there_are_are_capped(toys: type[Toys]) -> None:
    _, _, method = given(toys, dataset=toys.dataset(pairs=4))
    assert [len(batch) for batch in method.pair_batches] == [4] * STEPS


def drawn(toys: type[Toys], **wishes: torch.Tensor) -> torch.Tensor:
    """How often each of 50 training examples came in 100 epochs of three steps of 16."""
    methods = []

    def build(context: MethodContext) -> Method:
        methods.append(Method(context))
        vars(methods[0]).update(wishes)
        return methods[0]

    _, outcome, _ = fit(toys, build, epochs=100)
    assert outcome.steps == 300  # as many as full passes take
    return torch.bincount(torch.tensor(list(itertools.chain(*methods[0].batches))), minlength=50)


def test_without_a_wish_examples_come_in_shuffled_passes(toys: type[Toys]) -> None:
    counts = drawn(toys)
    assert counts.max() <= 100
    assert counts.min() > 80  # two of 50 are left out of each pass


def test_weighted_examples_come_in_proportion(toys: type[Toys]) -> None:
    weights = torch.ones(50)
    weights[:10], weights[10:20] = 0.0, 3.0
    counts = drawn(toys, sampling_weights=weights)
    assert counts[:10].sum() == 0
    # 30 of 60 parts go to ten examples: half of 4,800 draws, with a standard deviation of 35.
    assert counts[10:20].sum().item() == pytest.approx(2400, abs=5 * 35)


def test_only_the_examples_that_a_method_draws_from_come(toys: type[Toys]) -> None:
    index = torch.tensor([3, 7, 11, 12, 40])
    counts = drawn(toys, train_index=index)
    assert counts.nonzero().flatten().tolist() == index.tolist()
    assert counts[index].min() > 800  # 960 each, with a standard deviation of 28


def test_a_method_without_pairs_is_given_none(toys: type[Toys]) -> None:
    seen = []

    class Lone(Method):
        pairs_per_step = 0

        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            seen.append(pairs)
            loss = cross_entropy(model(batch.x), batch.y)
            return StepReport({"loss": loss.detach()})

    fit(toys, Lone, dataset=toys.dataset(pairs=0))
    assert seen == [None] * STEPS


# --- interrupted and resumed ---

METHODS = {
    "erm": ("erm", {}),
    "balanced": ("ipg", {"pairs_per_step": 8, "augment": {"mix": 0.4}}),
    "sequential": ("ipg", {"pairs_per_step": 8, "update": "sequential", "adaptivity": "proportional"}),
    "additive": (
        "ipg",
        {"pairs_per_step": 8, "update": "additive", "through": "both", "least_spread": 0.0}
        | {"discrepancy": "logit", "strength": 3},
    ),
}


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("method", METHODS)
def test_resumed_from_any_checkpoint_a_run_ends_in_the_same_bits(
    toys: type[Toys], tmp_path: Path, method: str, optimiser: str
) -> None:
    name, settings = METHODS[method]
    options: Keywords = {
        "optimiser": OptimiserSettings(name=optimiser, lr=0.05, weight_decay=0.01, momentum=0.9),
        "schedule": ScheduleSettings(name="cosine", warmup_share=0.2),
        "evaluations": 5,
    }
    build = toys.method(name, **settings)
    path = tmp_path / "checkpoint.pt"

    def copy_checkpoint(row: dict[str, float]) -> None:
        shutil.copy(path, tmp_path / f"after-{int(row['evaluation'])}.pt")

    model, outcome, _ = fit(toys, build, path=path, reporter=toys.Rows(after=copy_checkpoint), **options)
    end = torch.load(path, weights_only=True)
    assert end["step"] == STEPS

    for number in range(1, 6):
        copy = tmp_path / f"after-{number}.pt"
        assert torch.load(copy, weights_only=True)["step"] == [2, 5, 7, 10, 12][number - 1]
        # Other initial weights and another global seed: all that counts comes from the checkpoint.
        start = toys.model(seed=99)
        torch.manual_seed(1234)
        resumed, rest, reporter = fit(toys, build, path=copy, model=start, **options)
        assert same_bits(resumed, model)
        assert without_time(rest.history) == without_time(outcome.history)
        assert [row["evaluation"] for row in reporter.rows] == list(range(number + 1, 6))
        assert not resumed.training
        last = torch.load(copy, weights_only=True)
        for part in ("step", "model", "method", "optimisers", "rng", "config_hash"):
            assert_same(last[part], end[part])


UPDATES: dict[str, dict[str, object]] = {
    "lagrangian": {"update": "lagrangian"},
    "projected": {"update": "projected"},
    "own adam": {"update": "sequential", "corrective_optimiser": "adam", "adaptivity": "proportional"},
    "task": {"update": "sequential", "corrective_optimiser": "task", "warmup_share": 0.5},
    "now and then": {"every": 2},
    "mixed": {"augment": {"mix": 0.4}},
    "adversarial": {"adversarial": {"steps": 2, "random_start": True}},
}
OF_ALL = [
    *((name, {"held_out_share": 0.5} if name == "dfr" else {}) for name in sorted(REGISTRY)),
    *(("ipg", {"pairs_per_step": 8, **settings}) for settings in UPDATES.values()),
]


@pytest.mark.parametrize(("name", "settings"), OF_ALL, ids=[*sorted(REGISTRY), *UPDATES])
def test_every_method_resumes_from_any_checkpoint(
    toys: type[Toys], tmp_path: Path, name: str, settings: dict[str, float | str | dict[str, float]]
) -> None:
    path, build = tmp_path / "checkpoint.pt", toys.method(name, **settings)
    options: Keywords = {
        "dataset": toys.dataset(train=100),
        "optimiser": OptimiserSettings(name="adam", lr=0.02),
        "batch_size": 20,
        "epochs": 2,
    }

    def copy_checkpoint(row: dict[str, float]) -> None:
        shutil.copy(path, tmp_path / f"after-{int(row['evaluation'])}.pt")

    model, outcome, _ = fit(toys, build, path=path, reporter=toys.Rows(after=copy_checkpoint), **options)
    end = torch.load(path, weights_only=True)
    assert [row["step"] for row in outcome.history] == [2, 5, 8, 10]
    for number in range(1, 5):
        copy = tmp_path / f"after-{number}.pt"
        torch.manual_seed(1234)
        resumed, rest, _ = fit(toys, build, path=copy, model=toys.model(seed=99), **options)
        assert same_bits(resumed, model)
        assert without_time(rest.history) == without_time(outcome.history)
        last = torch.load(copy, weights_only=True)
        for part in ("step", "model", "method", "optimisers", "rng"):
            assert_same(last[part], end[part])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("killed_after", [1, 2, 3, 4])
def test_killed_in_the_middle(toys: type[Toys], tmp_path: Path, method: str, killed_after: int) -> None:
    name, settings = METHODS[method]
    build = toys.method(name, **settings)
    expected, outcome, _ = fit(toys, build)

    path = tmp_path / "checkpoint.pt"
    with pytest.raises(toys.Stop):
        fit(toys, build, path=path, reporter=toys.Rows(raise_after=killed_after))
    model, resumed, _ = fit(toys, build, path=path)
    assert same_bits(model, expected)
    assert without_time(resumed.history) == without_time(outcome.history)


def test_killed_again_and_again(toys: type[Toys], tmp_path: Path) -> None:
    build = toys.method("ipg", pairs_per_step=8)
    expected, outcome, _ = fit(toys, build)
    path = tmp_path / "checkpoint.pt"
    for _ in range(4):
        with pytest.raises(toys.Stop):
            fit(toys, build, path=path, reporter=toys.Rows(raise_after=1))
    model, resumed, reporter = fit(toys, build, path=path)
    assert reporter.rows == []  # the fourth attempt died after the last evaluation
    assert same_bits(model, expected)
    assert without_time(resumed.history) == without_time(outcome.history)


def test_a_method_s_own_state_is_restored(toys: type[Toys], tmp_path: Path) -> None:
    """A stand-in whose loss is scaled by a counter ends elsewhere if the counter starts anew."""

    class Counting(Method):
        count = 0

        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            self.count += 1
            loss = cross_entropy(model(batch.x), batch.y) * self.count
            self.context.optimiser.minimise(loss)
            return StepReport({"loss": loss.detach()})

        def state_dict(self) -> dict[str, object]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, object]) -> None:
            self.count = of_kind(state["count"], int)

    class Forgetful(Counting):
        def load_state_dict(self, state: dict[str, object]) -> None:
            pass

    expected, _, _ = fit(toys, Counting)
    ends = {}
    for kind in (Counting, Forgetful):
        path = tmp_path / f"{kind.__name__}.pt"
        with pytest.raises(toys.Stop):
            fit(toys, kind, path=path, reporter=toys.Rows(raise_after=2))
        ends[kind], _, _ = fit(toys, kind, path=path)
    assert same_bits(ends[Counting], expected)
    assert not same_bits(ends[Forgetful], expected)


def test_random_draws_go_on_where_they_were(toys: type[Toys], tmp_path: Path) -> None:
    """Dropout draws from the global generator: its state is part of the checkpoint."""

    def model() -> Classifier:
        built = toys.model()
        of_kind(built.features, torch.nn.Sequential).append(torch.nn.Dropout(0.5))
        return built

    expected, _, _ = fit(toys, model=model())
    other_seed, _, _ = fit(toys, model=model(), seed=1)
    assert not same_bits(expected, other_seed)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(toys.Stop):
        fit(toys, path=path, model=model(), reporter=toys.Rows(raise_after=2))
    resumed, _, _ = fit(toys, path=path, model=model())
    assert same_bits(resumed, expected)


def test_how_often_checkpoints_are_written(toys: type[Toys], tmp_path: Path) -> None:
    seldom, never = tmp_path / "seldom.pt", tmp_path / "never.pt"
    _, outcome, _ = fit(toys, path=seldom)
    assert torch.load(seldom, weights_only=True)["step"] == STEPS
    fit(toys, path=never, checkpoint_seconds=1e6)
    assert not never.exists()
    assert sorted(tmp_path.iterdir()) == [seldom]
    assert outcome.seconds > 0


def test_seconds_count_all_attempts(toys: type[Toys], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(toys.Stop):
        fit(toys, path=path, reporter=toys.Rows(raise_after=2))
    saved = torch.load(path, weights_only=True)
    assert 0 < saved["seconds"] < 60
    torch.save(saved | {"seconds": 1000.0}, path)
    _, outcome, _ = fit(toys, path=path)
    assert 1000 < outcome.seconds < 1060
    assert 1000 < torch.load(path, weights_only=True)["seconds"] <= outcome.seconds


def test_a_damaged_checkpoint_is_a_fresh_start_with_a_note(toys: type[Toys], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    expected, undisturbed, _ = fit(toys)
    path.write_bytes(b"half a checkpoint")
    model, outcome, _ = fit(toys, path=path)
    assert same_bits(model, expected)
    assert undisturbed.notes == ()
    assert outcome.notes == ("the checkpoint was damaged, so training started again from its beginning",)
    assert torch.load(path, weights_only=True)["step"] == outcome.steps


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_of_several_checkpoints_the_last_whole_one_serves(
    toys: type[Toys], tmp_path: Path, damaged: int
) -> None:
    path = tmp_path / "checkpoint.pt"
    expected, undisturbed, _ = fit(toys)
    kept: Keywords = {"checkpoints_kept": 3, "checkpoint_seconds": 0}
    fit(toys, path=path, **kept)
    places = [tmp_path / name for name in ("checkpoint.pt", "checkpoint.1.pt", "checkpoint.2.pt")]
    assert sorted(tmp_path.iterdir()) == sorted(places)
    assert [torch.load(place, weights_only=True)["step"] for place in places] == [12, 9, 6]
    for place in places[:damaged]:
        place.write_bytes(b"half a checkpoint")
    model, outcome, _ = fit(toys, path=path, **kept)
    assert same_bits(model, expected)
    assert [row["step"] for row in outcome.history] == [row["step"] for row in undisturbed.history]
    assert outcome.notes == (
        "the checkpoint was damaged, so training started again from its beginning"
        if damaged == 3
        else f"the last checkpoint was damaged, so training went on from step {12 - 3 * damaged}",
    )


def test_a_kill_between_two_renames_leaves_the_checkpoint_before(toys: type[Toys], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    expected, _, _ = fit(toys)
    kept: Keywords = {"checkpoints_kept": 2, "checkpoint_seconds": 0}
    fit(toys, path=path, **kept)
    path.unlink()
    model, outcome, _ = fit(toys, path=path, **kept)
    assert same_bits(model, expected)
    assert outcome.notes == ()


def test_a_checkpoint_that_the_storage_does_not_take_is_tried_again(
    toys: type[Toys], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    expected, _, _ = fit(toys)
    tried: list[int] = []

    def full_at_first(path: Path, checkpoint: Checkpoint, kept: int) -> None:
        tried.append(checkpoint.step)
        if len(tried) <= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        save_checkpoint(path, checkpoint, kept)

    monkeypatch.setattr(loop_module, "save_checkpoint", full_at_first)
    model, outcome, _ = fit(toys, path=path)
    assert tried == [3, 6, 9, 12]
    assert outcome.notes == ("the checkpoint after step 6 could not be written (No space left on device)",)
    assert torch.load(path, weights_only=True)["step"] == 12
    assert same_bits(model, expected)


def test_a_checkpoint_of_another_run_is_refused(toys: type[Toys], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    fit(toys, path=path)
    torch.save(torch.load(path, weights_only=True) | {"config_hash": "that run"}, path)
    with pytest.raises(StudyStateError, match="another configuration"):
        fit(toys, path=path)


# --- where numbers run away ---


def faulty(step_of_fault: int, value: float = math.nan, spoil_parameters: bool = False) -> type[Method]:
    """A method whose loss, or one of whose parameters, is `value` at one step (1-based)."""

    class Faulty(Method):
        def __init__(self, context: MethodContext) -> None:
            super().__init__(context)
            self.count = 0

        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            self.count += 1
            loss = torch.tensor(1.0)
            if self.count == step_of_fault:
                if spoil_parameters:
                    with torch.no_grad():
                        model.head.bias[0] = value
                else:
                    loss = torch.tensor(value)
            return StepReport({"loss": loss})

        def state_dict(self) -> dict[str, object]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, object]) -> None:
            self.count = of_kind(state["count"], int)

    return Faulty


@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
@pytest.mark.parametrize("step", [1, 6, 7, 12])
def test_the_first_loss_that_is_not_finite_is_named(
    toys: type[Toys], step: int, value: float, shown: str
) -> None:
    reporter = toys.Rows()
    with pytest.raises(NonFiniteError) as caught:
        fit(toys, faulty(step, value), reporter=reporter, evaluations=2)
    assert caught.value.step == step
    assert str(caught.value) == (
        f"the training loss must stay finite, but it is {shown} at step {step}; "
        "lower the learning rate or the correction strength, or set training.clip_norm"
    )
    assert [row["step"] for row in reporter.rows] == ([] if step <= 6 else [6.0])


def test_the_step_is_named_in_a_resumed_run_too(toys: type[Toys], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(toys.Stop):
        fit(toys, faulty(8), path=path, reporter=toys.Rows(raise_after=2))
    with pytest.raises(NonFiniteError) as caught:
        fit(toys, faulty(8), path=path)
    assert caught.value.step == 8


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_parameters_that_are_not_finite_are_named(toys: type[Toys], value: float) -> None:
    with pytest.raises(NonFiniteError) as caught:
        fit(toys, faulty(5, value, spoil_parameters=True))
    assert caught.value.step == 6
    assert str(caught.value).startswith("parameters must stay finite, but some are not after step 6;")


def test_nothing_of_a_run_away_interval_is_kept(toys: type[Toys], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(NonFiniteError):
        fit(toys, faulty(8), path=path)
    saved = torch.load(path, weights_only=True)
    assert saved["step"] == 6
    assert [row["step"] for row in saved["history"]] == [3, 6]


@pytest.mark.parametrize("evaluations", [1, 3, 12])
def test_an_absurd_rate_is_caught_at_its_first_step(toys: type[Toys], evaluations: int) -> None:
    rate, dataset, model = 3e38, toys.dataset(), toys.model()
    order = ShuffledOrder(50, 16, derive_seed(0, "order"))
    first = 0
    for step in range(STEPS):
        batch = dataset.train.batch(order(step))
        loss = cross_entropy(model(batch.x), batch.y)
        if not math.isfinite(loss.item()):
            first = step + 1
            break
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, gradient in zip(model.parameters(), gradients, strict=True):
                p.sub_(rate * gradient)
    assert 1 < first < STEPS

    with pytest.raises(NonFiniteError) as caught:
        fit(toys, optimiser=OptimiserSettings(name="sgd", lr=rate, momentum=0.0), evaluations=evaluations)
    assert caught.value.step == first


# --- precision ---


@pytest.mark.parametrize("method", METHODS)
def test_mixed_precision_on_the_cpu(toys: type[Toys], method: str) -> None:
    name, settings = METHODS[method]
    model, outcome, _ = fit(toys, toys.method(name, **settings), precision="bfloat16", epochs=20)
    full, in_full, _ = fit(toys, toys.method(name, **settings), epochs=20)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(math.isfinite(value) for row in outcome.history for value in row.values())
    assert outcome.history[-1]["train/loss"] < outcome.history[0]["train/loss"]
    assert not same_bits(model, full)  # it was not single precision after all
    assert outcome.history[-1]["train/loss"] == pytest.approx(in_full.history[-1]["train/loss"], rel=0.1)


def test_mixed_precision_is_for_steps_alone(toys: type[Toys]) -> None:
    active = []

    class Watcher(Method):
        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            active.append(torch.is_autocast_enabled("cpu"))
            return super().step(model, batch, pairs)

    dataset = toys.dataset()

    def evaluate(model: Classifier) -> dict[str, float]:
        active.append(torch.is_autocast_enabled("cpu"))
        return {}

    train(
        toys.model(),
        Watcher,
        dataset,
        toys.settings(precision="bfloat16", epochs=1, evaluations=1),
        seed=0,
        evaluate=evaluate,
        reporter=SilentReporter(),
    )
    assert active == [True, True, True, False]


def test_the_second_step_sees_the_first_in_mixed_precision(toys: type[Toys]) -> None:
    """With strength 0 the parameters stay where the task step left them, so rho can be measured again there."""
    from ipgl.evaluation.invariance import invariance_ratio, pair_moments

    dataset = toys.dataset()
    model, outcome, _ = fit(
        toys,
        toys.method("ipg", update="sequential", least_spread=0.0, strength=0.0, pairs_per_step=20),
        precision="bfloat16",
        epochs=1,
        batch_size=50,
        evaluations=1,
        optimiser=OptimiserSettings(name="sgd", lr=1.0),
        dataset=dataset,
    )
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = invariance_ratio(pair_moments(model(dataset.pairs.a), model(dataset.pairs.b))).item()
    assert outcome.history[-1]["train/measure"] == pytest.approx(expected, rel=0.02)
    with torch.inference_mode():
        start = toys.model()
        before = invariance_ratio(pair_moments(start(dataset.pairs.a), start(dataset.pairs.b))).item()
    assert before != pytest.approx(expected, rel=0.2)
