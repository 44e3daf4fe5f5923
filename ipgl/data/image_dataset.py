"""Build a data set from a checked table of images: decode, drop unreadable images, make pairs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from ipgl.config import Settings
from ipgl.core.errors import DataError
from ipgl.data.augment import RandomResizedCrop
from ipgl.data.digits import data_root
from ipgl.data.duplicate_images import copy_notes, without_training_copies
from ipgl.data.groups import group_counts
from ipgl.data.image_cache import Preparation, build_cache
from ipgl.data.images import Images, scale_and_shift
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources import ImagePairSettings, background_blend, make_pairs
from ipgl.data.table import SPLIT_NAMES, TEST, TRAIN, VALIDATION, ImageTable
from ipgl.data.types import Dataset, Split

_NOTED = 20

Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]


class AugmentSettings(Settings):
    """Random resized crop and mirror image of each training image."""

    scale: tuple[Share, Share] = Field((0.7, 1.0), description="Least and largest share of the image's area.")
    ratio: tuple[Ratio, Ratio] = Field((0.75, 4 / 3), description="Least and largest width over height.")
    flip: bool = Field(True, description="Mirror half of the images.")

    @model_validator(mode="after")
    def _ordered(self) -> AugmentSettings:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"`least <= largest` must hold for {name}, but got ({low}, {high})")
        return self


class ImageDatasetSettings(Settings):
    """Settings that all data sets of image files share."""

    root: str = Field("", description="Folder that holds the data set: absolute, or below $IPGL_DATA.")
    input_size: int = Field(224, ge=8, description="Height and width of model inputs, pixels.")
    augment: AugmentSettings | None = Field(
        AugmentSettings(), description="How training looks at images; null: as evaluation does."
    )
    pairs: ImagePairSettings = ImagePairSettings()
    skip_bad: bool = Field(False, description="Leave out faulty rows, images and pairs instead of stopping.")
    cache: str | None = Field(
        None, description="Folder of decoded images; null: $IPGL_DATA/.cache/ipgl, else ~/.cache/ipgl."
    )


def cache_folder(setting: str | None) -> Path:
    """Folder of cached images and features."""
    if setting:
        return Path(setting).expanduser().absolute()
    beside = data_root().absolute() / ".cache" / "ipgl"
    nearest = next(folder for folder in (beside, *beside.parents) if folder.exists())
    return beside if os.access(nearest, os.W_OK) else Path.home() / ".cache" / "ipgl"


def build_image_dataset(
    settings: ImageDatasetSettings,
    table: ImageTable,
    preparation: Preparation,
    notes: Sequence[str] = (),
    *,
    refuse_copies: bool = False,
) -> Dataset:
    """Decode a table's images into the cache, or find them there, and build the data set.

    Args:
        settings: Augmentation, pairs, cache folder, what to do with bad images.
        table: The checked rows.
        preparation: Size of the cached images and of the model's inputs.
        notes: Sentences that join those on skipped images, copies and empty groups.
        refuse_copies: Whether a training picture that is also in validation or test is an error (with `skip_bad`
            it is left out); otherwise it stays, with a note, since
            published splits are not changed.

    Raises:
        DataError: Images cannot be read, training pictures are copies that are refused, a split has no row, or the
            pairs break a rule.
    """
    store = partial(
        build_cache, preparation=preparation, folder=cache_folder(settings.cache), skip_bad=settings.skip_bad
    )
    images = store([table.source(position) for position in range(len(table))])
    digest = images.digest
    table, images, skipped = _without_unreadable(table, images)
    if refuse_copies:
        table, images, copied = without_training_copies(table, images, skip_bad=settings.skip_bad)
        skipped += copied
    _require_every_split(table)
    request = PairRequest(table, images, store, settings.skip_bad)
    made = make_pairs(settings.pairs, request)
    blend, blend_notes = (
        background_blend(settings.pairs, request) if settings.pairs.source == "composite" else (None, ())
    )
    augment = settings.augment
    return Dataset(
        train=_split(table, images, TRAIN),
        validation=_split(table, images, VALIDATION),
        test=_split(table, images, TEST),
        pairs=made.pairs,
        held_out_pairs=made.held_out,
        class_names=table.class_names,
        attribute_names=table.attribute_names,
        fingerprint=_fingerprint(settings, table, preparation, digest, made.names),
        input_range=_input_range(),
        augment=RandomResizedCrop(augment.scale, augment.ratio, augment.flip) if augment else None,
        notes=(
            *_shortened(notes),
            *_shortened(skipped),
            *copy_notes(table, images),
            *_empty_groups(table),
            *made.notes,
            *blend_notes,
        ),
        corruptions={"background": blend} if blend else {},
    )


def _without_unreadable(table: ImageTable, images: Images) -> tuple[ImageTable, Images, list[str]]:
    """The rows whose images could be decoded, and a sentence for each of the others."""
    skipped = [f"image left out: {image.where}: {image.reason}" for image in images.skipped]
    if skipped:
        table, images = table.take(images.good.numpy()), images.take(images.good)
    return table, images, skipped


def _require_every_split(table: ImageTable) -> None:
    for split in (TRAIN, VALIDATION, TEST):
        if not len(table.rows_of(split)):
            raise DataError(
                f"{table.file}: the {SPLIT_NAMES[split]} split must have an image, but it has none; "
                "check the split column"
            )


def _input_range() -> tuple[Tensor, Tensor]:
    """Model inputs of pixel values 0 and 255, as `Dataset.input_range` holds them."""
    scale, shift = scale_and_shift(torch.device("cpu"))
    return scale * 0 + shift, scale * 255 + shift


def _split(table: ImageTable, images: Images, split: int) -> Split:
    rows = table.rows_of(split)
    columns = (table.label, table.attribute, table.environment)
    return Split(images.take(torch.from_numpy(rows)), *(torch.from_numpy(column[rows]) for column in columns))


def _shortened(notes: Sequence[str]) -> list[str]:
    more = [f"and {len(notes) - _NOTED} more like these"] if len(notes) > _NOTED else []
    return [*notes[:_NOTED], *more]


def _empty_groups(table: ImageTable) -> list[str]:
    rows = table.rows_of(TRAIN)
    label, attribute = (torch.from_numpy(column[rows]) for column in (table.label, table.attribute))
    counts = group_counts(label, attribute, len(table.class_names), len(table.attribute_names))
    return [
        f"no training example of {table.class_names[y]} with {table.attribute_names[a]}: "
        "methods that need every group cannot be trained on this data set"
        for y, a in (counts == 0).nonzero().tolist()
    ]


def _fingerprint(
    settings: ImageDatasetSettings, table: ImageTable, preparation: Preparation, digest: str, pairs: str
) -> str:
    """Hash over content, not location: the same data on another machine have the same fingerprint."""
    where = dict.fromkeys(("root", "cache", "folder", "skip_bad"), True) | {"pairs": {"birds", "places"}}
    kept = settings.model_dump(mode="json", exclude=where)
    names = [table.class_names, table.attribute_names, table.paths]
    text = json.dumps([kept, repr(preparation), names, digest, pairs], sort_keys=True)
    hashed = hashlib.sha256(text.encode())
    columns: list[NDArray[np.int64]] = [table.label, table.attribute, table.split, table.environment]
    for column in columns:
        hashed.update(np.ascontiguousarray(column).data)
    return hashed.hexdigest()
