"""Synthetic replacements of CUB-200-2011 and Places, drawn by program, in the same on-disk formats.

They serve tests, CI and `waterbirds_tiny`: the path from folders to a trained model is the same as for real data, and
the images are simple enough for a small network. The two types of birds differ in shape alone; pose, size, colours
and what hides part of a bird are drawn from the same distributions for both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ipgl.data.batch_order import derive_seed
from ipgl.data.generate.drawn_birds import draw_bird
from ipgl.data.generate.drawn_places import PAINTERS, draw_place

# Names that the published list of species sorts as it does real ones; `Drawn` says what they are.
_SPECIES = (
    ("Drawn_Mallard", True),
    ("Drawn_Sparrow", False),
    ("Drawn_Merganser", True),
    ("Drawn_Finch", False),
)
_QUALITY = 92


def draw_sources(root: Path, *, train: int, test: int, seed: int = 0, side: int = 96) -> tuple[Path, Path]:
    """Draw `<root>/CUB_200_2011` (with masks) and `<root>/places365`; equal arguments give equal pictures.

    Args:
        root: An existing folder.
        train: Birds that the table calls training; half of them are water birds.
        test: Birds set apart for testing.
        seed: Every picture has a generator of its own, derived from this.
        side: Longer side of a picture at most, in pixels; shapes vary.

    Returns:
        The two folders.
    """
    cub, places = root / "CUB_200_2011", root / "places365"
    _draw_cub(cub, train, test, seed, side)
    # Enough for a background per bird at any strength, and some left for pairs.
    each = max(4, round(0.3 * (train + test)) + 8)
    for name in PAINTERS:
        folder = places / "data_large" / name[0] / name
        folder.mkdir(parents=True)
        for number in range(each):
            rng = np.random.default_rng(derive_seed(seed, "place", name, number))
            draw_place(name, _size(rng, side), rng).save(folder / f"{number + 1:08d}.jpg", quality=_QUALITY)
    return cub, places


def _draw_cub(cub: Path, train: int, test: int, seed: int, side: int) -> None:
    folders = [f"{number:03d}.{name}" for number, (name, _) in enumerate(_SPECIES, start=1)]
    for folder in folders:
        (cub / "images" / folder).mkdir(parents=True)
        (cub / "segmentations" / folder).mkdir(parents=True)
    lines: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": []}
    for number in range(train + test):
        kind = number % len(_SPECIES)
        rng = np.random.default_rng(derive_seed(seed, "bird", number))
        image, mask = draw_bird(_SPECIES[kind][1], _size(rng, side), rng)
        name = f"{folders[kind]}/{_SPECIES[kind][0]}_{number + 1:04d}_{kind + 1}"
        image.save(cub / "images" / f"{name}.jpg", quality=_QUALITY)
        mask.save(cub / "segmentations" / f"{name}.png")
        lines["images"].append(f"{number + 1} {name}.jpg")
        lines["image_class_labels"].append(f"{number + 1} {kind + 1}")
        lines["train_test_split"].append(f"{number + 1} {int(number < train)}")
    lines["classes"] = [f"{number} {folder}" for number, folder in enumerate(folders, start=1)]
    for name, content in lines.items():
        (cub / f"{name}.txt").write_text("\n".join(content) + "\n", encoding="utf-8")
    (cub / "README").write_text(
        "Drawn by IPGL as a stand-in for CUB-200-2011: same format, no photographs.\n", encoding="utf-8"
    )


def _size(rng: np.random.Generator, side: int) -> tuple[int, int]:
    """Width and height: one is `side`, the other between three quarters of it and all of it."""
    other = int(side * rng.uniform(0.75, 1.0))
    return (side, other) if rng.random() < 0.7 else (other, side)
