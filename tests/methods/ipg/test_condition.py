"""The invariance condition: its measure, its adaptivities, and the flag for a collapsed predictor."""

from __future__ import annotations

import math

import pytest
import torch

from ipgl.evaluation.invariance import invariance_ratio, joint_moments, joint_ratio, pair_moments
from ipgl.methods.ipg.condition import ADAPTIVITIES, collapsed, overshot


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rho(a: torch.Tensor, b: torch.Tensor) -> float:
    return invariance_ratio(pair_moments(a, b)).item()


def naive_rho(a: torch.Tensor, b: torch.Tensor) -> float:
    """Two passes, as the definition says: half the mean squared distance over the members' variance."""
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    within = sum((x - y).square().sum().item() / 2 for x, y in zip(a, b, strict=True)) / len(a)
    members = torch.cat([a, b])
    mean = members.mean(dim=0)
    variance = sum((u - mean).square().sum().item() for u in members) / (len(members) - 1)
    return float(within / variance)


def test_by_hand() -> None:
    # Centred already. Each pair differs by (2, -2): 8 / 2 = 4, twice. The members' squares are 2 + 18 + 2 + 18
    # around a mean of 0, so their variance is 40 / 3; rho = (8 / 2) / (40 / 3).
    a = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    b = torch.tensor([[3.0, -3.0], [-3.0, 3.0]])
    assert pair_moments(a, b).tolist() == [2.0, 8.0, 40.0, 0.0, 0.0]
    assert rho(a, b) == pytest.approx(0.3, rel=1e-15)


def test_moments_hold_the_class_sums_of_centred_logits() -> None:
    # Centred: a = (-1, 0, 1), b = (-2, 1, 1). Distance^2 = 1 + 1 + 0; squares 2 + 6; sums (-3, 1, 2).
    a, b = torch.tensor([[4.0, 5.0, 6.0]]), torch.tensor([[0.0, 3.0, 3.0]])
    assert pair_moments(a, b).tolist() == [1.0, 1.0, 8.0, -3.0, 1.0, 2.0]


def test_equals_the_definition() -> None:
    a = normal(0, 50, 4)
    b = a + 0.3 * normal(1, 50, 4) + 0.1
    assert rho(a, b) == pytest.approx(naive_rho(a, b), rel=1e-12)
    assert 0.01 < rho(a, b) < 0.5


def test_identical_members_have_none() -> None:
    a = normal(0, 20, 3)
    assert rho(a, a.clone()) == 0.0


def test_strangers_have_about_one() -> None:
    assert rho(normal(0, 20_000, 3), normal(1, 20_000, 3)) == pytest.approx(1.0, abs=0.02)


def test_opposites_reach_the_upper_end() -> None:
    # u_b = -u_a around 0: within = 2 v and variance = 2P / (2P - 1) v, with v the mean of ||u||^2.
    a = torch.tensor([[1.0, -1.0], [2.0, -2.0], [-0.5, 0.5]])
    assert rho(a, -a) == pytest.approx(2 * 5 / 6, rel=1e-12)


@pytest.mark.parametrize("factor", [1e-6, 7.0, 1e6])
def test_scale_does_not_count(factor: float) -> None:
    a, b = normal(0, 30, 3), normal(1, 30, 3)
    assert rho(factor * a, factor * b) == pytest.approx(rho(a, b), rel=1e-10)


def test_what_moves_all_logits_of_an_example_alike_does_not_count() -> None:
    a, b = normal(0, 30, 3), normal(1, 30, 3)
    assert rho(a + 10 * normal(2, 30, 1), b + 10 * normal(3, 30, 1)) == pytest.approx(rho(a, b), rel=1e-10)


def test_a_bias_common_to_all_examples_does_not_count() -> None:
    a, b, bias = normal(0, 30, 3), normal(1, 30, 3), torch.tensor([5.0, -3.0, 1.0])
    assert rho(a + bias, b + bias) == pytest.approx(rho(a, b), rel=1e-10)


def test_moments_of_shards_add_up() -> None:
    a, b = normal(0, 30, 3), normal(1, 30, 3)
    halves = pair_moments(a[:11], b[:11]) + pair_moments(a[11:], b[11:])
    torch.testing.assert_close(halves, pair_moments(a, b), rtol=1e-12, atol=1e-12)
    assert invariance_ratio(halves).item() == pytest.approx(rho(a, b), rel=1e-12)


def test_moments_carry_no_gradient_and_are_double() -> None:
    moments = pair_moments(torch.randn(4, 2, requires_grad=True), torch.randn(4, 2, requires_grad=True))
    assert not moments.requires_grad
    assert moments.dtype == torch.float64


def test_a_constant_predictor_has_none_and_is_flagged() -> None:
    logits = torch.tensor([3.3, -1.7, 0.1]).expand(64, 3)
    assert rho(logits, logits.clone()) == 0.0
    assert collapsed(logits).item() == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_a_nearly_constant_predictor_stays_within_the_range(seed: int) -> None:
    # 4,096 members that agree but for one, by one unit in the last place: the variance is all rounding.
    logits = (10 * normal(seed, 1, 3)).float().expand(2048, 3)
    other = logits.clone()
    other[0, 0] = torch.nextafter(other[0, 0], torch.tensor(100.0))
    found = invariance_ratio(pair_moments(logits, other))
    assert 0.0 < found.item() <= 2.0
    for adapt in ADAPTIVITIES.values():
        assert 0.0 <= adapt(found.float(), 0.01).item() <= 1.0


