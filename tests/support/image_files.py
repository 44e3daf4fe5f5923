"""Small image data sets in the formats that people have on disk."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """Smooth random colours, different for every seed."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height))


def save(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_waterbirds(folder: Path, per_group: int = 2, empty: tuple[int, ...] = ()) -> Path:
    """Splits 0, 1, 2 with `per_group` images of each (y, place); groups in `empty` are absent from training."""
    rows: list[tuple[object, ...]] = []
    for split in range(3):
        for group in range(4):
            for number in range(0 if split == 0 and group in empty else per_group):
                y, place = divmod(group, 2)
                name = f"{group + 1:03d}.Bird/Bird_{split}_{number}.jpg"
                save(folder / name, picture(len(rows)))
                rows.append((len(rows) + 1, name, y, split, place, f"/f/forest/{len(rows)}.jpg"))
    write_csv(
        folder / "metadata.csv", ["img_id", "img_filename", "y", "split", "place", "place_filename"], rows
    )
    return folder


CELEBA = ("Bald", "Blond_Hair", "Male", "Young")
# Image number n has split n % 3; the attributes in the order of CELEBA.
CELEBA_VALUES = (
    (-1, -1, -1, 1),
    (-1, 1, -1, 1),
    (1, -1, 1, -1),
    (-1, 1, 1, 1),
    (-1, -1, 1, -1),
    (1, 1, -1, -1),
)


def write_celeba(folder: Path, form: str) -> Path:
    """Six images of 178 x 218 with four of the forty attributes, as `csv` or `txt`."""
    names = [f"{number:06d}.jpg" for number in range(1, 7)]
    for number, name in enumerate(names):
        save(folder / "img_align_celeba" / name, picture(number, 178, 218))
    splits = [number % 3 for number in range(6)]
    if form == "csv":
        rows = [(name, *values) for name, values in zip(names, CELEBA_VALUES, strict=True)]
        write_csv(folder / "list_attr_celeba.csv", ["image_id", *CELEBA], rows)
        write_csv(
            folder / "list_eval_partition.csv", ["image_id", "partition"], zip(names, splits, strict=True)
        )
    else:
        lines = [f"{name}  " + "  ".join(map(str, v)) for name, v in zip(names, CELEBA_VALUES, strict=True)]
        text = "\n".join(["6", " ".join(CELEBA), *lines, ""])
        (folder / "list_attr_celeba.txt").write_text(text)
        partition = "".join(f"{name} {split}\n" for name, split in zip(names, splits, strict=True))
        (folder / "list_eval_partition.txt").write_text(partition)
    return folder
