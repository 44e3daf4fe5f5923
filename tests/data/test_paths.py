"""Normalised paths, and file identity under different names."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from ipgl.data.paths import KnownFiles, as_on_disk, normal_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("img/008.png", "img/008.png"),
        ("./img/008.png", "img/008.png"),
        ("img\\008.png", "img/008.png"),
        (".\\img\\.\\008.png", "img/008.png"),
        ("img//008.png", "img/008.png"),
        ("img/more/../008.png", "img/008.png"),
        ("img/..008.png", "img/..008.png"),
        ("...", "..."),
    ],
)
def test_all_spellings_become_one(text: str, expected: str) -> None:
    assert normal_path(text) == expected


@pytest.mark.parametrize(
    "text",
    ["/a.png", "//a.png", "\\a.png", "../a.png", "..", "a/../..", "a\\..\\..\\b", "C:\\a.png", ".", "a/.."],
)
def test_a_path_stays_below_the_root(text: str) -> None:
    with pytest.raises(ValueError, match="the path must stay below the root, but got ") as caught:
        normal_path(text)
    assert repr(text) in str(caught.value)


def test_no_path_and_a_nul(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the path is empty"):
        normal_path("")
    with pytest.raises(ValueError, match=r"the path holds a NUL character: 'a\\x00b'"):
        normal_path("a\0b")


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC"), ("NFD", "NFD")])
def test_composed_and_decomposed_letters_name_one_file(
    tmp_path: Path, disk: Literal["NFC", "NFD"], text: Literal["NFC", "NFD"]
) -> None:
    (tmp_path / unicodedata.normalize(disk, "Größe.png")).touch()
    found = as_on_disk(tmp_path, unicodedata.normalize(text, "Größe.png"))
    assert found == unicodedata.normalize(disk, "Größe.png")


def test_a_name_that_no_file_has_stays(tmp_path: Path) -> None:
    assert as_on_disk(tmp_path, "ö.png") == "ö.png"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_lead_to_the_row(tmp_path: Path, link: Callable[..., object]) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    link(tmp_path / "b.png", tmp_path / "other.png")
    known = KnownFiles(tmp_path, ("a.png", "b.png"))
    assert [known.row(name) for name in ("a.png", "b.png", "other.png", "c.png")] == [0, 1, 1, None]
    with pytest.raises(FileNotFoundError):
        known.row("nowhere.png")


def test_another_case_is_the_row_where_the_file_system_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    if not (tmp_path / "A.png").exists():
        pytest.skip("this file system tells upper case from lower case")
    assert KnownFiles(tmp_path, ("a.png",)).row("A.png") == 0
