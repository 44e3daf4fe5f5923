"""Image cache: content of its rows, concurrent builders, killed builders, unreadable images."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import picture, save
from narrowing import of_kind
from PIL import Image

from ipgl.core.errors import DataError
from ipgl.core.locks import exclusive
from ipgl.data.image_cache import Preparation, build_cache
from ipgl.data.images import FileImage

SIZE = Preparation(20, 24)


def files(folder: Path, count: int) -> list[FileImage]:
    for number in range(count):
        save(folder / f"{number}.png", picture(number))
    return listed(folder, count)


def listed(folder: Path, count: int) -> list[FileImage]:
    """As `files`, but not written again: a file's time of change is part of its key."""
    return [FileImage(folder / f"{n}.png", f"table.csv, line {n + 2} ({n}.png)") for n in range(count)]


@dataclass(frozen=True)
class Logged:
    """A file whose every reading leaves a line in a log."""

    file: FileImage
    log: Path
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return self.file.key

    @property
    def where(self) -> str:
        return self.file.where

    def read(self) -> Image.Image:
        with self.log.open("a") as log:
            log.write(f"{self.file.path.name}\n")
        time.sleep(self.seconds)
        return self.file.read()


def logged(folder: Path, count: int, seconds: float = 0.0) -> list[Logged]:
    return [Logged(file, folder / "reads.log", seconds) for file in files(folder, count)]


def reads(folder: Path) -> list[str]:
    log = folder / "reads.log"
    return log.read_text().split() if log.exists() else []


def test_a_row_is_the_picture_resized(tmp_path: Path) -> None:
    images = build_cache(files(tmp_path, 3), SIZE, tmp_path / "cache")
    assert images.shape == (3, 3, 20, 24)
    for number in range(3):
        expected = np.asarray(picture(number).resize((24, 20), Image.Resampling.BILINEAR))
        assert np.array_equal(images.pixels(torch.tensor([number]))[0].numpy(), expected)


