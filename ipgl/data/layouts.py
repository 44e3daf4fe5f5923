"""Locate a data set's folder among its known layouts; several matches are an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ipgl.core.errors import DataError
from ipgl.data.digits import data_root

# Waterbirds: as published, at other strengths (GALS: 1.0), GALS' own tree, WILDS, and SubpopBench.
WATERBIRDS_FOLDERS = (
    ".",
    "waterbird_*_forest2water2",
    "cub/data/waterbird_*_forest2water2",
    "cub/data",
    "waterbirds_v1.0",
    "waterbirds",
    "waterbirds/waterbird_*_forest2water2",
)
# CelebA: torchvision, the group DRO code, WILDS.
CELEBA_FOLDERS = (".", "celeba", "celebA", "celebA/data", "celebA_v1.0")


def dataset_root(root: str) -> Path:
    """Resolve a setting `root`: absolute, or below `$IPGL_DATA`.

    Raises:
        DataError: There is no such folder.
    """
    folder = (data_root() / Path(root).expanduser()).absolute()
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; set `root` to the data set's folder, absolute or below $IPGL_DATA "
            f"(now {data_root()})"
        )
    return folder


def find_layout(
    name: str, root: Path, folder: str | None, candidates: Sequence[str], needed: Sequence[str]
) -> Path:
    """The one folder below `root` that holds a data set.

    Args:
        name: The data set's name, for messages.
        root: Where to look.
        folder: The folder below `root` that the user names; None looks at `candidates`.
        candidates: Folders below `root`, `*` for any text.
        needed: What the folder must hold, `a|b` for either.

    Raises:
        DataError: No folder holds all of it, or several do.
    """
    looked = list(candidates) if folder is None else [folder]
    places = [place for pattern in looked for place in _matching(root, pattern, folder)]
    held = [place for place in places if place.is_dir() and not _missing(place, needed)]
    # Links and case-insensitive file systems give one folder several names.
    found = [place for n, place in enumerate(held) if not any(place.samefile(other) for other in held[:n])]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(place.relative_to(root)) for place in found)
        raise DataError(f"{root} holds {name} more than once: {names}; set `folder` to the one you mean")
    near = [
        f"  {place} lacks {', '.join(_missing(place, needed))}"
        for place in places
        if place != root and place.is_dir()
    ]
    there = sorted(entry.name for entry in root.iterdir())
    listing = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    wanted = ", ".join(item.replace("|", " or ") for item in needed)
    raise DataError(
        "\n".join(
            [
                f"{name} is not below {root}.",
                f"  looked for {wanted} in: {', '.join(looked)}",
                f"  found there: {listing or 'nothing'}",
                *near,
                "Set `root` to the folder that holds one of these, or `folder` to the folder itself.",
            ]
        )
    )


def _matching(root: Path, pattern: str, folder: str | None) -> list[Path]:
    return [root / pattern] if pattern == "." or folder is not None else sorted(root.glob(pattern))


def present(folder: Path, names: str) -> Path | None:
    """The first of the alternatives `a|b` that `folder` holds."""
    return next((folder / name for name in names.split("|") if (folder / name).exists()), None)


def _missing(folder: Path, needed: Sequence[str]) -> list[str]:
    return [names.replace("|", " or ") for names in needed if present(folder, names) is None]
