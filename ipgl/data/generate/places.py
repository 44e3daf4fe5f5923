"""Reader of Places (Zhou et al. 2017): image files of given scene classes, in either published layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ipgl.core.errors import DataError

# Sagawa et al. 2020, in the order of the attribute's values: 0 land, 1 water.
LAND = ("bamboo_forest", "forest/broadleaf")
WATER = ("ocean", "lake/natural")


def place_files(root: Path, classes: Sequence[str]) -> list[str]:
    """Pictures of some classes as `place_filename` writes them: `/<letter>/<class>/<file>.jpg`, sorted.

    Raises:
        DataError: A class has no folder, or its folder no pictures; the message names the folders searched.
    """
    files: list[str] = []
    for name in classes:
        folder = _class_folder(root, name)
        found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
        if not found:
            raise DataError(f"{folder}: holds no .jpg files, but the place {name!r} needs some")
        files += [f"/{name[0]}/{name}/{file}" for file in found]
    return files


def place_path(root: Path, place_filename: str) -> Path:
    """The file that a `place_filename` names, in whichever layout `root` has.

    Raises:
        DataError: No such file, or the path leaves `root`.
    """
    name = PurePosixPath(place_filename.lstrip("/"))
    if ".." in name.parts or len(name.parts) < 3:
        raise DataError(
            f"a place_filename is `/<letter>/<class>/<file>`, below the places folder, but got {place_filename!r}"
        )
    choices = [root / "data_large" / name, root / name, root / PurePosixPath(*name.parts[1:])]
    for path in choices:
        if path.is_file():
            return path
    raise DataError(f"{place_filename!r} is at none of {', '.join(map(str, choices))}")


def _class_folder(root: Path, name: str) -> Path:
    choices = [root / "data_large" / name[0] / name, root / name[0] / name, root / name]
    for folder in choices:
        if folder.is_dir():
            return folder
    there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) if root.is_dir() else "no folder"
    raise DataError(
        f"{root}: the place {name!r} was looked for at {', '.join(map(str, choices))}; found: {there or 'nothing'}. "
        "Unpack Places365 there, or name other classes"
    )