def test_the_middle_is_cut_out_first(tmp_path: Path) -> None:
    images = build_cache(files(tmp_path, 1), Preparation(10, 10, centre_crop=20), tmp_path / "cache")
    middle = picture(0).crop((10, 5, 30, 25)).resize((10, 10), Image.Resampling.BILINEAR)
    assert np.array_equal(images.pixels(torch.tensor([0]))[0].numpy(), np.asarray(middle))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_pictures_of_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = picture(0, 24, 20).convert("L").convert(mode)
    path = save(tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}", image)
    pixels = build_cache([FileImage(path, "x")], SIZE, tmp_path / "cache").pixels(torch.tensor([0]))[0]
    assert np.array_equal(pixels.numpy(), np.asarray(image.convert("RGB")))
    assert (pixels[..., 0] == pixels[..., 1]).float().mean() > 0.99


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    seen = []
    build_cache(
        files(tmp_path, 3), SIZE, tmp_path / "cache", progress=lambda done, all_: seen.append((done, all_))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_picture_at_all_is_an_empty_cache(tmp_path: Path) -> None:
    assert build_cache([], SIZE, tmp_path / "cache").shape == (0, 3, 20, 24)


def test_a_second_trial_decodes_nothing(tmp_path: Path) -> None:
    sources = logged(tmp_path, 4)
    first = build_cache(sources, SIZE, tmp_path / "cache")
    assert sorted(reads(tmp_path)) == ["0.png", "1.png", "2.png", "3.png"]
    second = build_cache(sources, SIZE, tmp_path / "cache")
    assert len(reads(tmp_path)) == 4
    assert (second.file.path, second.digest) == (first.file.path, first.digest)


def test_a_changed_file_or_another_size_is_decoded_again(tmp_path: Path) -> None:
    sources = logged(tmp_path, 2)
    old = build_cache(sources, SIZE, tmp_path / "cache")
    save(tmp_path / "1.png", picture(77))
    new = build_cache(sources, SIZE, tmp_path / "cache")
    assert len(reads(tmp_path)) == 4
    assert new.digest != old.digest
    build_cache(sources, Preparation(21, 24), tmp_path / "cache")
    assert len(reads(tmp_path)) == 6


def test_equal_pictures_elsewhere_have_an_equal_digest(tmp_path: Path) -> None:
    here, there = (build_cache(files(tmp_path / n, 3), SIZE, tmp_path / "cache") for n in ("a", "b"))
    assert here.digest == there.digest
    assert here.file.path != there.file.path


def test_a_damaged_cache_file_is_built_again(tmp_path: Path) -> None:
    sources = files(tmp_path, 3)
    images = build_cache(sources, SIZE, tmp_path / "cache")
    whole = images.file.path.read_bytes()
    images.file.path.write_bytes(whole[:-7])
    again = build_cache(sources, SIZE, tmp_path / "cache")
    assert again.file.path.read_bytes() == whole


class TestContents:
    """What tells equal pictures: their pixels before resizing."""

    def of(
        self, tmp_path: Path, *images: tuple[str, Image.Image], preparation: Preparation = SIZE
    ) -> list[bytes]:
        sources = [FileImage(save(tmp_path / name, image), name) for name, image in images]
        return build_cache(sources, preparation, tmp_path / "cache").contents()

    def test_names_and_formats_do_not_count_and_pixels_do(self, tmp_path: Path) -> None:
        one, other = picture(0), picture(0)
        other.putpixel((39, 29), tuple(value ^ 1 for value in of_kind(other.getpixel((39, 29)), tuple)))
        names = ("a.png", "b.bmp", "c.tif", "d.png")
        found = self.of(tmp_path, *[(name, one) for name in names], ("e.png", other), ("f.png", picture(1)))
        assert found[0] == found[1] == found[2] == found[3]
        assert len(set(found)) == 3

    def test_modes_do_not_count(self, tmp_path: Path) -> None:
        grey = picture(0).convert("L")
        found = self.of(
            tmp_path, ("a.png", grey), ("b.png", grey.convert("RGB")), ("c.png", grey.convert("P"))
        )
        assert len(set(found)) == 1

    def test_the_same_bytes_in_another_shape_are_another_picture(self, tmp_path: Path) -> None:
        wide = Image.frombytes("RGB", (40, 30), picture(0).tobytes())
        tall = Image.frombytes("RGB", (30, 40), picture(0).tobytes())
        assert len(set(self.of(tmp_path, ("a.png", wide), ("b.png", tall)))) == 2

    def test_they_do_not_depend_on_how_pictures_are_prepared(self, tmp_path: Path) -> None:
        images = ("a.png", picture(0)), ("b.png", picture(1))
        assert self.of(tmp_path, *images) == self.of(tmp_path, *images, preparation=Preparation(9, 9, 20))

    def test_they_follow_the_rows(self, tmp_path: Path) -> None:
        images = build_cache(files(tmp_path, 3), SIZE, tmp_path / "cache")
        a, b, c = images.contents()
        assert images.take(torch.tensor([2, 0, 2])).contents() == [c, a, c]
        assert pickle.loads(pickle.dumps(images)).contents() == [a, b, c]

    def test_a_warm_start_decodes_nothing_for_them(self, tmp_path: Path) -> None:
        sources = logged(tmp_path, 3)
        first = build_cache(sources, SIZE, tmp_path / "cache").contents()
        assert build_cache(sources, SIZE, tmp_path / "cache").contents() == first
        assert len(reads(tmp_path)) == 3

    @pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"short")])
    def test_a_cache_without_them_is_built_again(self, tmp_path: Path, damage: Callable[..., object]) -> None:
        sources = logged(tmp_path, 3)
        images = build_cache(sources, SIZE, tmp_path / "cache")
        whole = images.contents()
        damage(images.file.content_path)
        assert build_cache(sources, SIZE, tmp_path / "cache").contents() == whole
        assert len(reads(tmp_path)) == 6


BUILD = """
import sys
from pathlib import Path
from test_image_cache import SIZE, Logged, build_cache, listed
folder, seconds = Path(sys.argv[1]), float(sys.argv[3])
sources = [Logged(file, folder / "reads.log", seconds) for file in listed(folder, int(sys.argv[2]))]
print(build_cache(sources, SIZE, folder / "cache").digest)
"""


def start(folder: Path, count: int, seconds: float) -> subprocess.Popen[str]:
    """Another process that builds a cache of the pictures that `files` has written."""
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, [here, here.parent / "support", here.parents[1]]))
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), str(count), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_a_kill_while_decoding_leaves_nothing_half_made(tmp_path: Path) -> None:
    sources, cache = files(tmp_path, 40), tmp_path / "cache"
    process = start(tmp_path, 40, 0.25)
    deadline = time.monotonic() + 60
    while len(reads(tmp_path)) < 6 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not list(cache.glob("*.npy"))
    assert list(cache.glob("*.partial"))
    images = build_cache(sources, SIZE, cache)
    assert not list(cache.glob("*.partial"))
    assert images.digest == build_cache(files(tmp_path / "fresh", 40), SIZE, tmp_path / "other").digest


def test_what_a_killed_builder_of_another_cache_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "dead.partial").write_text("")
    (tmp_path / "alive.partial").write_text("")
    with exclusive(tmp_path / "alive.lock"):
        build_cache(files(tmp_path, 1), SIZE, tmp_path)
    assert [path.name for path in tmp_path.glob("*.partial")] == ["alive.partial"]


