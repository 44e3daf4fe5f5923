"""Changes of a pair that both members undergo alike, and the paper's adversarial augmentation.

With few pairs a network learns invariance on those pairs alone. A random change of the pair at every step makes
each pair stand for many, and costs no further pair: it uses nothing but the given ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad

from ipgl.data import PairBatch
from ipgl.methods.ipg.settings import AdversarialSettings, AugmentSettings


def augmented(pairs: PairBatch, settings: AugmentSettings) -> PairBatch:
    """The pairs under one random affine change each, and mixed with one another, alike for both members.

    Raises:
        ValueError: A geometric change is asked for, but the inputs are not images `[P, C, H, W]`.
    """
    pairs = moved(pairs, drawn_moves(pairs, settings), settings)
    if settings.mix:
        pairs = _mixed(pairs, settings.mix)
    return pairs


def drawn_moves(pairs: PairBatch, settings: AugmentSettings) -> Tensor | None:
    """A random change for each pair, of which both members undergo the same.

    Returns:
        `[P, 2, 3]` as `torch.nn.functional.affine_grid` takes it; where pairs are shifted only, whole pixels across and
        down, int64 `[P, 2]`; None if all is off.

    Raises:
        ValueError: A change is asked for, but the inputs are not images `[P, C, H, W]`.
    """
    if not settings.moves:
        return None
    if pairs.a.dim() != 4:
        raise ValueError(
            f"pairs can be shifted or turned only as images [P, C, H, W], but got {tuple(pairs.a.shape)}"
        )
    count, _, height, width = pairs.a.shape
    device, limit = pairs.a.device, settings.shift_pixels
    if not (settings.rotate_degrees or settings.scale or settings.flip):
        return torch.randint(-limit, limit + 1, (count, 2), device=device)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, device=device) * 2 - 1) * limit

    angle = uniform(settings.rotate_degrees * torch.pi / 180)
    size = 1 + uniform(settings.scale)
    # Whole pixels: interpolation would blur one shift and not the next. A pixel is 2 / size in grid units.
    across, down = torch.randint(-limit, limit + 1, (2, count), device=device)
    mirror = 1 - 2 * torch.randint(0, 2 if settings.flip else 1, (count,), device=device)
    cos, sin = angle.cos() * size, angle.sin() * size
    rows = (
        torch.stack([mirror * cos, -sin * (height / width), 2 * across / width], dim=1),
        torch.stack([mirror * sin * (width / height), cos, 2 * down / height], dim=1),
    )
    return torch.stack(rows, dim=1).to(pairs.a.dtype)


def moved(pairs: PairBatch, moves: Tensor | None, settings: AugmentSettings) -> PairBatch:
    """The pairs `[P, C, H, W]`, both members changed alike as `drawn_moves` of the same settings says."""
    if moves is None:
        return pairs
    if not moves.is_floating_point():
        return _shifted(pairs, moves, settings.shift_pixels)
    grid = affine_grid(moves, list(pairs.a.shape), align_corners=False)
    a, b = (grid_sample(x, grid, align_corners=False) for x in (pairs.a, pairs.b))
    return replace(pairs, a=a, b=b)


def _shifted(pairs: PairBatch, moves: Tensor, limit: int) -> PairBatch:
    """Pairs moved left and up by whole pixels, zeros coming in: a third of what interpolation takes."""
    count, channels, height, width = pairs.a.shape
    wide = width + 2 * limit
    across, down = (moves + limit).unbind(dim=1)
    corner = (down * wide + across).view(-1, 1, 1)
    inside = torch.arange(height, device=moves.device).unsqueeze(1) * wide + torch.arange(
        width, device=moves.device
    )
    place = (corner + inside).view(count, 1, -1).expand(-1, channels, -1)

    def shifted(x: Tensor) -> Tensor:
        return pad(x, (limit,) * 4).flatten(2).gather(2, place).view_as(x)

    return replace(pairs, a=shifted(pairs.a), b=shifted(pairs.b))


def _mixed(pairs: PairBatch, alpha: float) -> PairBatch:
    share = torch.distributions.Beta(alpha, alpha).sample().to(pairs.a)
    partner = torch.randperm(len(pairs.y), device=pairs.a.device)
    a, b = (share * x + (1 - share) * x[partner] for x in (pairs.a, pairs.b))
    return replace(pairs, a=a, b=b)


def adversarial(
    pairs: PairBatch,
    discrepancy: Callable[[PairBatch], Tensor],
    settings: AdversarialSettings,
    low: float | Tensor,
    high: float | Tensor,
) -> PairBatch:
    """IPG-AA (paper): members moved within an L-inf ball so that their discrepancy rises.

    Args:
        pairs: The pairs to start from.
        discrepancy: D of a pair batch, 0-dim, with gradients to its members.
        settings: Steps, radius and step length; the whole pixel range is 1.
        low: Least valid input value; a tensor broadcasts against an input.
        high: Largest valid input value, likewise.
    """
    radius, step = settings.epsilon * (high - low), settings.step_size * (high - low)
    start = (pairs.a, pairs.b)
    bounds = [(_within(x - radius, low, high), _within(x + radius, low, high)) for x in start]
    if settings.random_start:
        members = [x + (torch.rand_like(x) * 2 - 1) * radius for x in start]
    else:
        # At equal members D and its gradient vanish together; pairs differ, so their own place will do.
        members = [x.clone() for x in start]
    for _ in range(settings.steps):
        members = [x.detach().requires_grad_() for x in members]
        value = discrepancy(replace(pairs, a=members[0], b=members[1]))
        gradients = torch.autograd.grad(value, members)
        members = [
            torch.minimum(torch.maximum(x.detach() + step * gradient.sign(), least), most)
            for x, gradient, (least, most) in zip(members, gradients, bounds, strict=True)
        ]
    a, b = (_within(x.detach(), low, high) for x in members)
    return replace(pairs, a=a, b=b)


def _within(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    return x.clamp(min=low).clamp(max=high)
