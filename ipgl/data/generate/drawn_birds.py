"""Synthetic birds with masks: two species groups that differ in shape alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]
_OVERSAMPLING = 3  # polygons have no soft edges of their own


@dataclass(frozen=True)
class _Part:
    """A polygon `[n, 2]` (x to the right, y down, the bird about one unit long) and which colour it takes."""

    outline: Points
    colour: int


def draw_bird(
    swimmer: bool, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """A bird before a blurred ground, and its mask.

    Args:
        swimmer: Long low body, curved neck, flat bill, webbed feet; else upright, round head, long tail, thin legs.
        size: Width and height in pixels.
        rng: Pose, size, colours, and what hides part of the bird.

    Returns:
        RGB image, and a grey mask that is 255 where only the bird is seen.
    """
    width, height = (_OVERSAMPLING * length for length in size)
    parts = _swimmer(rng) if swimmer else _percher(rng)
    angle, mirrored = rng.uniform(-0.35, 0.35), rng.random() < 0.5
    scale = min(width, height) * rng.uniform(0.5, 0.72)
    centre = np.array([width, height]) * rng.uniform(0.42, 0.58, size=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])

    colours = _plumage(rng)
    ground = tuple(int(value) for value in rng.integers(60, 200, 3))
    image, mask = Image.new("RGB", (width, height), ground), Image.new("L", (width, height))
    painter, stencil = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for part in parts:
        corners = [(float(x), float(y)) for x, y in part.outline @ turn.T * scale + centre]
        painter.polygon(corners, fill=colours[part.colour])
        stencil.polygon(corners, fill=255)
    _hide_some(stencil, centre, scale, rng)
    image, mask = image.resize(size, Image.Resampling.BOX), mask.resize(size, Image.Resampling.BOX)
    noise = rng.normal(0, 10, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)), mask


def _swimmer(rng: np.random.Generator) -> list[_Part]:
    lift, stretch = rng.uniform(0.26, 0.4), rng.uniform(0.9, 1.1)
    head = np.array([0.36, -0.02 - lift])
    return [
        _Part(_strip([(-0.02, 0.24), (0.0, 0.38)], 0.05), 3),
        _Part(np.array([(-0.04, 0.36), (0.16, 0.42), (-0.06, 0.44)]), 3),
        _Part(np.array([(-0.4, 0.02), (-0.62, -0.1), (-0.44, 0.16)]), 1),
        _Part(_ellipse((0.0, 0.12), 0.46 * stretch, 0.19), 0),
        _Part(_ellipse((-0.08, 0.09), 0.28 * stretch, 0.1, -0.15), 1),
        _Part(_strip([(0.3, 0.08), (0.4, -0.08), (0.34, -0.02 - lift)], 0.13), 0),
        _Part(_ellipse(head, 0.13, 0.105), 2),
        _Part(_box(_beside(head, 0.1, -0.03), _beside(head, 0.33, 0.04)), 3),
        _Part(_ellipse(_beside(head, 0.04, -0.03), 0.02, 0.02), 4),
    ]


def _percher(rng: np.random.Generator) -> list[_Part]:
    lean, tail = rng.uniform(-1.2, -0.85), rng.uniform(0.4, 0.55)
    head = np.array([0.16, -0.36])
    end = np.array([-0.22, 0.2]) + tail * np.array([-0.6, 0.65])
    return [
        _Part(_strip([(0.0, 0.18), (0.05, 0.46), (0.16, 0.47)], 0.03), 3),
        _Part(_strip([(0.1, 0.14), (0.15, 0.44), (0.26, 0.45)], 0.03), 3),
        _Part(_strip([(-0.12, 0.1), (end[0], end[1])], 0.1), 1),
        _Part(_ellipse((0.0, -0.04), 0.33, 0.19, lean), 0),
        _Part(_ellipse((-0.06, 0.0), 0.24, 0.1, lean), 1),
        _Part(_ellipse(head, 0.15, 0.145), 2),
        _Part(
            np.array([_beside(head, 0.12, -0.05), _beside(head, 0.27, 0.01), _beside(head, 0.12, 0.05)]), 3
        ),
        _Part(_ellipse(_beside(head, 0.06, -0.03), 0.02, 0.02), 4),
    ]


def _plumage(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Body, wing, head, legs and bill, eye."""
    base = rng.integers(30, 225, 3)
    body, wing, head = (np.clip(base + rng.integers(-60, 61, 3), 0, 255) for _ in range(3))
    legs = np.clip(rng.integers(40, 230, 3), 0, 255)
    return [(int(r), int(g), int(b)) for r, g, b in (body, wing, head, legs, (15, 15, 15))]


def _hide_some(stencil: ImageDraw.ImageDraw, centre: Points, scale: float, rng: np.random.Generator) -> None:
    """Take a strip out of the mask, as reeds and branches do; what is behind a mask's hole is the place."""
    if rng.random() < 0.5:
        angle = rng.uniform(0, np.pi)
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        start = centre + across * scale * rng.uniform(-0.3, 0.3)
        ends = [(start + sign * along * scale) for sign in (-1, 1)]
        stencil.line(
            [(float(x), float(y)) for x, y in ends],
            fill=0,
            width=max(1, int(scale * rng.uniform(0.03, 0.09))),
        )


def _ellipse(centre: tuple[float, float] | Points, a: float, b: float, angle: float = 0.0) -> Points:
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    x, y = a * np.cos(t), b * np.sin(t)
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=1)
    return np.asarray(turned + np.asarray(centre))


def _beside(point: Points, right: float, down: float) -> Points:
    return np.asarray(point + np.array([right, down]))


def _box(low: Points, high: Points) -> Points:
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def _strip(line: list[tuple[float, float]], width: float) -> Points:
    """A broad line through points: one side there, the other side back."""
    points = np.asarray(line)
    along = np.gradient(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across *= width / 2 / np.linalg.norm(across, axis=1, keepdims=True)
    return np.concatenate([points + across, (points - across)[::-1]])