def test_processes_that_build_at_once_decode_each_picture_once(tmp_path: Path) -> None:
    files(tmp_path, 12)
    running = [start(tmp_path, 12, 0.1) for _ in range(4)]
    digests = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    assert sorted(reads(tmp_path)) == sorted(f"{number}.png" for number in range(12))
    assert len(set(digests)) == 1
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


class TestBadPictures:
    @pytest.fixture
    def sources(self, tmp_path: Path) -> list[FileImage]:
        made = files(tmp_path, 4)
        (tmp_path / "1.png").unlink()
        whole = save(tmp_path / "2.jpg", picture(2, 200, 200)).read_bytes()
        (tmp_path / "2.jpg").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "3.png").write_text("no picture")
        return [*made[:2], FileImage(tmp_path / "2.jpg", "table.csv, line 4 (2.jpg)"), made[3]]

    def test_one_error_names_all(self, tmp_path: Path, sources: list[FileImage]) -> None:
        with pytest.raises(DataError) as caught:
            build_cache(sources, SIZE, tmp_path / "cache")
        assert str(caught.value) == (
            "3 of 4 images cannot be read:\n"
            f"  table.csv, line 3 (1.png): the file is missing: {tmp_path}/1.png\n"
            "  table.csv, line 4 (2.jpg): image file is truncated (15 bytes not processed)\n"
            f"  table.csv, line 5 (3.png): no image, or one of an unknown format\n"
            "Replace or remove them, or leave them out with --skip-bad."
        )

    def test_skipped_ones_are_recorded_and_the_rest_is_there(
        self, tmp_path: Path, sources: list[FileImage]
    ) -> None:
        images = build_cache(sources, SIZE, tmp_path / "cache", skip_bad=True)
        assert [(s.position, s.where) for s in images.skipped] == [
            (1, "table.csv, line 3 (1.png)"),
            (2, "table.csv, line 4 (2.jpg)"),
            (3, "table.csv, line 5 (3.png)"),
        ]
        assert images.good.tolist() == [0]
        assert images.take(torch.tensor([2, 0])).good.tolist() == [1]
        expected = np.asarray(picture(0).resize((24, 20), Image.Resampling.BILINEAR))
        assert np.array_equal(images.pixels(torch.tensor([0]))[0].numpy(), expected)

    def test_a_cache_built_with_gaps_still_refuses_without_skip_bad(
        self, tmp_path: Path, sources: list[FileImage]
    ) -> None:
        build_cache(sources, SIZE, tmp_path / "cache", skip_bad=True)
        with pytest.raises(DataError, match="3 of 4 images cannot be read"):
            build_cache(sources, SIZE, tmp_path / "cache")

    def test_mended_pictures_are_read(self, tmp_path: Path, sources: list[FileImage]) -> None:
        build_cache(sources, SIZE, tmp_path / "cache", skip_bad=True)
        for source in sources[1:]:
            save(source.path, picture(9))
        assert build_cache(sources, SIZE, tmp_path / "cache").skipped == ()

    def test_a_picture_that_could_not_be_read_for_a_moment_is_read_later(self, tmp_path: Path) -> None:
        @dataclass(frozen=True)
        class Moody(FileImage):
            @property
            def key(self) -> str:
                return "the same"

        source = Moody(tmp_path / "0.png", "x")
        assert len(build_cache([source], SIZE, tmp_path / "cache", skip_bad=True).skipped) == 1
        save(tmp_path / "0.png", picture(0))
        assert build_cache([source], SIZE, tmp_path / "cache").skipped == ()

    def test_twenty_are_shown_and_the_others_counted(self, tmp_path: Path) -> None:
        sources = [FileImage(tmp_path / f"{n}.png", f"line {n}") for n in range(23)]
        with pytest.raises(DataError) as caught:
            build_cache(sources, SIZE, tmp_path / "cache")
        lines = str(caught.value).splitlines()
        assert lines[0] == "23 of 23 images cannot be read:"
        assert lines[20] == f"  line 19: the file is missing: {tmp_path}/19.png"
        assert lines[21] == "  and 3 more"
        assert len(lines) == 23


def test_a_full_disk_is_said_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = logged(tmp_path, 2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(DataError, match=r"decoded images take 0.0 GiB, but only 0.0 GiB are free"):
        build_cache(sources, SIZE, tmp_path / "cache")
    assert reads(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"cache: decoded images cannot be kept there \(File exists\)"):
        build_cache(files(tmp_path, 1), SIZE, tmp_path / "cache")


def test_pickling_carries_no_pixels(tmp_path: Path) -> None:
    images = build_cache(files(tmp_path, 30), SIZE, tmp_path / "cache")
    expected = images[:]
    sent = pickle.dumps(images)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent)[:], expected)
