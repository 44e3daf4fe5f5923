"""Discrepancies against the matrices that their closed forms avoid."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from ipgl.methods.ipg.discrepancy import DISCREPANCIES, logit, rationale

PAIRS, CLASSES, FEATURES = 7, 4, 11


def naive_rationale(z_a, z_b, head):
    """The definition: the matrices `R[p, k, j] = W[k, j] z[p, j]`, their Frobenius distance, the mean."""
    matrices_a = torch.einsum("kj,pj->pkj", head.weight, z_a)
    matrices_b = torch.einsum("kj,pj->pkj", head.weight, z_b)
    return torch.stack([torch.linalg.matrix_norm(m) ** 2 for m in matrices_a - matrices_b]).mean()


def naive_logit(z_a, z_b, head):
    """Logits with bias, centred over classes, their squared distance, the mean."""
    u_a, u_b = z_a @ head.weight.T + head.bias, z_b @ head.weight.T + head.bias
    u_a, u_b = u_a - u_a.mean(dim=1, keepdim=True), u_b - u_b.mean(dim=1, keepdim=True)
    return torch.stack([((a - b) ** 2).sum() for a, b in zip(u_a, u_b, strict=True)]).mean()


NAIVE = {"rationale": naive_rationale, "logit": naive_logit}


def random_inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(PAIRS, FEATURES), (PAIRS, FEATURES), (CLASSES, FEATURES), (CLASSES,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def head_of(weight, bias=None):
    return SimpleNamespace(weight=weight, bias=bias)


def test_every_discrepancy_has_a_reference():
    assert NAIVE.keys() == DISCREPANCIES.keys()


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_value_and_gradients_equal_the_naive_form(name):
    z_a, z_b, weight, bias = random_inputs()
    found = DISCREPANCIES[name](z_a, z_b, head_of(weight, bias))
    expected = NAIVE[name](z_a, z_b, head_of(weight, bias))
    assert found.shape == ()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)

    inputs = (z_a, z_b, weight)
    for mine, theirs in zip(
        torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
        assert theirs.abs().max() > 0.1  # the comparison is of something


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_gradcheck(name):
    z_a, z_b, weight, _ = random_inputs(1)
    assert torch.autograd.gradcheck(
        lambda a, b, w: DISCREPANCIES[name](a, b, head_of(w)), (z_a, z_b, weight), atol=1e-8, rtol=1e-6
    )


def test_rationale_by_hand():
    # R_a = [[1, 0], [3, 0]], R_b = [[0, 4], [0, 8]], so R_a - R_b = [[1, -4], [3, -8]] and D = 1 + 16 + 9 + 64.
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    z_a = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    z_b = torch.tensor([[0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    found = rationale(z_a, z_b, head_of(weight))
    assert found.item() == 90.0

    # dD/dz_a[j] = 2 (sum_k W[k, j]^2) (z_a - z_b)[j] with column sums (10, 20) and difference (1, -2);
    # dD/dW[k, j] = 2 W[k, j] (z_a - z_b)[j]^2.
    gradients = torch.autograd.grad(found, (z_a, z_b, weight))
    assert gradients[0].tolist() == [[20.0, -80.0]]
    assert gradients[1].tolist() == [[-20.0, 80.0]]
    assert gradients[2].tolist() == [[2.0, 16.0], [6.0, 32.0]]


def test_logit_by_hand():
    # The head minus its mean over classes is [[-1, -1], [1, 1]]; applied to (1, -2) it gives (1, -1).
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    z_a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    z_b = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    assert logit(z_a, z_b, head_of(weight)).item() == 2.0


def test_it_is_a_mean_over_pairs():
    weight = torch.eye(2, dtype=torch.float64)
    z_a = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    z_b = torch.zeros(2, 2, dtype=torch.float64)
    assert rationale(z_a, z_b, head_of(weight)).item() == 5.0  # (1 + 9) / 2
    assert (
        logit(z_a, z_b, head_of(weight)).item() == 2.5
    )  # (1/2 + 9/2) / 2: half of each is common to both logits


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_doubling_the_outputs_quadruples_it(name):
    z_a, z_b, weight, _ = random_inputs(2)
    once = DISCREPANCIES[name](z_a, z_b, head_of(weight)).item()
    assert DISCREPANCIES[name](2 * z_a, 2 * z_b, head_of(weight)).item() == pytest.approx(4 * once, rel=1e-12)
    assert DISCREPANCIES[name](z_a, z_b, head_of(2 * weight)).item() == pytest.approx(4 * once, rel=1e-12)


def test_what_moves_all_logits_alike_counts_for_rationale_alone():
    # Both rows of the head are equal: the input moves both logits by the same amount, and no decision changes.
    weight = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    z_a = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    z_b = torch.tensor([[0.0, 0.0]], dtype=torch.float64)
    assert logit(z_a, z_b, head_of(weight)).item() == 0.0
    assert rationale(z_a, z_b, head_of(weight)).item() == 8.0


@pytest.mark.parametrize("name", sorted(DISCREPANCIES))
def test_equal_members_have_none(name):
    z, _, weight, _ = random_inputs(3)
    assert DISCREPANCIES[name](z, z.clone(), head_of(weight)).item() == 0.0
