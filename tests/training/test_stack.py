"""Runs trained together against the same runs alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from narrowing import Keywords, as_tensor

from ipgl.config import OptimiserSettings, ScheduleSettings, TrainingSettings
from ipgl.data import Dataset
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.methods import METHODS, method_entry
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.models import MODELS
from ipgl.training import NonFiniteError, SilentReporter
from ipgl.training.checkpoint import random_state, restore_random_state
from ipgl.training.loop import TrainingRun
from ipgl.training.stack import stack_key, train_together

STEPS = 30


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return build_colored_mnist(ColoredMnistSettings(source="digits", pairs={"train": 60, "held_out": 20}))


@pytest.fixture(scope="module")
def exact(dataset: Dataset) -> Dataset:
    """In double precision, where rounding is nothing beside a difference in what is computed."""

    def double(part: Any) -> Any:
        inputs = {f.name: getattr(part, f.name) for f in fields(part)}
        return replace(part, **{name: x.double() for name, x in inputs.items() if x.is_floating_point()})

    parts = ("train", "validation", "test", "pairs", "held_out_pairs")
    return replace(dataset, **{name: double(getattr(dataset, name)) for name in parts})


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)


def begin(
    dataset: Dataset, method: str, number: int, seed: int, model: str = "mlp", **changes: Any
) -> TrainingRun:
    """Run `number` of a group that differs in its numbers, as trials of a search do."""
    entry, network = METHODS[method], MODELS[model]
    own = {"strength": 2.0 * number, "invariance_threshold": 0.05 * number, "pairs_per_step": 16}
    own["task_share"] = 0.5 + 0.2 * number
    settings = (own if method == "ipg" else {}) | changes.pop("settings", {})
    if "hidden_weight" in settings:
        settings["hidden_weight"] *= 1 + number
    optimiser = {"name": "adam", "lr": 1e-3 * (1 + number)} | changes.pop("optimiser", {})
    path = changes.pop("checkpoint_path", None)
    training = {"batch_size": 32, "epochs": 3, "evaluations": 2, "device": "cpu"} | changes
    torch.manual_seed(seed)
    built = network.build(
        network.settings.model_validate({"width": 8}), dataset.input_shape, dataset.num_classes
    )
    built.to(as_tensor(dataset.train.x).dtype)
    run = TrainingRun(
        built,
        lambda context: entry.build(entry.settings(**settings), context),
        dataset,
        TrainingSettings(optimiser=OptimiserSettings(**optimiser), **training),
        seed=seed,
        evaluate=lambda model: {},
        reporter=SilentReporter(),
        checkpoint_path=path,
    )
    return run


def cut(run: TrainingRun, steps: int) -> None:
    run._marks = [run.done + steps]


IPG_CASES: dict[str, Keywords] = {
    "balanced": {},
    "task scaled": {"scaled": "task", "norm": "plain", "through": "both"},
    "by layer": {"balance_over": "layer", "discrepancy": "logit", "adaptivity": "proportional"},
    "never violated": {"invariance_threshold": 1e6},
    "warm-up": {"adaptivity": "proportional", "warmup_share": 0.3},
    "additive": {"update": "additive", "discrepancy": "logit", "adaptivity": "off", "warmup_share": 0.5},
    "hidden": {"update": "additive", "discrepancy": "centred_rationale", "hidden_weight": 0.1},
    "shifted": {"update": "additive", "augment": {"shift_pixels": 1}},
    "turned": {"update": "additive", "augment": {"rotate_degrees": 10.0, "flip": True}},
    "lagrangian": {"update": "lagrangian", "discrepancy": "probability", "measure": "discrepancy"},
    "lagrangian, warm-up": {"update": "lagrangian", "warmup_share": 0.5, "multiplier_rate": 1.0},
    "projected": {"update": "projected", "discrepancy": "feature"},
    "projected, none": {"update": "projected", "strength": 0.0, "adaptivity": "off"},
}
CASES: dict[str, Keywords] = {
    "erm": {"method": "erm"},
    "sgd, momentum": {"method": "erm", "optimiser": {"name": "sgd", "lr": 0.05}},
    "adamw, clipped": {
        "method": "erm",
        "optimiser": {"name": "adamw", "weight_decay": 0.1},
        "clip_norm": 0.5,
    },
    "schedule": {"method": "erm", "schedule": ScheduleSettings(name="cosine", warmup_share=0.2)},
    "bfloat16": {"method": "erm", "precision": "bfloat16"},
}
CASES.update({name: {"method": "ipg", "settings": settings} for name, settings in IPG_CASES.items()})


@pytest.mark.parametrize("seeds", ["one seed", "own seeds"])
@pytest.mark.parametrize("case", CASES)
def test_a_run_ends_as_it_does_alone(dataset: Dataset, exact: Dataset, case: str, seeds: str) -> None:
    """Whatever trains beside it, also when one leaves and another one, which is elsewhere in its run, joins."""
    low = case == "bfloat16"
    data = dataset if low else exact
    close: Keywords = {"rtol": 1e-2, "atol": 3e-3} if low else {"rtol": 1e-9, "atol": 1e-12}

    def group() -> list[TrainingRun]:
        runs = [begin(data, number=n, seed=0 if seeds == "one seed" else n, **CASES[case]) for n in range(4)]
        for run in runs[3:]:  # which has been on its way alone
            cut(run, 7)
            run.train_segment()
        return runs

    alone, expected = group(), []
    for number, run in enumerate(alone):
        restore_random_state(START[number if seeds == "own seeds" else 0])
        cut(run, STEPS if number else STEPS // 2)
        expected.append(run.train_segment())
    found: list[list[dict[str, torch.Tensor]]] = [[], [], [], []]
    runs = group()
    assert len({stack_key(run) for run in runs}) == 1
    assert stack_key(runs[0]) is not None
    states = [START[number if seeds == "own seeds" else 0] for number in range(4)]
    for together in ((0, 1, 2), (1, 2, 3), (3,)):
        for number in together:
            cut(runs[number], STEPS // 2)
        members = [states[number] for number in together]
        reported = train_together([runs[number] for number in together], members)
        for place, number in enumerate(together):
            states[number] = members[place]
            found[number].append(reported[place])
    for number, (run, other) in enumerate(zip(runs, alone, strict=True)):
        assert run.done == other.done
        for p, q in zip(run.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, **close)
        for name, column in expected[number].items():
            parts = torch.cat([part[name] for part in found[number]])
            torch.testing.assert_close(parts, column, **close | {"rtol": 1e-2 if low else 1e-6})


START = []
for _seed in range(4):
    torch.manual_seed(_seed)
    START.append(random_state())


def test_seeing_the_same_and_seeing_one_s_own_are_two_ways_to_the_same_end(
    exact: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for alike in (True, False):
        runs = [begin(exact, number=n, seed=0, **CASES["shifted"]) for n in range(3)]
        if not alike:
            monkeypatch.setattr("ipgl.training.stack._see_the_same", lambda runs, random: False)
        states = [START[0]] * 3
        train_together(runs, states)
        ends.append((runs, states))
    for run, other in zip(*(runs for runs, _ in ends), strict=True):
        for p, q in zip(run.model.parameters(), other.model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)
    assert all(torch.equal(state["cpu"], ends[1][1][0]["cpu"]) for _, states in ends for state in states)
    assert not torch.equal(ends[0][1][0]["cpu"], START[0]["cpu"])  # random numbers were drawn


def test_numbers_that_run_away_in_one_run_leave_the_others_alone(exact: Dataset) -> None:
    def group() -> list[TrainingRun]:
        rates = (1e-3, 1e300, 1e-3)
        return [begin(exact, "erm", n, n, optimiser={"name": "sgd", "lr": lr}) for n, lr in enumerate(rates)]

    together, alone = group(), group()
    reported = train_together(together, START[:3])
    with pytest.raises(NonFiniteError):
        together[1].close_segment(reported[1])
    for number in (0, 2):
        together[number].close_segment(reported[number])
        alone[number].train_segment()
        for p, q in zip(together[number].model.parameters(), alone[number].model.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_out_of_a_stack_goes_on_alone(exact: Dataset, tmp_path: Path) -> None:
    """What a run leaves behind does not tell with whom it trained."""
    changes: Keywords = {
        "optimiser": {"name": "adam"},
        "settings": {"update": "lagrangian"},
        "checkpoint_seconds": 0.0,
    }

    def run(path: Path | None) -> TrainingRun:
        return begin(exact, "ipg", 1, 0, checkpoint_path=path, **changes)

    other = begin(exact, "ipg", 2, 0, **changes)
    together, alone = run(tmp_path / "checkpoint.pt"), run(None)
    states = [START[0]] * 2
    reported = train_together([together, other], states)
    restore_random_state(states[0])
    together.close_segment(reported[0])
    resumed = run(tmp_path / "checkpoint.pt")
    assert resumed.done == together.done > 0
    resumed.train_segment()
    restore_random_state(START[0])
    for _ in range(2):
        alone.close_segment(alone.train_segment())
    for p, q in zip(resumed.model.parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"method": "erm"}, {"method": "ipg"}),
        ({"method": "erm"}, {"method": "erm", "batch_size": 16}),
        ({"method": "erm"}, {"method": "erm", "optimiser": {"name": "sgd"}}),
        ({"method": "erm"}, {"method": "erm", "precision": "bfloat16"}),
        ({"method": "ipg"}, {"method": "ipg", "settings": {"update": "additive"}}),
        ({"method": "ipg"}, {"method": "ipg", "settings": {"discrepancy": "logit"}}),
        ({"method": "ipg"}, {"method": "ipg", "settings": {"hidden_weight": 1.0}}),
        ({"method": "ipg"}, {"method": "ipg", "settings": {"through": "both"}}),
        ({"method": "ipg"}, {"method": "ipg", "settings": {"scaled": "task"}}),
        ({"method": "ipg"}, {"method": "ipg", "settings": {"pairs_per_step": 8}}),
        ({"method": "ipg"}, {"method": "ipg", "settings": {"augment": {"shift_pixels": 1}}}),
    ],
)
def test_runs_of_different_kinds_are_kept_apart(
    dataset: Dataset,
    first: dict[str, str],
    second: dict[str, str | int | dict[str, str | float | dict[str, int]]],
) -> None:
    keys = [stack_key(begin(dataset, number=1, seed=0, **kind)) for kind in (first, second)]
    assert None not in keys
    assert keys[0] != keys[1]


def test_numbers_do_not_keep_runs_apart(dataset: Dataset) -> None:
    settings = {"strength": 9.0, "task_share": 0.1, "hidden_weight": 2.0, "warmup_share": 0.5}
    more: Keywords = {
        "optimiser": {"name": "adam", "lr": 0.1, "weight_decay": 0.1},
        "clip_norm": 1.0,
        "epochs": 9,
    }
    plain = begin(dataset, "ipg", 1, 0, settings={"hidden_weight": 1.0})
    assert stack_key(begin(dataset, "ipg", 3, 5, settings=settings, **more)) == stack_key(plain)


def test_a_method_that_changes_what_another_does_trains_alone(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mine(Erm):
        def step(self, model: Any, batch: Any, pairs: Any) -> Any:
            return super().step(model, batch, pairs)

    monkeypatch.setitem(METHODS, "erm", method_entry(Mine, ErmSettings, "me"))
    assert stack_key(begin(dataset, "erm", 1, 0)) is None


@pytest.mark.parametrize(
    "kind",
    [
        {"method": "jtt"},
        {"method": "ipg", "settings": {"update": "sequential"}},
        {"method": "ipg", "settings": {"every": 2}},
        {"method": "ipg", "settings": {"adversarial": {"steps": 1}}},
        {"method": "ipg", "settings": {"augment": {"mix": 0.2}}},
        {"method": "erm", "model": "cnn"},
    ],
)
def test_what_trains_alone(dataset: Dataset, kind: Keywords) -> None:
    assert stack_key(begin(dataset, number=1, seed=0, **kind)) is None
