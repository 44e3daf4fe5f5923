"""Discrepancies against the matrices that their closed forms avoid."""

from __future__ import annotations

import math

import pytest
import torch
from narrowing import known
from torch import nn

from ipgl.methods.ipg.discrepancy import (
    DISCREPANCIES,
    ConstantHead,
    Norm,
    centred_rationale,
    feature,
    hidden_difference,
    logit,
    mean_distance,
    probability,
    rationale,
)

PAIRS, CLASSES, FEATURES = 7, 4, 11


class Head:
    """A linear layer whose weights may be any tensors, so that gradients can be taken with respect to them."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight, self.bias = weight, bias

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(z, self.weight, self.bias)


def naive_rationale(z_a: torch.Tensor, z_b: torch.Tensor, head: Head) -> torch.Tensor:
    """The definition: the matrices `R[p, k, j] = W[k, j] z[p, j]`, their squared Frobenius distance, `[P]`."""
    matrices_a = torch.einsum("kj,pj->pkj", head.weight, z_a)
    matrices_b = torch.einsum("kj,pj->pkj", head.weight, z_b)
    return torch.stack([torch.linalg.matrix_norm(m) ** 2 for m in matrices_a - matrices_b])


def naive_centred_rationale(z_a: torch.Tensor, z_b: torch.Tensor, head: Head) -> torch.Tensor:
    """The rationale matrices less their mean over classes."""
    matrices = torch.einsum("kj,pj->pkj", head.weight, z_a) - torch.einsum("kj,pj->pkj", head.weight, z_b)
    matrices = matrices - matrices.mean(dim=1, keepdim=True)
    return torch.stack([torch.linalg.matrix_norm(m) ** 2 for m in matrices])


def naive_logit(z_a: torch.Tensor, z_b: torch.Tensor, head: Head) -> torch.Tensor:
    """Logits with bias, centred over classes, their squared distance, `[P]`."""
    u_a, u_b = z_a @ head.weight.T + known(head.bias), z_b @ head.weight.T + known(head.bias)
    u_a, u_b = u_a - u_a.mean(dim=1, keepdim=True), u_b - u_b.mean(dim=1, keepdim=True)
    return torch.stack([((a - b) ** 2).sum() for a, b in zip(u_a, u_b, strict=True)])


def naive_probability(z_a: torch.Tensor, z_b: torch.Tensor, head: Head) -> torch.Tensor:
    """Entropy of the mean distribution less the mean entropy."""
    p, q = (torch.softmax(z @ head.weight.T + known(head.bias), dim=1) for z in (z_a, z_b))

    def entropy(distribution: torch.Tensor) -> torch.Tensor:
        return -(distribution * distribution.log()).sum(dim=1)

    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def naive_feature(z_a: torch.Tensor, z_b: torch.Tensor, head: Head) -> torch.Tensor:
    """One less the cosine."""
    cosines = [(a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt() for a, b in zip(z_a, z_b, strict=True)]
    return 1 - torch.stack(cosines)


NAIVE = {
    "rationale": naive_rationale,
    "centred_rationale": naive_centred_rationale,
    "logit": naive_logit,
    "probability": naive_probability,
    "feature": naive_feature,
}
SQUARES = ["rationale", "centred_rationale", "logit"]


def random_inputs(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(PAIRS, FEATURES), (PAIRS, FEATURES), (CLASSES, FEATURES), (CLASSES,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def test_every_discrepancy_has_a_reference() -> None:
    assert NAIVE.keys() == DISCREPANCIES.keys()


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_value_and_gradients_equal_the_naive_form(name: str) -> None:
    z_a, z_b, weight, bias = random_inputs()
    found = DISCREPANCIES[name](z_a, z_b, Head(weight, bias))
    expected = NAIVE[name](z_a, z_b, Head(weight, bias))
    assert found.shape == (PAIRS,)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)

    inputs = (z_a, z_b, weight, bias)
    weights = torch.arange(
        1.0, PAIRS + 1, dtype=torch.float64
    )  # each pair's gradient counts, and counts apart
    found, expected = found @ weights, expected @ weights
    mine = torch.autograd.grad(found, inputs, allow_unused=True, materialize_grads=True)
    theirs = torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True)
    for number, (found, expected) in enumerate(zip(mine, theirs, strict=True)):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        if number < 2 or (number == 2 and name != "feature"):
            assert expected.abs().max() > 1e-2  # the comparison is of something


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_gradcheck(name: str) -> None:
    inputs = random_inputs(1)
    assert torch.autograd.gradcheck(
        lambda a, b, w, c: DISCREPANCIES[name](a, b, Head(w, c)), inputs, atol=1e-8, rtol=1e-6
    )


def hand_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    z_a = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    z_b = torch.tensor([[0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    return z_a, z_b, weight


def test_rationale_by_hand() -> None:
    # R_a = [[1, 0], [3, 0]], R_b = [[0, 4], [0, 8]], so R_a - R_b = [[1, -4], [3, -8]] and D = 1 + 16 + 9 + 64.
    z_a, z_b, weight = hand_inputs()
    found = rationale(z_a, z_b, Head(weight))
    assert found.item() == 90.0

    # dD/dz_a[j] = 2 (sum_k W[k, j]^2) (z_a - z_b)[j] with column sums (10, 20) and difference (1, -2);
    # dD/dW[k, j] = 2 W[k, j] (z_a - z_b)[j]^2.
    gradients = torch.autograd.grad(found, (z_a, z_b, weight))
    assert gradients[0].tolist() == [[20.0, -80.0]]
    assert gradients[1].tolist() == [[-20.0, 80.0]]
    assert gradients[2].tolist() == [[2.0, 16.0], [6.0, 32.0]]


def test_centred_rationale_by_hand() -> None:
    # The head less its mean over classes is [[-1, -1], [1, 1]]: R_a - R_b = [[-1, 2], [1, -2]].
    assert centred_rationale(*hand_inputs()[:2], Head(hand_inputs()[2])).item() == 10.0


def test_logit_by_hand() -> None:
    # The same head applied to the difference (1, -2) gives (1, -1).
    assert logit(*hand_inputs()[:2], Head(hand_inputs()[2])).item() == 2.0


def test_feature_by_hand() -> None:
    # The features are orthogonal; against (1, 1) the cosine is 1 / sqrt(2), against the opposite it is -1.
    z_a, z_b, weight = hand_inputs()
    assert feature(z_a, z_b, Head(weight)).item() == 1.0
    ones = torch.ones(1, 2, dtype=torch.float64)
    assert feature(z_a, ones, Head(weight)).item() == pytest.approx(1 - math.sqrt(0.5), rel=1e-12)
    assert feature(z_a, -z_a, Head(weight)).item() == pytest.approx(2.0, rel=1e-12)


def test_probability_by_hand() -> None:
    # Logits (log 3, 0) and (0, log 3): the members say 3/4 and 1/4; their mean is even, with entropy log 2.
    weight = torch.eye(2, dtype=torch.float64)
    z = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    found = probability(z, z.flip(1), Head(weight)).item()
    assert found == pytest.approx(math.log(2) - entropy, rel=1e-12)


def test_probability_stays_finite_where_classes_are_certain() -> None:
    weight = torch.eye(2)
    z = torch.tensor([[200.0, -200.0]], requires_grad=True)
    found = probability(z, -z, Head(weight))
    assert found.item() == pytest.approx(math.log(2), rel=1e-6)
    (gradient,) = torch.autograd.grad(found, z)
    assert gradient.isfinite().all()


def test_each_pair_has_its_own() -> None:
    weight = torch.eye(2, dtype=torch.float64)
    z_a = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    z_b = torch.zeros(2, 2, dtype=torch.float64)
    assert rationale(z_a, z_b, Head(weight)).tolist() == [1.0, 9.0]
    assert logit(z_a, z_b, Head(weight)).tolist() == [0.5, 4.5]  # half of each is common to both logits
    assert centred_rationale(z_a, z_b, Head(weight)).tolist() == [0.5, 4.5]


class TestMeanDistance:
    def test_by_hand(self) -> None:
        squares = torch.tensor([9.0, 16.0], dtype=torch.float64, requires_grad=True)
        assert mean_distance(squares, "squared").item() == 12.5
        plain = mean_distance(squares, "plain")
        assert plain.item() == 3.5
        # d/ds sqrt(s) / 2 = 1 / (4 sqrt(s)).
        (gradient,) = torch.autograd.grad(plain, squares)
        assert gradient.tolist() == pytest.approx([1 / 12, 1 / 16], rel=1e-12)

    @pytest.mark.parametrize("name", sorted(DISCREPANCIES))
    def test_plain_equals_the_mean_of_roots(self, name: str) -> None:
        inputs = random_inputs(4)
        z_a, z_b, weight, bias = inputs
        found = mean_distance(DISCREPANCIES[name](z_a, z_b, Head(weight, bias)), "plain")
        expected = NAIVE[name](z_a, z_b, Head(weight, bias)).sqrt().mean()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
        mine, theirs = (
            torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
            for value in (found, expected)
        )
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", sorted(DISCREPANCIES))
    def test_equal_members_have_a_gradient_of_zero(self, name: str, dtype: torch.dtype) -> None:
        """The root's own derivative at 0 would be infinite."""
        z, _, weight, bias = (part.detach().to(dtype).requires_grad_() for part in random_inputs(3))
        value = mean_distance(DISCREPANCIES[name](z, z.detach().clone(), Head(weight, bias)), "plain")
        found = torch.autograd.grad(value, (z, weight, bias), allow_unused=True, materialize_grads=True)
        assert all(gradient.isfinite().all() for gradient in found)
        if name in SQUARES:
            assert all(not gradient.any() for gradient in found)

    @pytest.mark.parametrize("name", SQUARES)
    def test_a_plain_distance_keeps_its_gradient_s_length_and_a_squared_one_does_not(self, name: str) -> None:
        z, apart, weight, bias = random_inputs(3)

        def length(norm: Norm, distance: float) -> float:
            other = (z + distance * apart).detach()
            value = mean_distance(DISCREPANCIES[name](z, other, Head(weight, bias)), norm)
            (gradient,) = torch.autograd.grad(value, z)
            return float(gradient.norm())

        assert length("plain", 1e-6) == pytest.approx(length("plain", 1.0), rel=1e-6)
        assert length("squared", 1e-6) == pytest.approx(1e-6 * length("squared", 1.0), rel=1e-6)


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_a_constant_head_passes_gradients_to_the_features_alone(name: str) -> None:
    z_a, z_b, weight, bias = random_inputs(5)
    through = DISCREPANCIES[name](z_a, z_b, Head(weight, bias)).mean()
    constant = DISCREPANCIES[name](z_a, z_b, ConstantHead(Head(weight, bias))).mean()
    assert constant.item() == pytest.approx(through.item(), rel=1e-12)
    expected = torch.autograd.grad(through, (z_a, z_b))
    found = torch.autograd.grad(constant, (z_a, z_b, weight, bias), allow_unused=True, materialize_grads=True)
    for one, other in zip(found[:2], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)
    assert not found[2].any()
    assert not found[3].any()


