"""Handwritten digits: MNIST's idx files, or the 8x8 digits that scikit-learn ships."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ipgl.core.errors import DataError

# MD5 of the uncompressed content: archives are re-compressed by mirrors, their own checksums differ.
_MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

_SKLEARN_FILE = "datasets/data/digits.csv.gz"


@dataclass(frozen=True)
class Digits:
    """Grey digits of one source.

    Attributes:
        images: uint8 `[N, H, W]`.
        labels: The digits 0 to 9, uint8 `[N]`.
        peak: Pixel value that means full ink (255 for MNIST, 16 for scikit-learn's digits).
        development: How many of the leading items the source itself sets apart for development (the rest is test).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    peak: int
    development: int


def data_root() -> Path:
    """The folder that holds data sets: `$IPGL_DATA`, or `data` in the working directory."""
    return Path(os.environ.get("IPGL_DATA") or "data")


def sklearn_digits() -> Digits:
    """The 1,797 real 8x8 digits embedded in scikit-learn (Alpaydin and Kaynak 1998); nothing is downloaded."""
    # scikit-learn's reader returns the same, but importing it dominates the start of a small trial.
    package = find_spec("sklearn")
    file = Path(package.origin or "").parent / _SKLEARN_FILE if package else Path(_SKLEARN_FILE)
    if file.is_file():
        with gzip.open(file, "rt", encoding="ascii") as lines:
            rows = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
        images, labels = rows[:, :64].reshape(-1, 8, 8), rows[:, 64]
    else:  # another version of scikit-learn may keep it elsewhere
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    return Digits(np.ascontiguousarray(images), np.ascontiguousarray(labels), peak=16, development=1297)


def mnist(root: Path | None = None) -> Digits:
    """MNIST from `<root>/MNIST/raw` (idx files, gzipped or not); torchvision downloads it if it is absent.

    Args:
        root: Data folder; None means `data_root()`.

    Raises:
        DataError: A file is missing and cannot be downloaded, or its content is not MNIST's.
    """
    root = data_root() if root is None else root
    raw = root / "MNIST" / "raw"
    if not any(_idx_path(raw, name) for name in _MNIST_MD5):
        _download(root)
    parts = {name: _parse_idx(_read_checked(raw, name), raw / name) for name in _MNIST_MD5}
    return Digits(
        np.concatenate([parts["train-images-idx3-ubyte"], parts["t10k-images-idx3-ubyte"]]),
        np.concatenate([parts["train-labels-idx1-ubyte"], parts["t10k-labels-idx1-ubyte"]]),
        peak=255,
        development=60_000,
    )


def _idx_path(raw: Path, name: str) -> Path | None:
    return next((path for path in (raw / name, raw / f"{name}.gz") if path.is_file()), None)


def _download(root: Path) -> None:
    import torchvision

    try:
        for train in (True, False):
            torchvision.datasets.MNIST(str(root), train=train, download=True)
    except Exception as error:  # torchvision raises whatever its last mirror raised, over several lines
        reason = " ".join(str(error).split())
        raise DataError(
            f"MNIST is not in {root / 'MNIST' / 'raw'} and could not be downloaded ({type(error).__name__}: {reason}); "
            f"put {', '.join(_MNIST_MD5)} (gzipped or not) there, or point IPGL_DATA at a folder that holds "
            "MNIST/raw, or use `source: digits`, which needs no download"
        ) from None


def _read_checked(raw: Path, name: str) -> bytes:
    path = _idx_path(raw, name)
    if path is None:
        raise DataError(
            f"{raw}: {name}[.gz] is missing, though other MNIST files are there; "
            "add it, or remove the folder so that all four are downloaded"
        )
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); remove it so that it is downloaded again"
        ) from None
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if digest != _MNIST_MD5[name]:
        raise DataError(
            f"{path}: the uncompressed content must have MD5 {_MNIST_MD5[name]}, but got {digest}; "
            "the file is damaged or not MNIST's: remove it so that it is downloaded again"
        )
    return content


def _parse_idx(content: bytes, path: Path) -> NDArray[np.uint8]:
    """An idx file of bytes: two zeros, type 8, the number of dimensions, each size, then the items."""
    dimensions = content[3]
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    items = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions)
    if items.size != int(np.prod(shape)):
        raise DataError(f"{path}: the header promises {shape} items, but {items.size} bytes follow")
    return items.reshape(shape)
