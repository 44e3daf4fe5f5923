"""Pair source `composite`: a training bird on its own background and on one of the other place type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ipgl.core.errors import DataError
from ipgl.data.batch_order import derive_seed
from ipgl.data.digits import data_root
from ipgl.data.fault_list import DataFaults
from ipgl.data.generate.blend import blend_files
from ipgl.data.generate.cub import cub_folders, mask_path
from ipgl.data.generate.places import place_files, place_path
from ipgl.data.images import FileImage
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources.candidates import Candidates
from ipgl.data.pair_sources.settings import ImagePairSettings
from ipgl.data.split_inputs import LazyBlend, Readable
from ipgl.data.table import TEST, TRAIN


@dataclass(frozen=True)
class CompositeImage:
    """A foreground before a background, blended by a mask when it is read."""

    foreground: Path
    mask: Path
    background: Path
    where: str

    @property
    def key(self) -> str:
        """The keys of the three files."""
        parts = (self.foreground, self.mask, self.background)
        return "composite:" + "|".join(FileImage(path, self.where).key for path in parts)

    def read(self) -> Image.Image:
        """Blend; errors as `blend_files`."""
        return blend_files(self.foreground, self.mask, self.background)


@dataclass(frozen=True)
class Composites:
    """Rows of a table, each picture before its own and before another background.

    Attributes:
        kept: Which of the rows asked for, positions int64.
        own: Before a background of the own kind.
        other: Before one of the other kind.
        names: What each is made of.
        faults: What cannot be made.
    """

    kept: NDArray[np.int64]
    own: list[CompositeImage]
    other: list[CompositeImage]
    names: tuple[str, ...]
    faults: DataFaults


def composite_pairs(settings: ImagePairSettings, request: PairRequest) -> Candidates:
    """One candidate for each training image that has a mask.

    `metadata.csv`'s column `place_filename` names the own background; without it one of the own type is drawn. The
    other background is drawn from those that no validation or test image shows. Attribute 0 is land, 1 water.

    Raises:
        DataError: Folders are missing, images, masks or places are (with their rows), or there are more than two
            attribute values.
    """
    table = request.table
    unseen = [sorted(set(kind) - _held(request)) for kind in _place_kinds(settings, request)]
    if not all(unseen):
        raise DataError(
            f"{data_root() / settings.places}: every picture of one place type stands in validation or test, so that "
            "none is left for pairs; name more classes in pairs.land_places and pairs.water_places"
        )
    rows = table.rows_of(TRAIN)
    made = _compose(settings, request, rows, unseen, "composite")
    if not request.skip_bad:
        made.faults.check("Restore the files, or leave these pairs out with --skip-bad.")
    notes = tuple(f"pair skipped: {where}: {what}" for where, what in made.faults.found)
    numbers = np.arange(len(made.kept))
    return Candidates(
        made.own, made.other, table.label[rows[made.kept]], made.kept, numbers, made.names, notes
    )


def background_blend(
    settings: ImagePairSettings, request: PairRequest
) -> tuple[Callable[[float], Readable] | None, tuple[str, ...]]:
    """The test split with each background faded into one of the other kind: 0 is the own, 1 the other.

    Both ends are decoded when the first strength is asked for; between them pixels are mixed, which is what a mixed
    background behind the same mask gives.

    Returns:
        The corruption, or None with a note that says why there is none.
    """
    rows = request.table.rows_of(TEST)
    made = _compose(settings, request, rows, _place_kinds(settings, request), "background")
    if made.faults.found:
        where, what = made.faults.found[0]
        return None, (
            f"no background corruption: {len(made.faults.found)} parts of test images are missing, "
            f"first {where}: {what}",
        )

    def corrupt(strength: float) -> Readable:
        return LazyBlend(request.store(made.own), request.store(made.other), strength)

    return corrupt, ()


def _place_kinds(settings: ImagePairSettings, request: PairRequest) -> list[list[str]]:
    """Pictures of land and of water."""
    table = request.table
    if len(table.attribute_names) != 2:
        raise DataError(
            f"{table.file}: composite pairs swap land and water, so the attribute must have 2 values, but it has "
            f"{len(table.attribute_names)}; use source: manifest or function"
        )
    places = data_root() / settings.places
    return [place_files(places, names) for names in (settings.land_places, settings.water_places)]


def _compose(
    settings: ImagePairSettings,
    request: PairRequest,
    rows: NDArray[np.int64],
    kinds: list[list[str]],
    purpose: str,
) -> Composites:
    """The pictures of `rows` before backgrounds of both `kinds`; `purpose` seeds the draw."""
    table = request.table
    birds, places = data_root() / settings.birds, data_root() / settings.places
    images, masks = cub_folders(birds)
    shown = table.extra.get("place_filename")
    rng = np.random.default_rng(derive_seed(settings.seed, purpose))
    draws = rng.random((len(rows), 2))
    faults = DataFaults(f"{table.file}: some composite pairs cannot be made")
    kept: list[int] = []
    sides: tuple[list[CompositeImage], list[CompositeImage]] = ([], [])
    names: list[str] = []
    for position, (row, draw) in enumerate(zip(rows.tolist(), draws, strict=True)):
        path, kind = table.paths[row], int(table.attribute[row])
        name = "/".join(path.split("/")[-2:])  # the table may put folders before CUB's own two
        own = str(shown[row]) if shown is not None else _drawn(kinds[kind], draw[0])
        other = _drawn(kinds[1 - kind], draw[1])
        foreground, mask = images / name, mask_path(masks, name)
        missing = [file for file in (foreground, mask) if not file.is_file()]
        for file in missing:
            faults.add(table.where(row), f"{file} is missing")
        try:
            backgrounds = [place_path(places, own), place_path(places, other)]
        except DataError as error:
            faults.add(table.where(row), str(error))
            continue
        if missing:
            continue
        kept.append(position)
        names.append(f"{path} {own} {other}")
        for side, background in zip(sides, backgrounds, strict=True):
            side.append(
                CompositeImage(foreground, mask, background, f"{table.where(row)} on {background.name}")
            )
    return Composites(np.array(kept, dtype=np.int64), *sides, tuple(names), faults)


def _held(request: PairRequest) -> set[str]:
    shown = request.table.extra.get("place_filename")
    return set() if shown is None else {str(name) for name in shown[request.table.split != TRAIN]}


def _drawn(files: list[str], draw: float) -> str:
    return files[int(draw * len(files))]
