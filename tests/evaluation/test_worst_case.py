"""Worst-case accuracies against general-purpose optimisers, by hand, and at their limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize

from ipgl.evaluation import worst_case_kl, worst_case_tv

BALLS = [worst_case_kl, worst_case_tv]
both = pytest.mark.parametrize("worst_case", BALLS)


def cases(count: int, seed: int) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], float]]:
    """Random accuracies, mixes (some with groups of weight 0) and radii; every fourth has tied accuracies."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        groups = int(rng.integers(2, 9))
        accuracies = rng.random(groups)
        if number % 4 == 0:
            accuracies = np.round(accuracies, 1)
        mix = rng.dirichlet(np.ones(groups))
        if number % 3 == 0:
            mix[rng.integers(groups)] = 0.0
            mix /= mix.sum()
        yield accuracies, mix, float(rng.choice([0.01, 0.1, 0.3, 0.7, 1.0]) * rng.uniform(0.5, 1))


def kl_by_slsqp(accuracies: NDArray[np.float64], mix: NDArray[np.float64], radius: float) -> float:
    """The lowest expected accuracy that SLSQP finds from three starting points, over the mix's support."""
    values, p = accuracies[mix > 0], mix[mix > 0]
    rng = np.random.default_rng(0)

    def room(q: NDArray[np.float64]) -> float:
        """What the ball leaves of its radius."""
        return float(radius - (q * np.log(q / p)).sum())

    ball = {"type": "ineq", "fun": room, "jac": lambda q: -np.log(q / p) - 1}
    simplex = {"type": "eq", "fun": lambda q: q.sum() - 1, "jac": lambda q: np.ones(len(q))}
    found = [
        minimize(
            lambda q: q @ values,
            start,
            jac=lambda q: values,
            method="SLSQP",
            bounds=[(1e-12, 1)] * len(p),
            constraints=[ball, simplex],
            options={"maxiter": 300, "ftol": 1e-12},
        )
        for start in (p, 0.9 * p + 0.1 / len(p), 0.8 * p + 0.2 * rng.dirichlet(np.ones(len(p))))
    ]
    feasible = [one.fun for one in found if room(one.x) > -1e-9 and abs(one.x.sum() - 1) < 1e-9]
    return float(min(feasible))


def test_kl_against_slsqp() -> None:
    for accuracies, mix, radius in cases(200, seed=1):
        expected = kl_by_slsqp(accuracies, mix, radius)
        (found,) = worst_case_kl(accuracies, mix, [radius])
        assert found == pytest.approx(expected, abs=2e-6), (accuracies, mix, radius)


def tv_by_linprog(accuracies: NDArray[np.float64], mix: NDArray[np.float64], radius: float) -> float:
    """Minimise `q . accuracies` over `(q, t)` with `|q - mix| <= t`, `sum t <= 2 radius`, `sum q = 1`."""
    groups = len(mix)
    eye, zero, one = np.eye(groups), np.zeros(groups), np.ones(groups)
    found = linprog(
        np.concatenate([accuracies, zero]),
        A_ub=np.block([[eye, -eye], [-eye, -eye], [zero, one]]),
        b_ub=np.concatenate([mix, -mix, [2 * radius]]),
        A_eq=np.concatenate([one, zero])[None],
        b_eq=[1.0],
        bounds=(0, None),
        method="highs",
    )
    assert found.status == 0
    return float(found.fun)


def test_tv_against_linear_programming() -> None:
    for accuracies, mix, radius in cases(200, seed=2):
        (found,) = worst_case_tv(accuracies, mix, [radius])
        assert found == pytest.approx(tv_by_linprog(accuracies, mix, radius), abs=1e-9)


def test_kl_of_two_groups_by_hand() -> None:
    # Half of the mix is always right: the mix in which a tenth is lies log 2 + 0.1 log 0.1 + 0.9 log 0.9 away.
    shares = np.array([0.5, 0.3, 0.1, 0.01])
    radii = math.log(2) + shares * np.log(shares) + (1 - shares) * np.log(1 - shares)
    np.testing.assert_allclose(worst_case_kl([1.0, 0.0], [0.5, 0.5], radii), shares, atol=1e-9)


def test_tv_of_three_groups_by_hand() -> None:
    # 0.5, 0.3 and 0.2 of the mix at accuracies 0.9, 0.6 and 0.2: 0.67 on average. The best group gives first, 0.7
    # a unit, until nothing of it is left at 0.5 (0.32); then the second, 0.4 a unit, until all is in the worst.
    found = worst_case_tv([0.9, 0.6, 0.2], [0.5, 0.3, 0.2], [0, 0.1, 0.5, 0.6, 0.8, 1])
    np.testing.assert_allclose(found, [0.67, 0.60, 0.32, 0.28, 0.2, 0.2], rtol=1e-12)


def test_tv_moves_weight_to_a_group_that_has_none_and_kl_does_not() -> None:
    accuracies, mix = [0.8, 0.6, 0.1], [0.5, 0.5, 0.0]
    np.testing.assert_allclose(worst_case_tv(accuracies, mix, [0.0, 0.2, 1.0]), [0.7, 0.56, 0.1])
    np.testing.assert_allclose(worst_case_kl(accuracies, mix, [0.0, 50.0]), [0.7, 0.6])


accuracies_of = st.integers(1, 6).flatmap(
    lambda groups: st.tuples(
        hnp.arrays(float, groups, elements=st.floats(0, 1, allow_subnormal=False)),
        hnp.arrays(float, groups, elements=st.floats(0, 1e3, allow_subnormal=False)),
    )
)


