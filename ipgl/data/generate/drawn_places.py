"""Synthetic backgrounds of the four place classes of Waterbirds: two of land, two of water."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]


def draw_place(name: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """A picture of one class of `PAINTERS`, RGB; `size` is width and height in pixels."""
    image = Image.fromarray(PAINTERS[name](size, rng).clip(0, 255).astype(np.uint8))
    _DETAILS[name](ImageDraw.Draw(image), size, rng)
    return image


def _bamboo(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return _ground(size, (58, 92, 40), (96, 104, 52), rng)


def _broadleaf(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return _ground(size, (62, 104, 44), (104, 78, 46), rng)


def _ocean(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return _ground(size, (130, 176, 214), (28, 72, 136), rng) + _waves(size, rng, 16)


def _lake(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    return _ground(size, (120, 164, 190), (44, 100, 128), rng) + _waves(size, rng, 9)


PAINTERS: dict[str, Callable[[tuple[int, int], np.random.Generator], NDArray[np.float64]]] = {
    "bamboo_forest": _bamboo,
    "forest/broadleaf": _broadleaf,
    "ocean": _ocean,
    "lake/natural": _lake,
}


def _stalks(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    width, height = size
    for _ in range(rng.integers(7, 13)):
        x, lean, breadth = rng.uniform(0, width), rng.uniform(-0.05, 0.05) * height, rng.uniform(0.015, 0.04)
        draw.line(
            [(x, 0), (x + lean, height)], fill=_near((104, 140, 62), rng), width=max(1, int(breadth * width))
        )


def _trees(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    width, height = size
    for _ in range(rng.integers(2, 5)):
        x, breadth = rng.uniform(0, width), rng.uniform(0.04, 0.08) * width
        draw.rectangle([x, 0, x + breadth, height * rng.uniform(0.7, 1)], fill=_near((74, 54, 34), rng))
    for _ in range(rng.integers(25, 45)):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, 0.6) * height, rng.uniform(0.02, 0.07) * width
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_near((70, 116, 48), rng))


def _sky(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    draw.rectangle([0, 0, size[0], rng.uniform(0.05, 0.3) * size[1]], fill=_near((186, 208, 224), rng))


def _far_shore(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    _sky(draw, size, rng)
    level = rng.uniform(0.12, 0.3) * size[1]
    draw.rectangle(
        [0, level, size[0], level + rng.uniform(0.03, 0.08) * size[1]], fill=_near((84, 106, 92), rng)
    )


_DETAILS: dict[str, Callable[[ImageDraw.ImageDraw, tuple[int, int], np.random.Generator], None]] = {
    "bamboo_forest": _stalks,
    "forest/broadleaf": _trees,
    "ocean": _sky,
    "lake/natural": _far_shore,
}


def _near(colour: Colour, rng: np.random.Generator) -> Colour:
    r, g, b = (int(value) for value in np.clip(np.array(colour) + rng.integers(-22, 23, 3), 0, 255))
    return r, g, b


def _ground(
    size: tuple[int, int], top: Colour, bottom: Colour, rng: np.random.Generator
) -> NDArray[np.float64]:
    """From one colour down to another, with patches of light, `[height, width, 3]`."""
    width, height = size
    share = np.linspace(0, 1, height)[:, None, None]
    ground = (1 - share) * np.array(_near(top, rng)) + share * np.array(_near(bottom, rng))
    patches = Image.fromarray(rng.normal(0, 20, (8, 10)).astype(np.float32))
    smooth = np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.asarray(ground + smooth[:, :, None] + rng.normal(0, 8, (height, width, 1)))


def _waves(size: tuple[int, int], rng: np.random.Generator, height: float) -> NDArray[np.float64]:
    """Crests that lie closer together towards the horizon, `[height, width, 1]`."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0.15, 1, size[1]))
    bend = 0.06 * np.sin(2 * np.pi * (rng.uniform(1, 3) * x + rng.random()))
    return np.asarray(height * np.sin(2 * np.pi * (rng.uniform(5, 8) * np.log(y) + bend * 6 + rng.random())))[
        :, :, None
    ]