@pytest.mark.parametrize("name", SQUARES)
def test_doubling_the_outputs_quadruples_it(name: str) -> None:
    z_a, z_b, weight, _ = random_inputs(2)
    once = DISCREPANCIES[name](z_a, z_b, Head(weight))
    for doubled in (
        DISCREPANCIES[name](2 * z_a, 2 * z_b, Head(weight)),
        DISCREPANCIES[name](z_a, z_b, Head(2 * weight)),
    ):
        torch.testing.assert_close(doubled, 4 * once, rtol=1e-12, atol=0)


def test_feature_does_not_depend_on_scale() -> None:
    z_a, z_b, weight, _ = random_inputs(2)
    once = feature(z_a, z_b, Head(weight))
    torch.testing.assert_close(feature(2 * z_a, 3 * z_b, Head(weight)), once, rtol=1e-12, atol=0)


def test_what_moves_all_logits_alike_counts_for_rationale_alone() -> None:
    # Both rows of the head are equal: the input moves both logits by the same amount, and no decision changes.
    weight = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    z_a = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    z_b = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    for name in ("logit", "centred_rationale", "probability"):
        assert DISCREPANCIES[name](z_a, z_b, Head(weight)).item() == pytest.approx(0.0, abs=1e-15)
    assert rationale(z_a, z_b, Head(weight)).item() == 8.0


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_equal_members_have_none(name: str) -> None:
    z, _, weight, bias = random_inputs(3)
    found = DISCREPANCIES[name](z, z.clone(), Head(weight, bias))
    assert found.tolist() == pytest.approx([0.0] * PAIRS, abs=1e-15)


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_it_is_symmetric(name: str) -> None:
    z_a, z_b, weight, bias = random_inputs(3)
    head = Head(weight, bias)
    there, back = DISCREPANCIES[name](z_a, z_b, head), DISCREPANCIES[name](z_b, z_a, head)
    torch.testing.assert_close(there, back, rtol=1e-12, atol=0)


def test_hidden_difference_by_hand() -> None:
    # Vectors: pairs differ by (1, 2) and (0, 1), so (5 + 1) / 2. Maps of 2 channels and 1 x 2 positions: the
    # squares are [[1, 9], [0, 4]] and zeros; mean over positions (5, 2), sum over channels 7, mean over pairs 3.5.
    vectors_a, vectors_b = torch.tensor([[1.0, 2.0], [3.0, 1.0]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    maps_a = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]], [[[5.0, 5.0]], [[5.0, 5.0]]]])
    maps_b = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]]], [[[5.0, 5.0]], [[5.0, 5.0]]]])
    vectors, maps = (vectors_a, vectors_b), (maps_a, maps_b)
    assert hidden_difference([vectors]).item() == 3.0
    assert hidden_difference([maps]).item() == 3.5
    assert hidden_difference([vectors, maps]).item() == 6.5
