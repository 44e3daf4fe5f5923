"""Atomic file writes leave either the old content or the new."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from ipgl.core.atomic_files import write_atomically, write_text


class Interrupt(BaseException):
    """As a keyboard interrupt: no `Exception`."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_returns_the_path(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    assert write_atomically(path, lambda file: file.write(b"\x00\xff")) == path
    assert path.read_bytes() == b"\x00\xff"
    assert names(tmp_path) == ["a.bin"]


def test_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "a longer text than the next")
    write_text(path, "short")
    assert path.read_text() == "short"
    assert names(tmp_path) == ["a.txt"]


def test_text_is_utf_8_and_keeps_its_line_ends(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "ρ ≤ 0.01\r\nend\n")
    assert path.read_bytes() == b"\xcf\x81 \xe2\x89\xa4 0.01\r\nend\n"


@pytest.mark.parametrize("error", [ValueError, OSError, Interrupt])
def test_the_old_content_stays_if_the_writer_raises(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write(file: BinaryIO) -> None:
        file.write(b"half of the new")
        file.flush()
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_new_file_does_not_appear_if_the_writer_raises(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a.txt", lambda file: 1 / 0)
    assert names(tmp_path) == []


def test_nothing_is_at_the_path_before_the_writer_has_ended(tmp_path: Path) -> None:
    path, seen = tmp_path / "a.txt", []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.exists())

    write_atomically(path, write)
    assert seen == [False]
    assert path.exists()


def test_the_group_may_read_it(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "nowhere" / "a.txt", "x")
    assert names(tmp_path) == []


def test_a_folder_in_the_way_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError):  # noqa: PT011 (which one differs between systems)
        write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]


def test_readers_never_see_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    contents = {letter * 20_000 for letter in "ab"}
    write_text(path, "a" * 20_000)
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        write_text(path, "ab"[number % 2] * 20_000)
    done.set()
    reader.join()
    assert seen
    assert seen <= contents