@pytest.mark.parametrize(
    ("logits", "flag"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], 0.0),
        ([[1.0, 0.0], [2.0, 0.0]], 1.0),  # one class, though the logits vary
        ([[1e-5, 0.0], [0.0, 1e-5]], 1.0),  # two classes, by nothing: variance 2.5e-11 each
        ([[1e-3, 0.0], [0.0, 1e-3]], 0.0),  # two classes by little, but not by nothing: 2.5e-7 each
        ([[100.00001, 100.0], [0.0, 0.00001]], 1.0),  # what varies is common to both logits
        ([[1.0, 0.0]], 1.0),  # one example chooses one class
    ],
)
def test_collapse(logits: list[list[float]], flag: float) -> None:
    found = collapsed(torch.tensor(logits, dtype=torch.float64, requires_grad=True))
    assert found.item() == flag
    assert not found.requires_grad


@pytest.mark.parametrize(
    ("name", "measure", "threshold", "expected"),
    [
        ("off", 0.0, 0.1, 1.0),
        ("off", 0.1, 0.1, 1.0),
        ("off", 0.4, 0.1, 1.0),
        ("gate", 0.0, 0.1, 0.0),
        ("gate", 0.0, 0.0, 0.0),
        ("gate", 0.1, 0.1, 0.0),  # the condition is `<=`
        ("gate", 0.1001, 0.1, 1.0),
        ("gate", 1.5, 0.1, 1.0),
        ("proportional", 0.0, 0.0, 0.0),
        ("proportional", 0.0, 0.1, 0.0),
        ("proportional", 0.05, 0.1, 0.0),
        ("proportional", 0.1, 0.1, 0.0),
        ("proportional", 0.4, 0.1, 0.75),
        ("proportional", 1e-30, 0.0, 1.0),
        ("proportional", 2.0, 0.5, 0.75),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adaptivity(name: str, measure: float, threshold: float, expected: float, dtype: torch.dtype) -> None:
    threshold = float(torch.tensor(threshold, dtype=dtype))  # so that `at the threshold` is exactly that
    found = ADAPTIVITIES[name](torch.tensor(measure, dtype=dtype), threshold)
    assert found.shape == ()
    assert found.dtype == dtype
    assert found.item() == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(found.item())


def test_every_adaptivity_is_tested() -> None:
    assert set(ADAPTIVITIES) == {"off", "gate", "proportional"}


def test_overshot_is_three_standard_errors_below_guessing() -> None:
    # 16 examples, 2 classes: 1/2 - 3 sqrt(1/4 / 16) = 0.125, so one right answer of 16 is too few and two are not.
    logits = torch.tensor([[1.0, 0.0]]).repeat(16, 1)
    labels = torch.ones(16, dtype=torch.int64)
    labels[:1] = 0
    assert overshot(logits, labels).item() == 1.0
    labels[:2] = 0
    assert overshot(logits, labels).item() == 0.0


class TestLeastSpread:
    """What is added to the variance over all members, so that noise of a network that says nothing is not judged."""

    def test_by_hand(self) -> None:
        # Centred logits (1, -1) and (-1, 1) of the members of one pair, (2, -2) twice of the other: half the squared
        # distances are 4 and 0, their mean 2. The members' squares are 2 + 2 + 8 + 8 = 20, less 4 x (1 + 1) of their
        # mean: 12, over 3.
        logits = torch.tensor([[1.0, -1.0], [2.0, -2.0], [-1.0, 1.0], [2.0, -2.0]], dtype=torch.float64)
        plain = 2 / (12 / 3)
        assert joint_ratio(logits).item() == pytest.approx(plain, rel=1e-12)
        # 0.5 is added to the variance over all four, 12 / 4.
        assert joint_ratio(logits, 0.5).item() == pytest.approx(2 * 3 / (12 + 0.5 * 4), rel=1e-12)
        moments = joint_moments(logits)
        assert invariance_ratio(moments, 0.5).item() == pytest.approx(2 * 3 / 14, rel=1e-12)

    @pytest.mark.parametrize("size", [1e-6, 1e-2])
    def test_a_network_that_says_nothing_counts_as_invariant(self, size: float) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = size * torch.randn(64, 3, generator=generator)
        assert joint_ratio(logits).item() > 0.5
        assert joint_ratio(logits, 0.1).item() < 0.003

    def test_one_that_decides_is_judged_as_before(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = 10 * torch.randn(64, 3, generator=generator)
        assert joint_ratio(logits, 0.1).item() == pytest.approx(joint_ratio(logits).item(), rel=1e-2)

    def test_of_a_stack_and_of_workers(self) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(2, 8, 3, generator=generator)
        found = joint_ratio(logits, 0.1)
        assert found.tolist() == pytest.approx([joint_ratio(one, 0.1).item() for one in logits], rel=1e-6)
        assert invariance_ratio(joint_moments(logits), 0.1).tolist() == pytest.approx(
            found.tolist(), rel=1e-6
        )
