"""Generator of Waterbirds at any correlation strength, from CUB-200-2011 and Places (Sagawa et al. 2020).

The folder has the columns and file names of the published data set. Two things differ:
images are JPEG of quality 95 instead of 75, and places are drawn so that the same seed gives the same folder on
every machine (the original takes them in the file system's order).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ipgl.core.atomic_files import write_atomically, write_text
from ipgl.core.errors import DataError
from ipgl.data.fault_list import DataFaults
from ipgl.data.generate.blend import blend_files
from ipgl.data.generate.cub import Cub, read_cub
from ipgl.data.generate.places import place_path
from ipgl.data.generate.plan import (
    Counterfactual,
    Row,
    WaterbirdsPlan,
    metadata_csv,
    pairs_csv,
    plan_hash,
    plan_waterbirds,
)

RECORD = "generation.json"
COUNTERFACTUAL = "counterfactual"
_QUALITY = 95

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Generated:
    """A generated data set.

    Attributes:
        folder: Holds `metadata.csv` and the pictures.
        rows: Lines of `metadata.csv`.
        pairs: Lines of `pairs.csv`.
        skipped: Places and reasons of what was left out, as `generation.json` records them.
    """

    folder: Path
    rows: tuple[Row, ...]
    pairs: tuple[Counterfactual, ...]
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Picture:
    row: Row
    place_filename: str
    target: Path
    pair: bool


def folder_name(strength: float) -> str:
    """The name that the published folders have: `waterbird_complete95_forest2water2`, `waterbird_1.0_forest2water2`."""
    share = "1.0" if strength == 1 else f"complete{100 * strength:g}"
    return f"waterbird_{share}_forest2water2"


def generate_waterbirds(
    plan: WaterbirdsPlan,
    cub: Path,
    places: Path,
    folder: Path,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Generated:
    """Make the pictures, then `metadata.csv` (and `pairs.csv`, if the plan has pairs) as the last file.

    Called again after an interruption it goes on with the pictures that are missing.

    Args:
        plan: Strength, seed, classes of places.
        cub: CUB-200-2011's folder.
        places: Places' folder.
        folder: Folder of the new data set; `folder_name` gives the usual name.
        skip_bad: Leave out birds whose picture cannot be made, and record them in `generation.json`.
        progress: Called with the pictures done and their number.
        workers: Threads; None is one a processor.

    Raises:
        DataError: Sources are missing or damaged, or `folder` holds something else.
    """
    sources = read_cub(cub)
    rows, pairs = plan_waterbirds(plan, sources, places)
    _claim(folder, plan, plan_hash(rows, pairs))
    pictures = [_Picture(row, row.place_filename, folder / row.img_filename, pair=False) for row in rows]
    pictures += [
        _Picture(pair.row, pair.place_filename, folder / COUNTERFACTUAL / pair.row.img_filename, pair=True)
        for pair in pairs
    ]
    faults = _missing(pictures, sources, places)
    if not skip_bad:
        faults.check(_SKIP_HINT)
    jobs = ((picture, sources, places) for picture in pictures)
    bad = _make_all(jobs, faults, workers, lambda done: progress and progress(done, len(pictures)))
    if not skip_bad:
        faults.check(_SKIP_HINT)

    rows = tuple(row for row in rows if (row.img_id, False) not in bad)
    # A pair is left out together with its training image.
    pairs = tuple(p for p in pairs if not {(p.row.img_id, True), (p.row.img_id, False)} & bad)
    if not rows:
        faults.check("Not one picture can be made; restore the files.")
    if faults.found:
        _record(folder, plan, plan_hash(rows, pairs), faults.found)
    if plan.pairs:
        write_text(folder / "pairs.csv", pairs_csv(pairs, COUNTERFACTUAL))
    write_text(folder / "metadata.csv", metadata_csv(rows))
    return Generated(folder, rows, pairs, tuple(faults.found))


_SKIP_HINT = "Restore the files, or leave these birds out with --skip-bad."


def _make_all(
    jobs: Iterator[tuple[_Picture, Cub, Path]],
    faults: DataFaults,
    workers: int | None,
    done: Callable[[int], object],
) -> set[tuple[int, bool]]:
    """Make all images, and add the faults of those that cannot be made to `faults`.

    Returns:
        (image id, whether it belongs to a pair) of those that cannot be made.
    """
    bad: set[tuple[int, bool]] = set()
    for count, (picture, fault) in enumerate(_in_threads(_make, jobs, workers), start=1):
        if fault:
            bad.add((picture.row.img_id, picture.pair))
            # What is missing has been recorded before any picture was made.
            if fault not in faults.found:
                faults.add(*fault)
        done(count)
    return bad


def _claim(folder: Path, plan: WaterbirdsPlan, digest: str) -> None:
    """Create `folder` for this plan, or check that an earlier run with the same plan created it."""
    record = folder / RECORD
    if record.is_file():
        try:
            known = json.loads(record.read_text(encoding="utf-8"))["planned"]
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{record}: is damaged; remove the folder and generate again") from None
        if known != digest:
            raise DataError(
                f"{folder}: holds Waterbirds generated with other settings or sources (see {RECORD}); "
                "choose another --out, or remove the folder"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(
            f"{folder}: is not empty, and nothing in it says that it was generated; choose another --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror}); choose another --out") from None
    _record(folder, plan, digest, [])


def _record(folder: Path, plan: WaterbirdsPlan, digest: str, skipped: Sequence[tuple[str, str]]) -> None:
    record = folder / RECORD
    planned = json.loads(record.read_text(encoding="utf-8"))["planned"] if record.is_file() else digest
    content = {
        "plan": plan.model_dump(mode="json"),
        "planned": planned,
        "made": digest,
        "skipped": [{"where": where, "reason": reason} for where, reason in skipped],
    }
    write_text(record, json.dumps(content, indent=1) + "\n")


def _missing(pictures: Sequence[_Picture], cub: Cub, places: Path) -> DataFaults:
    """Missing bird images and masks, found before any image is made."""
    faults = DataFaults("some pictures cannot be made")
    for picture in pictures:
        name = picture.row.img_filename
        for path in (cub.image(name), cub.mask(name)):
            if not picture.pair and not path.is_file():
                faults.add(_where(picture), f"{path} is missing")
    return faults


def _where(picture: _Picture) -> str:
    return f"image {picture.row.img_id} ({picture.row.img_filename})"


def _make(job: tuple[_Picture, Cub, Path]) -> tuple[_Picture, tuple[str, str] | None]:
    """Make one image unless it exists; return the fault of a bad source, so that all faults are reported together."""
    picture, cub, places = job
    if picture.target.is_file():
        return picture, None  # files are written atomically, so that an existing one is complete
    name = picture.row.img_filename
    try:
        image = blend_files(cub.image(name), cub.mask(name), place_path(places, picture.place_filename))
    except (OSError, ValueError, DataError) as error:
        return picture, (_where(picture), str(error))
    picture.target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(picture.target, lambda file: image.save(file, "JPEG", quality=_QUALITY))
    return picture, None


def _in_threads(
    work: Callable[[tuple[_Picture, Cub, Path]], tuple[_Picture, tuple[str, str] | None]],
    jobs: Iterator[tuple[_Picture, Cub, Path]],
    workers: int | None,
) -> Iterator[tuple[_Picture, tuple[str, str] | None]]:
    """Results in order; a bounded number of jobs is submitted ahead, so that Ctrl-C takes effect at once."""
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        while batch := list(islice(jobs, 64)):
            yield from pool.map(work, batch)
