"""Steps straight into the kernel against `torch.optim`'s own, to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from torch import nn

from ipgl.training.fused_step import FusedStep

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMISERS: dict[str, Make] = {
    "adam": lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.01, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, 0.1, amsgrad=True, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.01, fused=True),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, fused=True),
    "not fused": lambda p: torch.optim.Adam(p, 0.1),
    "another": lambda p: torch.optim.RMSprop(p, 0.1),
}


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 5), (5,), (2, 2))]


def set_gradients(own: list[nn.Parameter], number: int, without: tuple[int, ...] = ()) -> None:
    generator = torch.Generator().manual_seed(number)
    for place, parameter in enumerate(own):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if place in without else gradient


class Pair:
    """The same parameters twice, under the same optimiser, of which one steps through `FusedStep`."""

    def __init__(self, make: Make) -> None:
        self.theirs, self.ours = parameters(), parameters()
        self.plain, self.optimiser = make(self.theirs), make(self.ours)
        self.step = FusedStep(self.optimiser)

    def both(self, number: int, without: tuple[int, ...] = ()) -> None:
        for own in (self.theirs, self.ours):
            set_gradients(own, number, without)
        self.plain.step()
        self.step()
        for mine, other in zip(self.ours, self.theirs, strict=True):
            assert torch.equal(mine, other)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_steps(name: str) -> None:
    pair = Pair(OPTIMISERS[name])
    for number in range(6):
        pair.both(number)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "momentum"])
def test_the_optimiser_s_own_way_is_gone_once(name: str) -> None:
    pair = Pair(OPTIMISERS[name])
    with mock.patch.object(
        type(pair.optimiser), "step", autospec=True, side_effect=type(pair.optimiser).step
    ) as own:
        for number in range(4):
            pair.both(number)
    assert [call.args[0] is pair.optimiser for call in own.call_args_list].count(True) == 1


@pytest.mark.parametrize("name", OPTIMISERS)
def test_parameters_without_a_gradient_stay_and_are_not_counted(name: str) -> None:
    """As the head's bias does in a corrective step that shares the task's optimiser."""
    pair = Pair(OPTIMISERS[name])
    for number in range(12):
        pair.both(number, without=(1,) if number % 3 == 1 else (0, 2) if number == 6 else ())
    before = [p.detach().clone() for p in pair.ours]
    pair.both(99, without=(0, 1, 2))
    assert all(torch.equal(p, q) for p, q in zip(pair.ours, before, strict=True))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_rate_is_read_at_every_step(name: str) -> None:
    pair = Pair(OPTIMISERS[name])
    for number, rate in enumerate((0.1, 0.1, 0.5, torch.tensor(0.05), 0.2)):
        if isinstance(rate, torch.Tensor) and name in ("not fused", "another"):
            continue  # torch takes tensors in the fused form alone
        for optimiser in (pair.plain, pair.optimiser):
            optimiser.param_groups[0]["lr"] = rate
        pair.both(number)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_states_are_the_optimiser_s_own_once_let_go(name: str) -> None:
    pair = Pair(OPTIMISERS[name])
    for number in range(4):
        pair.both(number)
    pair.step.let_go()
    mine, other = pair.optimiser.state_dict(), pair.plain.state_dict()
    assert mine["state"].keys() == other["state"].keys()
    for key, state in other["state"].items():
        for entry, value in state.items():
            assert torch.equal(torch.as_tensor(mine["state"][key][entry]), torch.as_tensor(value)), entry
    counters = [state["step"] for state in mine["state"].values() if "step" in state]
    assert len({id(counter) for counter in counters}) == len(counters)

    restored = copy.deepcopy(mine)
    pair.optimiser.load_state_dict(restored)  # makes the group anew
    for number in range(4, 8):
        pair.both(number)


def test_forgotten_states_begin_anew() -> None:
    pair = Pair(OPTIMISERS["adam"])
    for number in range(3):
        pair.both(number)
    pair.step.let_go()
    for optimiser in (pair.plain, pair.optimiser):
        optimiser.state.clear()
    for number in range(3):
        pair.both(number)
