"""Small synthetic Waterbirds, generated on first use: drawn birds on drawn backgrounds.

The way is the real one: folders in the formats of CUB-200-2011 and Places are drawn into the cache, the generator makes
Waterbirds of them, and the loader of `waterbirds` reads it with composite pairs. What is measured on it says that the
way works and that a method can tell shape from background; it says nothing about photographs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from pydantic import Field

from ipgl.config import Settings
from ipgl.core.errors import DataError
from ipgl.core.locks import exclusive
from ipgl.data.generate import WaterbirdsPlan, draw_sources, generate_waterbirds
from ipgl.data.image_dataset import AugmentSettings, cache_folder
from ipgl.data.pair_sources import ImagePairSettings
from ipgl.data.types import Dataset
from ipgl.data.waterbirds import WaterbirdsSettings, build_waterbirds

_VERSION = 1  # raise it when the same settings would draw other pictures
_WATERBIRDS = "waterbirds"


class TinyPairSettings(Settings):
    """Composite pairs: one drawn bird on both kinds of place."""

    train: int | None = Field(None, ge=0, description="Pairs that training may use; null is all others.")
    held_out: int = Field(100, ge=1, description="Pairs that only measure invariance; from other birds.")
    seed: int = Field(0, ge=0, description="Which birds become pairs, on which other background.")


class WaterbirdsTinySettings(Settings):
    """Settings of `waterbirds_tiny`."""

    strength: float = Field(1.0, ge=0, le=1, description="Share of training birds on their own place type.")
    birds: int = Field(500, ge=20, description="Drawn for training and validation, a fifth for the latter.")
    test_birds: int = Field(400, ge=20, description="Drawn for testing.")
    side: int = Field(64, ge=16, description="Longer side of a drawn picture, pixels.")
    input_size: int = Field(32, ge=8, description="Height and width of model inputs, pixels.")
    seed: int = Field(0, ge=0, description="What is drawn, and which bird stands where.")
    augment: AugmentSettings | None = AugmentSettings()
    pairs: TinyPairSettings = TinyPairSettings()
    cache: str | None = Field(
        None,
        description="Folder of what is drawn and decoded; null: $IPGL_DATA/.cache/ipgl, else ~/.cache/ipgl.",
    )


def build_waterbirds_tiny(settings: WaterbirdsTinySettings) -> Dataset:
    """Draw and generate on first use, then load; equal settings give equal pictures.

    Raises:
        DataError: The cache folder cannot be written, or more pairs are asked for than there are training birds.
    """
    root = _generated(settings)
    pairs = ImagePairSettings(
        source="composite",
        birds=str(root / "CUB_200_2011"),
        places=str(root / "places365"),
        **settings.pairs.model_dump(),
    )
    return build_waterbirds(
        WaterbirdsSettings(
            root=str(root / _WATERBIRDS),
            input_size=settings.input_size,
            augment=settings.augment,
            pairs=pairs,
            cache=settings.cache,
        )
    )


def _generated(settings: WaterbirdsTinySettings) -> Path:
    """The folder with sources and data set; trials that want it at once wait for the first to make it."""
    drawn = settings.model_dump(mode="json", include={"strength", "birds", "test_birds", "side", "seed"})
    name = hashlib.sha256(json.dumps([_VERSION, drawn], sort_keys=True).encode()).hexdigest()[:16]
    home = cache_folder(settings.cache) / "waterbirds_tiny"
    folder, partial = home / name, home / f"{name}.partial"
    if folder.is_dir():
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        with exclusive(home / f"{name}.lock"):
            if not folder.is_dir():
                # The lock is held: a partial folder is what a killed process left.
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                cub, places = draw_sources(
                    partial,
                    train=settings.birds,
                    test=settings.test_birds,
                    seed=settings.seed,
                    side=settings.side,
                )
                plan = WaterbirdsPlan(strength=settings.strength, seed=settings.seed)
                generate_waterbirds(plan, cub, places, partial / _WATERBIRDS)
                os.replace(partial, folder)
    except OSError as error:
        raise DataError(
            f"{home}: drawn pictures cannot be kept there ({error.strerror or error}); "
            "set `cache` to a folder that can be written"
        ) from None
    return folder
