"""Feeding 224 x 224 batches: a warm cache against torchvision's ImageFolder and a DataLoader that decode JPEG."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ipgl.data.augment import RandomResizedCrop
from ipgl.data.image_cache import build_cache
from ipgl.data.images import MEAN, STD, FileImage
from ipgl.data.waterbirds import resized_and_cropped

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

IMAGES, BATCH, WORKERS, ROUNDS = 600, 64, 2, 5
TO_TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
THEIRS = {
    "training": v2.Compose(
        [v2.RandomResizedCrop(224, scale=(0.7, 1.0)), v2.RandomHorizontalFlip(), *TO_TENSOR]
    ),
    "evaluation": v2.Compose([v2.Resize((256, 256)), v2.CenterCrop(224), *TO_TENSOR]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs' size and detail: smooth shapes and fine noise, 500 x 375, about 60 kB each."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((500, 375))
        pixels = np.asarray(coarse) + rng.normal(0, 12, (375, 500, 1))
        path = root / f"{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return root


@pytest.mark.parametrize("view", ["training", "evaluation"])
def test_warm_cache_against_image_folder(
    folder: Path, tmp_path: Path, view: str, keep: Callable[[dict[str, float]], None]
) -> None:
    """Seconds per pass on two cores, the two sides in turns; both are given two workers or threads."""
    torch.set_num_threads(WORKERS)
    theirs = DataLoader(
        ImageFolder(folder, THEIRS[view]),
        BATCH,
        shuffle=True,
        num_workers=WORKERS,
        drop_last=True,
        persistent_workers=True,
    )
    files = [FileImage(path, path.name) for path in sorted(folder.rglob("*.jpg"))]
    begin = time.perf_counter()
    images = build_cache(files, resized_and_cropped(224), tmp_path)
    built = time.perf_counter() - begin
    augment, rng = RandomResizedCrop(), np.random.default_rng(0)

    def loader() -> None:
        for x, _ in theirs:
            assert x.shape == (BATCH, 3, 224, 224)

    def cache() -> None:
        order = torch.randperm(IMAGES)[: IMAGES // BATCH * BATCH]
        for index in torch.split(order, BATCH):
            if view == "training":
                x = images.training_view(index, augment.draw(BATCH, *images.stored_size, rng))
            else:
                x = images[index]
            assert x.shape == (BATCH, 3, 224, 224)

    loader()  # starts the workers
    cache()
    seconds: dict[str, list[float]] = {"loader": [], "cache": []}
    for _ in range(ROUNDS):
        for name, action in (("loader", loader), ("cache", cache)):
            begin = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    passed = IMAGES // BATCH * BATCH
    keep(
        {
            "speed-up": median["loader"] / median["cache"],
            "loader ms per image": median["loader"] / passed * 1000,
            "cache ms per image": median["cache"] / passed * 1000,
            "building ms per image": built / IMAGES * 1000,
            "cores": float(len(os.sched_getaffinity(0))),
        }
    )
