from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from sklearn.datasets import load_digits

from ipgl.core.errors import DataError
from ipgl.data import digits

# Three training and two test images of 2 x 2 pixels, and their labels, as idx files.
FILES = {
    "train-images-idx3-ubyte": struct.pack(">4I", 0x0803, 3, 2, 2) + bytes(range(12)),
    "train-labels-idx1-ubyte": struct.pack(">2I", 0x0801, 3) + bytes([7, 0, 9]),
    "t10k-images-idx3-ubyte": struct.pack(">4I", 0x0803, 2, 2, 2) + bytes(range(100, 108)),
    "t10k-labels-idx1-ubyte": struct.pack(">2I", 0x0801, 2) + bytes([4, 5]),
}
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """No test here reaches a network; returns what torchvision was asked for."""
    asked: list[dict[str, object]] = []

    def download(root: str, **options: object) -> None:
        asked.append({"root": root, **options})
        raise URLError("no network here")

    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    return asked


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny files be MNIST."""
    sums = {name: hashlib.md5(content).hexdigest() for name, content in FILES.items()}
    monkeypatch.setattr(digits, "_MNIST_MD5", sums)


def write(root: Path, gzipped: bool = False) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in FILES.items():
        if gzipped:
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (raw / name).write_bytes(content)
    return raw


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        digits.mnist(root)
    return str(caught.value)


@pytest.mark.usefixtures("tiny")
class TestReading:
    @pytest.mark.parametrize("gzipped", [False, True], ids=["plain", "gzipped"])
    def test_training_digits_come_first(
        self, tmp_path: Path, gzipped: bool, offline: list[dict[str, object]]
    ) -> None:
        write(tmp_path, gzipped)
        found = digits.mnist(tmp_path)
        assert found.images.tolist() == [
            [[0, 1], [2, 3]],
            [[4, 5], [6, 7]],
            [[8, 9], [10, 11]],
            [[100, 101], [102, 103]],
            [[104, 105], [106, 107]],
        ]
        assert found.labels.tolist() == [7, 0, 9, 4, 5]
        assert found.images.dtype == found.labels.dtype == np.uint8
        assert (found.peak, found.development) == (255, 60_000)
        assert offline == []

    def test_plain_and_gzipped_files_may_be_mixed(self, tmp_path: Path) -> None:
        raw = write(tmp_path)
        (raw / IMAGES).unlink()
        (raw / f"{IMAGES}.gz").write_bytes(gzip.compress(FILES[IMAGES], compresslevel=1))
        assert digits.mnist(tmp_path).labels.tolist() == [7, 0, 9, 4, 5]

    def test_ipgl_data_names_the_root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "elsewhere")
        monkeypatch.setenv("IPGL_DATA", str(tmp_path / "elsewhere"))
        assert digits.mnist().labels.tolist() == [7, 0, 9, 4, 5]


@pytest.mark.usefixtures("tiny")
class TestDamage:
    def test_wrong_content(self, tmp_path: Path) -> None:
        raw = write(tmp_path)
        changed = FILES[IMAGES][:-1] + b"\xff"
        (raw / IMAGES).write_bytes(changed)
        assert refusal(tmp_path) == (
            f"{raw / IMAGES}: the uncompressed content must have MD5 {hashlib.md5(FILES[IMAGES]).hexdigest()}, "
            f"but got {hashlib.md5(changed).hexdigest()}; the file is damaged or not MNIST's: "
            "remove it so that it is downloaded again"
        )

    def test_wrong_content_inside_an_archive(self, tmp_path: Path) -> None:
        raw = write(tmp_path, gzipped=True)
        (raw / f"{LABELS}.gz").write_bytes(gzip.compress(b"not idx"))
        assert refusal(tmp_path).startswith(f"{raw / LABELS}.gz: the uncompressed content must have MD5 ")

    # Cut within the header, within the data, within the trailing checksum.
    @pytest.mark.parametrize("kept", [0, 5, 15, -4])
    def test_an_archive_cut_short(self, tmp_path: Path, kept: int) -> None:
        raw = write(tmp_path, gzipped=True)
        archive = raw / f"{IMAGES}.gz"
        archive.write_bytes(archive.read_bytes()[:kept])
        message = refusal(tmp_path)
        assert message.startswith(f"{archive}: ")
        assert message.endswith("remove it so that it is downloaded again")

    @pytest.mark.parametrize("position", [0, 10, 12, -8, -1])
    def test_an_archive_with_one_wrong_byte(self, tmp_path: Path, position: int) -> None:
        raw = write(tmp_path, gzipped=True)
        archive = raw / f"{IMAGES}.gz"
        content = bytearray(gzip.compress(FILES[IMAGES]))
        content[position] ^= 0xFF
        archive.write_bytes(content)
        message = refusal(tmp_path)
        assert message.startswith(f"{archive}: cannot be read (")
        assert message.endswith("); remove it so that it is downloaded again")

    @pytest.mark.parametrize("name", FILES)
    def test_one_file_missing(self, tmp_path: Path, name: str, offline: list[dict[str, object]]) -> None:
        raw = write(tmp_path)
        (raw / name).unlink()
        assert refusal(tmp_path) == (
            f"{raw}: {name}[.gz] is missing, though other MNIST files are there; "
            "add it, or remove the folder so that all four are downloaded"
        )
        assert offline == []

    def test_a_header_that_promises_more_than_follows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw = write(tmp_path)
        short = struct.pack(">4I", 0x0803, 4, 2, 2) + bytes(12)
        (raw / IMAGES).write_bytes(short)
        sums = digits._MNIST_MD5 | {IMAGES: hashlib.md5(short).hexdigest()}
        monkeypatch.setattr(digits, "_MNIST_MD5", sums)
        assert (
            refusal(tmp_path) == f"{raw / IMAGES}: the header promises (4, 2, 2) items, but 12 bytes follow"
        )


class TestDownload:
    def test_nothing_there_and_no_network(self, tmp_path: Path, offline: list[dict[str, object]]) -> None:
        assert refusal(tmp_path) == (
            f"MNIST is not in {tmp_path / 'MNIST' / 'raw'} and could not be downloaded "
            "(URLError: <urlopen error no network here>); put train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (gzipped or not) there, or point IPGL_DATA at a folder "
            "that holds MNIST/raw, or use `source: digits`, which needs no download"
        )
        assert offline == [{"root": str(tmp_path), "train": True, "download": True}]

    @pytest.mark.usefixtures("tiny")
    def test_what_was_downloaded_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def download(root: str, train: bool, download: bool) -> None:
            asked.append((train, download))
            if train:
                write(Path(root))

        monkeypatch.setattr(torchvision.datasets, "MNIST", download)
        assert digits.mnist(tmp_path).labels.tolist() == [7, 0, 9, 4, 5]
        assert asked == [(True, True), (False, True)]


class TestRoot:
    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IPGL_DATA", "/some/where")
        assert digits.data_root() == Path("/some/where")

    @pytest.mark.parametrize("value", [None, ""])
    def test_by_default_beside_the_work(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        monkeypatch.delenv("IPGL_DATA", raising=False)
        if value is not None:
            monkeypatch.setenv("IPGL_DATA", value)
        assert digits.data_root() == Path("data")


def test_the_small_digits_need_no_file_and_no_network(offline: list[dict[str, object]]) -> None:
    found = digits.sklearn_digits()
    assert found.images.shape == (1797, 8, 8)
    assert (found.peak, found.images.max(), found.images.min()) == (16, 16, 0)
    assert found.development == 1297
    # The documented class sizes of the data set.
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert found.labels[:10].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert offline == []


@pytest.mark.mnist
def test_the_real_mnist(real_mnist: digits.Digits) -> None:
    assert real_mnist.images.shape == (70_000, 28, 28)
    assert real_mnist.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert real_mnist.labels[60_000:60_005].tolist() == [7, 2, 1, 0, 4]
    counts = np.bincount(real_mnist.labels[:60_000]).tolist()
    assert counts == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_digits_are_those_that_scikit_learn_reads(
    monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    if elsewhere:
        monkeypatch.setattr(digits, "_SKLEARN_FILE", "nowhere.csv.gz")
    found, expected = digits.sklearn_digits(), load_digits()
    assert (found.images == expected.images).all()
    assert (found.labels == expected.target).all()
    assert found.images.dtype == found.labels.dtype == np.uint8
    assert found.images.shape == (1797, 8, 8)
