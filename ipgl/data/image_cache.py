"""Cache of decoded images: a uint8 file, written once and memory-mapped by all trials on a machine.

A cache is named by a hash of its sources' keys and the image size. A lock lets one process build it while others wait;
the file gets its final name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ipgl.core.atomic_files import write_atomically, write_text
from ipgl.core.errors import DataError
from ipgl.core.locks import exclusive
from ipgl.data.fault_list import DataFaults
from ipgl.data.image_identity import content_of
from ipgl.data.images import Images, ImageSource, SkippedImage
from ipgl.data.pixel_file import CONTENT_BYTES, PixelFile

_VERSION = 1  # raise it when the same sources would give other pixels
_DAMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for bad files
_IN_FLIGHT = 256

Progress = Callable[[int, int], None]

_PROGRESS: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def decoding_progress(progress: Progress) -> Iterator[None]:
    """Call `progress` for every cache that is built within the context, in this thread."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


@dataclass(frozen=True)
class Preparation:
    """Crop and size of the cached images.

    Attributes:
        height: Rows of pixels kept.
        width: Columns of pixels kept.
        centre_crop: Side of the square first cut from the middle, in pixels of the picture; None crops nothing.
        input_height: Rows of pixels of a model input; at most `height`.
        input_width: Columns of pixels of a model input; at most `width`.
    """

    height: int
    width: int
    centre_crop: int | None = None
    input_height: int | None = None
    input_width: int | None = None

    def __call__(self, image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Crop and resize (bilinear with antialiasing, the shape is not kept) to uint8 `[height, width, 3]`."""
        from torchvision.transforms.v2 import functional

        if self.centre_crop:
            image = functional.center_crop(image, [self.centre_crop, self.centre_crop])
        if image.size != (self.width, self.height):
            image = functional.resize(image, [self.height, self.width])
        return np.asarray(image, dtype=np.uint8)


def build_cache(
    sources: Sequence[ImageSource],
    preparation: Preparation,
    folder: Path,
    *,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Images:
    """The sources' pixels, row `i` for source `i`; decoded only if no process has done so before.

    Args:
        sources: What to decode; may be empty.
        preparation: Size of the rows and of the model's inputs.
        folder: Where caches are kept; made if missing, and shared by all studies.
        skip_bad: Note what cannot be read in `Images.skipped`, rather than raise.
        progress: Called with the number of pictures done and of all; None takes the function of the
            `decoding_progress` that surrounds the call, if there is one.

    Raises:
        DataError: Pictures cannot be read (all of them, in one message), or the folder cannot hold the cache.
    """
    keys = [source.key for source in sources]
    size = preparation.height, preparation.width
    text = json.dumps([_VERSION, size, preparation.centre_crop, keys])
    file = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(file.with_suffix(".lock")):
            record = _finished(file, (len(sources), *size, 3), sources, preparation)
            if record is None:
                _check_space(folder, len(sources) * size[0] * size[1] * 3)
                record = _decode(sources, preparation, file, progress or _PROGRESS.get())
        remove_leftovers(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: decoded images cannot be kept there ({error.strerror or error}); "
            "free some space, or set `cache` to a folder that can be written"
        ) from None
    if record.skipped and not skip_bad:
        faults = DataFaults(f"{len(record.skipped)} of {len(sources)} images cannot be read")
        for skipped in record.skipped:
            faults.add(skipped.where, skipped.reason)
        faults.check("Replace or remove them, or leave them out with --skip-bad.")
    return Images(
        PixelFile(file),
        torch.arange(len(sources)),
        preparation.input_height or preparation.height,
        preparation.input_width or preparation.width,
        record.digest,
        record.skipped,
    )


def remove_leftovers(folder: Path) -> None:
    """Remove partial files of killed processes; caches that are being built are locked, and stay."""
    for partial in folder.glob("*.partial"):
        with exclusive(partial.with_suffix(".lock"), wait=False) as held:
            if held:
                partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Record:
    """Metadata of a cache."""

    digest: str
    skipped: tuple[SkippedImage, ...]


def _finished(
    file: Path, shape: tuple[int, ...], sources: Sequence[ImageSource], preparation: Preparation
) -> _Record | None:
    """The record of a complete cache; None if there is none, or if an image that was unreadable can be read now."""
    try:
        whole = np.load(file, mmap_mode="r").shape == shape
        data = json.loads(file.with_suffix(".json").read_text())
        skipped = tuple(
            SkippedImage(s["position"], sources[s["position"]].where, s["reason"]) for s in data["skipped"]
        )
        record = _Record(data["digest"], skipped)
        whole &= PixelFile(file).content_path.stat().st_size == CONTENT_BYTES * len(sources)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    # The failure may have been temporary, for example of a network disk.
    still_bad = all(isinstance(_row(sources[s.position], preparation), str) for s in skipped)
    return record if whole and still_bad else None


@dataclass(frozen=True)
class _Row:
    """A source's pixels as the cache keeps them, and the content of the picture before it was resized."""

    pixels: bytes
    content: bytes


def _row(source: ImageSource, preparation: Preparation) -> _Row | str:
    """The cached row of a source, or the reason why it cannot be read."""
    try:
        picture = source.read()
        return _Row(preparation(picture).tobytes(), content_of(picture))
    except _DAMAGE as error:
        return _reason(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return f"the file is missing{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, UnidentifiedImageError):
        return "no image, or one of an unknown format"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text or type(error).__name__


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: decoded images take {needed / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free; "
            "free some space, or set `cache` to a folder on a larger disk"
        )


def _decode(
    sources: Sequence[ImageSource], preparation: Preparation, file: Path, progress: Progress | None
) -> _Record:
    # The lock is held, so a partial file is what a killed builder left: it is overwritten.
    partial = file.with_suffix(".partial")
    shape = (len(sources), preparation.height, preparation.width, 3)
    digest, skipped = hashlib.sha256(), []
    contents = bytearray()
    with partial.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for position, row in enumerate(_rows(sources, preparation)):
            if isinstance(row, str):
                skipped.append(SkippedImage(position, sources[position].where, row))
                row = _Row(bytes(preparation.height * preparation.width * 3), bytes(CONTENT_BYTES))
            out.write(row.pixels)
            digest.update(row.pixels)
            contents += row.content
            if progress:
                progress(position + 1, len(sources))
        out.flush()
        os.fsync(out.fileno())
    record = _Record(digest.hexdigest(), tuple(skipped))
    write_atomically(PixelFile(file).content_path, lambda stream: stream.write(contents))
    write_text(file.with_suffix(".json"), json.dumps(asdict(record), indent=1))
    os.replace(partial, file)
    return record


def _rows(sources: Sequence[ImageSource], preparation: Preparation) -> Iterator[_Row | str]:
    """What `_row` gives for each source, in order; a bounded number is decoded ahead."""
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Pillow decodes and resizes without Python's lock.
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(sources), _IN_FLIGHT):
            part = sources[start : start + _IN_FLIGHT]
            yield from pool.map(lambda source: _row(source, preparation), part)
