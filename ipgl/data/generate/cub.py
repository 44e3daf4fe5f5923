"""Reader of CUB-200-2011 (Wah et al. 2011): birds, their type (water or land), and the split.

The folder holds `images.txt` (`<id> <class folder>/<file>.jpg`), `train_test_split.txt` (`<id> <1 if training>`),
`images/`, and the masks in `segmentations/` (in the folder itself or beside it, as the second archive unpacks).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ipgl.core.errors import DataError
from ipgl.data.fault_list import DataFaults

# Sagawa et al. 2020: seabirds and waterfowl; a species counts if one of these is part of its lower-case name.
WATER_BIRDS = (
    *("albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gull", "jaeger", "kittiwake", "pelican"),
    *("puffin", "tern", "gadwall", "grebe", "mallard", "merganser", "guillemot", "pacific_loon"),
)

Species = Literal["published", "corrected"]


@dataclass(frozen=True)
class Bird:
    """One image of CUB-200-2011.

    Attributes:
        img_id: The identity in `images.txt`.
        img_filename: `<class folder>/<file>.jpg`.
        test: Whether CUB-200-2011 sets it apart for testing.
    """

    img_id: int
    img_filename: str
    test: bool


@dataclass(frozen=True)
class Cub:
    """The folder, checked.

    Attributes:
        images: Holds the images of `Bird.img_filename`.
        masks: Holds a mask for each, with the suffix `.png`.
        birds: All images, in the order of `images.txt`.
    """

    images: Path
    masks: Path
    birds: tuple[Bird, ...]

    def image(self, img_filename: str) -> Path:
        """Path of an image."""
        return self.images / img_filename

    def mask(self, img_filename: str) -> Path:
        """Path of an image's mask."""
        return mask_path(self.masks, img_filename)


def mask_path(masks: Path, img_filename: str) -> Path:
    """Path of an image's mask: the same relative path with the suffix `.png`."""
    return masks / PurePosixPath(img_filename).with_suffix(".png")


def is_water_bird(img_filename: str, species: Species = "published") -> bool:
    """Whether a class folder (`001.Black_footed_Albatross/...`) names a water bird.

    `published` follows the original generator to the letter: its test for `tern` also takes in "wesTERN" and
    "easTERN", so that Western Meadowlark, Western Wood Pewee and Eastern Towhee count as water birds and group
    counts are the published ones. `corrected` compares whole words and leaves those three on land.
    """
    name = PurePosixPath(img_filename).parts[0].partition(".")[2].lower()
    if species == "published":
        return any(bird in name for bird in WATER_BIRDS)
    words = f"_{name}_"
    return any(f"_{bird}_" in words for bird in WATER_BIRDS)


def read_cub(root: Path) -> Cub:
    """Read the two tables and find the folders.

    Raises:
        DataError: Files or folders are missing, or lines are not what the format promises.
    """
    images, masks = cub_folders(root)
    faults = DataFaults(f"{root} is not CUB-200-2011 as published")
    names = _read_pairs(root / "images.txt", faults)
    training = _read_pairs(root / "train_test_split.txt", faults)
    birds = []
    for key, (line, name) in names.items():
        where = f"{root / 'images.txt'}:{line}"
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or len(path.parts) != 2 or "." not in path.parts[0]:
            faults.add(where, f"an image is `<number>.<species>/<file>.jpg`, but got {name!r}")
        elif key not in training:
            faults.add(where, f"image {key} is not in train_test_split.txt")
        elif training[key][1] not in ("0", "1"):
            line = training[key][0]
            faults.add(
                f"{root / 'train_test_split.txt'}:{line}",
                f"must be 1 (training) or 0 (test), but got {training[key][1]!r}",
            )
        else:
            birds.append(Bird(int(key), name, test=training[key][1] == "0"))
    faults.check("Unpack CUB_200_2011.tgz again.")
    if not birds:
        raise DataError(f"{root / 'images.txt'}: lists no images; unpack CUB_200_2011.tgz again")
    return Cub(images, masks, tuple(birds))


def cub_folders(root: Path) -> tuple[Path, Path]:
    """The folders of images and of masks.

    Raises:
        DataError: One of them is missing; the message says where it was looked for.
    """
    places = {
        "images": [root / "images"],
        "segmentations": [root / "segmentations", root.parent / "segmentations"],
    }
    found = []
    for name, choices in places.items():
        folder = next((path for path in choices if path.is_dir()), None)
        if folder is None:
            there = (
                ", ".join(sorted(path.name for path in root.iterdir())[:10]) if root.is_dir() else "no folder"
            )
            raise DataError(
                f"{root}: CUB-200-2011 needs the folder {name}, looked for at {' and '.join(map(str, choices))}; "
                f"found: {there or 'nothing'}. Unpack CUB_200_2011.tgz and segmentations.tgz there"
            )
        found.append(folder)
    return found[0], found[1]


def _read_pairs(path: Path, faults: DataFaults) -> dict[str, tuple[int, str]]:
    """`<id> <value>` lines as id -> (line number, value)."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; unpack CUB_200_2011.tgz there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); unpack CUB_200_2011.tgz again") from None
    pairs: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, start=1):
        parts = line.split()
        if len(parts) != 2 or not parts[0].isdecimal():
            faults.add(f"{path}:{number}", f"a line is `<number> <value>`, but got {line!r}")
        elif parts[0] in pairs:
            faults.add(f"{path}:{number}", f"image {parts[0]} stands in line {pairs[parts[0]][0]} already")
        else:
            pairs[parts[0]] = number, parts[1]
    return pairs