@both
@given(accuracies_of, st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_limits_and_order(
    worst_case: Callable[..., NDArray[np.float64]],
    drawn: tuple[NDArray[np.float64], NDArray[np.float64]],
    heavy: int,
) -> None:
    """Radius 0 is the average, a large one the worst group that can be reached, and nothing rises in between."""
    accuracies, mix = drawn
    mix = mix.copy()
    mix[heavy % len(mix)] += 1.0  # not all weights are 0
    shares = mix / mix.sum()
    radii = [0.0, 1e-12, 1e-6, 1e-3, 0.01, 0.1, 0.3, 0.6, 1.0, 3.0, 800.0]
    found = worst_case(accuracies, mix, radii)
    reachable = accuracies[mix > 0] if worst_case is worst_case_kl else accuracies
    assert found[0] == pytest.approx(accuracies @ shares, abs=1e-9)
    assert found[-1] == pytest.approx(reachable.min(), abs=1e-9)
    assert (np.diff(found) <= 1e-9).all()
    assert found.max() <= accuracies @ shares + 1e-9
    assert found.min() >= reachable.min() - 1e-9


@both
def test_tied_groups_act_as_one(worst_case: Callable[..., NDArray[np.float64]]) -> None:
    radii = [0.0, 0.05, 0.2, 0.5, 1.0]
    split = worst_case([0.3, 0.9, 0.3, 0.9], [0.1, 0.2, 0.3, 0.4], radii)
    merged = worst_case([0.3, 0.9], [0.4, 0.6], radii)
    np.testing.assert_allclose(split, merged, atol=1e-10)


@both
def test_groups_that_are_all_alike_leave_nothing_to_lose(
    worst_case: Callable[..., NDArray[np.float64]],
) -> None:
    np.testing.assert_allclose(worst_case([0.5] * 3, [1, 2, 3], [0, 0.1, 5]), 0.5, rtol=1e-15)
    np.testing.assert_allclose(worst_case([0.7], [3], [0, 0.1, 5]), 0.7, rtol=1e-15)


@both
def test_the_mix_may_have_any_scale(worst_case: Callable[..., NDArray[np.float64]]) -> None:
    accuracies, radii = [0.9, 0.2, 0.5], [0.1, 0.4]
    np.testing.assert_allclose(
        worst_case(accuracies, [300, 100, 100], radii), worst_case(accuracies, [0.6, 0.2, 0.2], radii)
    )


@both
def test_the_order_of_radii_is_kept(worst_case: Callable[..., NDArray[np.float64]]) -> None:
    accuracies, mix = [0.9, 0.2, 0.5], [0.6, 0.2, 0.2]
    found = worst_case(accuracies, mix, [0.4, 0.0, 0.1])
    np.testing.assert_array_equal(found, worst_case(accuracies, mix, [0.0, 0.1, 0.4])[[2, 0, 1]])


@both
def test_an_empty_group_with_weight_is_unknown_at_every_radius(
    worst_case: Callable[..., NDArray[np.float64]],
) -> None:
    assert np.isnan(worst_case([0.9, math.nan], [0.6, 0.4], [0.0, 0.1, 10.0])).all()


def test_an_empty_group_without_weight() -> None:
    accuracies, mix, radii = [0.9, math.nan, 0.5], [0.5, 0.0, 0.5], [0.0, 0.1, 10.0]
    # KL never reaches it; total variation does at any radius above 0.
    np.testing.assert_array_equal(
        worst_case_kl(accuracies, mix, radii), worst_case_kl([0.9, 0.5], [0.5, 0.5], radii)
    )
    found = worst_case_tv(accuracies, mix, radii)
    assert found[0] == pytest.approx(0.7)
    assert np.isnan(found[1:]).all()


@both
def test_any_leading_axes(worst_case: Callable[..., NDArray[np.float64]]) -> None:
    rng = np.random.default_rng(0)
    accuracies, mix, radii = rng.random((2, 3, 4)), rng.random(4), [0.0, 0.1, 0.2, 0.5, 2.0]
    accuracies[1, 2, 0] = math.nan
    found = worst_case(accuracies, mix, radii)
    assert found.shape == (2, 3, 5)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(found[index], worst_case(accuracies[index], mix, radii), rtol=1e-12)
    assert np.isnan(found).sum() == 5


@both
@pytest.mark.parametrize(
    ("accuracies", "mix", "radii", "message"),
    [
        (
            [0.5, 0.5],
            [1.0],
            [0.1],
            "`mix` needs one weight per group, but got shapes (2,) and (1,)",
        ),
        (
            [[0.5, 0.5]],
            [[0.5, 0.5]],
            [0.1],
            "`mix` needs one weight per group, but got shapes (1, 2) and (1, 2)",
        ),
        (
            [0.5, 0.5],
            [1.5, -0.5],
            [0.1],
            "`mix >= 0` with a positive sum must hold, but got [1.5, -0.5]",
        ),
        ([0.5, 0.5], [0, 0], [0.1], "`mix >= 0` with a positive sum must hold, but got [0.0, 0.0]"),
        (
            [0.5, 0.5],
            [math.nan, 1],
            [0.1],
            "`mix >= 0` with a positive sum must hold, but got [nan, 1.0]",
        ),
        ([0.5, 0.5], [1, 1], [0.1, -0.2], "`radii >= 0` must hold, but got [0.1, -0.2]"),
        ([0.5, 0.5], [1, 1], [math.nan], "`radii >= 0` must hold, but got [nan]"),
    ],
)
def test_refuses(
    worst_case: Callable[..., NDArray[np.float64]],
    accuracies: list[float | list[float]],
    mix: list[float | list[float]],
    radii: list[float],
    message: str,
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        worst_case(accuracies, mix, radii)
    assert str(caught.value) == message
