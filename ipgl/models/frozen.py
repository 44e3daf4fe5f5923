"""A frozen backbone: its features are computed once and kept, so that a trial trains a head alone, in seconds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ipgl.config import Component
from ipgl.core.atomic_files import write_atomically
from ipgl.core.errors import DataError
from ipgl.core.locks import exclusive
from ipgl.core.registry import lookup
from ipgl.data import Dataset, Inputs, PairSet, Readable, Split, derive_seed, parts
from ipgl.models.classifier import Classifier
from ipgl.models.registry import MODELS

_BATCH = 256


def is_frozen(component: Component) -> bool:
    """Whether a model's settings ask for a frozen backbone."""
    return bool(component.settings.get("frozen"))


def with_frozen_features(dataset: Dataset, component: Component, folder: Path) -> Dataset:
    """The data set with features `[N, d]` of the frozen backbone in place of its inputs.

    All splits and pairs go through the backbone once, in evaluation mode and without augmentation; the features
    are mapped from a file in `folder` afterwards. Random weights, where no others are asked for, are always the same.

    Args:
        dataset: Any data set that the backbone takes.
        component: The model, with its complete settings.
        folder: Where features are kept, shared by all studies; made if missing.

    Raises:
        DataError: The backbone's weights cannot be had, or the folder cannot be written.
    """
    backbone = _backbone(component, dataset)
    key = _key(dataset, component, backbone)
    file = folder / f"features-{key[:32]}.npy"
    inputs = _inputs(dataset)
    shape = (sum(len(x) for x in inputs), backbone.head.in_features)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(file.with_suffix(".lock")):
            if not _complete(file, shape):
                write_atomically(file, lambda out: _write(out, shape, backbone, inputs))
        features = torch.from_numpy(np.load(file, mmap_mode="c"))
    except OSError as error:
        raise DataError(
            f"{folder}: features cannot be kept there ({error.strerror or error}); "
            "free some space, or set the data set's `cache` to a folder that can be written"
        ) from None
    seen = _with_features(dataset, torch.split(features, [len(x) for x in inputs]), component.name, key)
    corruptions = {
        name: partial(_corrupted, backbone, corrupt) for name, corrupt in dataset.corruptions.items()
    }
    return replace(seen, corruptions=corruptions)


def _corrupted(backbone: Classifier, corrupt: Callable[[float], Readable], strength: float) -> Tensor:
    return torch.cat(list(_features(backbone, [corrupt(strength)])))


def _backbone(component: Component, dataset: Dataset) -> Classifier:
    entry = lookup("model", MODELS, component.name)
    settings = entry.settings.model_validate(component.settings).model_copy(update={"frozen": False})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "frozen backbone"))
        model = entry.build(settings, dataset.input_shape, dataset.num_classes)
    return model.eval()


def _key(dataset: Dataset, component: Component, backbone: Classifier) -> str:
    text = json.dumps([dataset.fingerprint, component.name, component.settings], sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode())
    for name, value in backbone.features.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().data)
    return digest.hexdigest()


def _inputs(dataset: Dataset) -> list[Inputs]:
    splits = [part.x for part in (dataset.train, dataset.validation, dataset.test)]
    return splits + [x for pairs in (dataset.pairs, dataset.held_out_pairs) for x in (pairs.a, pairs.b)]


def _complete(file: Path, shape: tuple[int, int]) -> bool:
    try:
        return bool(np.load(file, mmap_mode="r").shape == shape)
    except (OSError, ValueError):
        return False


def _write(out: BinaryIO, shape: tuple[int, int], backbone: Classifier, inputs: list[Inputs]) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for part in _features(backbone, inputs):
        out.write(part.numpy().astype("<f4").tobytes())


@torch.inference_mode()
def _features(backbone: Classifier, inputs: Sequence[Readable]) -> Iterator[Tensor]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = backbone.features.to(device)
    for x in inputs:
        placed = x if isinstance(x, Tensor) else x.to(device)
        for part in parts(placed, _BATCH, device) if len(x) else ():
            yield network(part.to(device)).float().cpu()


def _with_features(dataset: Dataset, features: tuple[Tensor, ...], name: str, key: str) -> Dataset:
    train, validation, test, a, b, held_a, held_b = features

    def split(part: Split, x: Tensor) -> Split:
        return replace(part, x=x)

    def pairs(part: PairSet, first: Tensor, second: Tensor) -> PairSet:
        return replace(part, a=first, b=second)

    augmented = dataset.augment is not None
    note = f"features of a frozen {name}" + (
        ": training sees each image as evaluation does" if augmented else ""
    )
    return replace(
        dataset,
        train=split(dataset.train, train),
        validation=split(dataset.validation, validation),
        test=split(dataset.test, test),
        pairs=pairs(dataset.pairs, a, b),
        held_out_pairs=pairs(dataset.held_out_pairs, held_a, held_b),
        fingerprint=hashlib.sha256(f"{dataset.fingerprint} {key}".encode()).hexdigest(),
        # What a feature can be has no bounds of its own; moves stay within what training shows.
        input_range=(train.amin(dim=0), train.amax(dim=0)),
        augment=None,
        notes=(*dataset.notes, note),
    )
