"""Plan of a generated Waterbirds data set: the background of each bird, as rows of `metadata.csv`."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ipgl.config import Settings
from ipgl.core.errors import DataError
from ipgl.data.batch_order import derive_seed
from ipgl.data.generate.cub import Cub, Species, is_water_bird
from ipgl.data.generate.places import LAND, WATER, place_files
from ipgl.data.table import TEST, TRAIN, VALIDATION


class WaterbirdsPlan(Settings):
    """Settings of a generated data set; equal settings on equal sources give equal files."""

    strength: float = Field(
        0.95, ge=0, le=1, description="Share of training birds of a class that stand on their own place type."
    )
    validation_share: float = Field(0.2, gt=0, lt=1, description="Of CUB's training images.")
    species: Species = Field("published", description="corrected: three land birds leave the water birds.")
    land_places: tuple[str, ...] = Field(LAND, min_length=1)
    water_places: tuple[str, ...] = Field(WATER, min_length=1)
    pairs: int = Field(
        0, ge=0, description="Training birds that get a second picture on the other place type."
    )
    seed: int = Field(0, ge=0)

    @field_validator("land_places", "water_places")
    @classmethod
    def _inside(cls, places: tuple[str, ...]) -> tuple[str, ...]:
        for name in places:
            if not name or name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"a place is a class such as `forest/broadleaf`, but got {name!r}")
        return places


@dataclass(frozen=True)
class Row:
    """One line of `metadata.csv`; the fields are its columns.

    Attributes:
        y: 1 for a water bird.
        split: 0 training, 1 validation, 2 test.
        place: 1 for water.
        place_filename: `/<letter>/<class>/<file>.jpg` below the places folder.
    """

    img_id: int
    img_filename: str
    y: int
    split: int
    place: int
    place_filename: str


@dataclass(frozen=True)
class Counterfactual:
    """A training row's bird on a place of the other type."""

    row: Row
    place_filename: str


COLUMNS = tuple(field.name for field in fields(Row))


def plan_waterbirds(
    plan: WaterbirdsPlan, cub: Cub, places: Path
) -> tuple[tuple[Row, ...], tuple[Counterfactual, ...]]:
    """Assign splits and places as Sagawa et al. 2020 do; no place picture is used for two rows.

    CUB's test images are the test split, and `validation_share` of the others validates. In training a share of
    `strength` of each class has a background of its own type; in validation and test one half has.

    Raises:
        DataError: There are fewer place pictures than birds for them, or fewer training birds than pairs.
    """
    birds = sorted(cub.birds, key=lambda bird: bird.img_id)
    y = np.array([is_water_bird(bird.img_filename, plan.species) for bird in birds], dtype=np.int64)
    split = np.array([TEST if bird.test else TRAIN for bird in birds], dtype=np.int64)
    training = np.flatnonzero(split == TRAIN)
    held = round(plan.validation_share * len(training))
    split[_rng(plan, "validation").choice(training, held, replace=False)] = VALIDATION

    place = np.zeros(len(birds), dtype=np.int64)
    rng = _rng(plan, "places")
    for part in (TRAIN, VALIDATION, TEST):
        for label in (0, 1):
            members = np.flatnonzero((split == part) & (y == label))
            aligned = plan.strength if part == TRAIN else 0.5
            on_water = round((aligned if label else 1 - aligned) * len(members))
            place[rng.choice(members, on_water, replace=False)] = 1

    files = [_shuffled(places, names, plan) for names in (plan.land_places, plan.water_places)]
    filenames = np.empty(len(birds), dtype=object)
    for kind, (name, available) in enumerate(zip(("land", "water"), files, strict=True)):
        members = np.flatnonzero(place == kind)
        if len(members) > len(available):
            raise DataError(
                f"{places}: {len(members)} birds stand on {name}, but there are only {len(available)} pictures of "
                f"{', '.join((plan.land_places, plan.water_places)[kind])}; add pictures, or name more classes"
            )
        filenames[members] = available[: len(members)]
    rows = tuple(
        Row(bird.img_id, bird.img_filename, int(y[i]), int(split[i]), int(place[i]), str(filenames[i]))
        for i, bird in enumerate(birds)
    )
    return rows, _counterfactuals(plan, rows, files)


def _counterfactuals(
    plan: WaterbirdsPlan, rows: Sequence[Row], files: Sequence[Sequence[str]]
) -> tuple[Counterfactual, ...]:
    training = [row for row in rows if row.split == TRAIN]
    if plan.pairs > len(training):
        raise DataError(
            f"`pairs <= training birds` must hold, but got (pairs={plan.pairs}, training birds={len(training)}); "
            "ask for fewer pairs"
        )
    rng = _rng(plan, "pairs")
    chosen = [training[i] for i in sorted(rng.choice(len(training), plan.pairs, replace=False))]
    # Never a background that validation or test rows show.
    taken = {row.place_filename for row in rows if row.split != TRAIN}
    free = [[name for name in kind if name not in taken] for kind in files]
    made = []
    for kind in (0, 1):
        members = [row for row in chosen if row.place == 1 - kind]
        if members and not free[kind]:
            raise DataError(
                "every place picture stands in validation or test, so that none is left for pairs; add pictures"
            )
        picked = (
            rng.choice(len(free[kind]), len(members), replace=len(members) > len(free[kind]))
            if members
            else ()
        )
        made += [Counterfactual(row, free[kind][i]) for row, i in zip(members, picked, strict=True)]
    return tuple(sorted(made, key=lambda pair: pair.row.img_id))


def metadata_csv(rows: Sequence[Row]) -> str:
    """The text of `metadata.csv`."""
    return _csv(COLUMNS, [[getattr(row, name) for name in COLUMNS] for row in rows])


def pairs_csv(pairs: Sequence[Counterfactual], folder: str) -> str:
    """The text of `pairs.csv`: `image_a` is the training image, `image_b` the same name below `folder`."""
    lines = [[pair.row.img_filename, f"{folder}/{pair.row.img_filename}", pair.row.y] for pair in pairs]
    return _csv(("image_a", "image_b", "label"), lines)


def plan_hash(rows: Sequence[Row], pairs: Sequence[Counterfactual]) -> str:
    """SHA-256 over all rows and pairs of the plan."""
    text = metadata_csv(rows) + "".join(f"{pair.row.img_id},{pair.place_filename}\n" for pair in pairs)
    return hashlib.sha256(text.encode()).hexdigest()


def _csv(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *lines])
    return buffer.getvalue()


def _shuffled(places: Path, names: Sequence[str], plan: WaterbirdsPlan) -> list[str]:
    files = place_files(places, names)
    order: NDArray[np.int64] = _rng(plan, "place order", *names).permutation(len(files))
    return [files[i] for i in order]


def _rng(plan: WaterbirdsPlan, *names: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(plan.seed, "waterbirds", *names))
