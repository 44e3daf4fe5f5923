"""CelebA (Liu et al. 2015), by default hair colour as label and sex as spurious attribute (Sagawa et al. 2020).

Reads `list_attr_celeba` and `list_eval_partition` as `.csv` or as the publisher's `.txt`; where both are there, the
CSV files. Pictures are cut to the middle 178 x 178 and resized.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ipgl.core.errors import DataError
from ipgl.core.registry import suggestion
from ipgl.data.fault_list import DataFaults
from ipgl.data.image_cache import Preparation
from ipgl.data.image_dataset import ImageDatasetSettings, build_image_dataset
from ipgl.data.layouts import CELEBA_FOLDERS, dataset_root, find_layout, present
from ipgl.data.manifest import Columns, RawTable, check_table, read_csv
from ipgl.data.table import ImageTable
from ipgl.data.types import Dataset

ATTRIBUTES = "list_attr_celeba.csv|list_attr_celeba.txt"
PARTITION = "list_eval_partition.csv|list_eval_partition.txt"
IMAGES = "img_align_celeba"
_CENTRE = 178
_READERS_OF_OTHERS = ("matched", "function")
_VALUES = {"-1": "0", "0": "0", "1": "1"}


class CelebaSettings(ImageDatasetSettings):
    """Settings of `celeba`."""

    folder: str | None = Field(
        None, description="Folder of list_attr_celeba below `root`; null looks in the usual places."
    )
    target: str = Field("Blond_Hair", description="Attribute that is the label.")
    attribute: str = Field("Male", description="Attribute that is spurious.")


def build_celeba(settings: CelebaSettings) -> Dataset:
    """Build the data set from its folder.

    Raises:
        DataError: The folder is not found or found twice, an attribute is unknown, or rows, images or pairs are
            faulty.
    """
    root = dataset_root(settings.root)
    folder = find_layout("CelebA", root, settings.folder, CELEBA_FOLDERS, [ATTRIBUTES, PARTITION, IMAGES])
    table, notes = read_celeba(
        folder,
        settings.target,
        settings.attribute,
        others=settings.pairs.source in _READERS_OF_OTHERS,
        skip_bad=settings.skip_bad,
    )
    size = settings.input_size
    return build_image_dataset(settings, table, Preparation(size, size, centre_crop=_CENTRE), notes)


def read_celeba(
    folder: Path, target: str, attribute: str, *, others: bool = True, skip_bad: bool = False
) -> tuple[ImageTable, tuple[str, ...]]:
    """The table of a CelebA folder; its attributes are extra columns, 0 or 1.

    Args:
        folder: Holds `list_attr_celeba`, `list_eval_partition` and the images.
        target: Attribute that is the label.
        attribute: Attribute that is spurious.
        others: Whether to keep the other thirty-eight attributes, which takes longer.
        skip_bad: Leave faulty rows out rather than raise.

    Returns:
        The table, and a sentence for each row left out.

    Raises:
        DataError: As `build_celeba`.
    """
    attributes = _read(
        present(folder, ATTRIBUTES) or folder / "list_attr_celeba.csv", first_column="image_id"
    )
    partition = _read(
        present(folder, PARTITION) or folder / "list_eval_partition.csv", "image_id", "partition"
    )
    known = [name for name in attributes.columns if name != "image_id"]
    for name in (target, attribute):
        if name not in known:
            raise DataError(f"{attributes.file}: unknown attribute {name!r}: {suggestion(name, known)}")
    split_of = dict(zip(partition.columns["image_id"], partition.columns["partition"], strict=True))
    names = attributes.columns["image_id"]
    for where, what in partition.faults.found:
        attributes.faults.add(f"{partition.file}, {where}", what)
    kept = known if others else [target, attribute]
    columns = {
        name: [_VALUES.get(value, value) for value in values]
        for name, values in attributes.columns.items()
        if name in kept
    }
    # Some archives hold a folder of the same name inside.
    inner = f"{IMAGES}/{IMAGES}" if (folder / IMAGES / IMAGES).is_dir() else IMAGES
    columns |= {
        "path": [f"{inner}/{name}" for name in names],
        "split": [split_of.get(name, "") for name in names],
    }
    raw = RawTable(attributes.file, columns, attributes.line, attributes.faults)
    wanted = Columns(
        label=target,
        attribute=attribute,
        class_names=(f"not {target}", target),
        attribute_names=(f"not {attribute}", attribute),
    )
    return check_table(raw, folder, wanted, skip_bad=skip_bad)


def _read(file: Path, first_column: str, second_column: str | None = None) -> RawTable:
    if file.suffix == ".csv":
        raw = read_csv(file)
        # The first column has no fixed name; those of the others are attributes' names.
        names = list(raw.columns)
        renamed = dict(
            zip(
                names,
                (first_column, second_column, *names[2:]) if second_column else (first_column, *names[1:]),
                strict=True,
            )
        )
        return RawTable(raw.file, {renamed[n]: v for n, v in raw.columns.items()}, raw.line, raw.faults)
    return _read_txt(file, first_column, second_column)


def _read_txt(file: Path, first_column: str, second_column: str | None) -> RawTable:
    """The publisher's format: values between spaces; attributes have a line with their count and one with names."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from None
    header, start = ([first_column, second_column], 0) if second_column else ([first_column], 2)
    if not second_column:
        if len(lines) < 3 or not lines[0].strip().isdecimal():
            raise DataError(
                f"{file}: the first line must be the number of images and the second the attributes' names"
            )
        header += lines[1].split()
    faults = DataFaults(f"{file}: some rows cannot be used")
    rows, numbers = [], []
    one: dict[str, str] = {}
    for number, line in enumerate(lines[start:], start + 1):
        values = line.split()
        if len(values) == len(header):
            rows.append([one.setdefault(value, value) for value in values])
            numbers.append(number)
        elif values:
            faults.add(f"line {number}", f"{len(values)} values, but there are {len(header)} columns")
    if not second_column and int(lines[0]) != len(rows) + len(faults):
        raise DataError(
            f"{file}: the first line promises {int(lines[0])} images, but {len(rows) + len(faults)} follow; "
            "the file is damaged: fetch it again"
        )
    columns = {str(name): [row[i] for row in rows] for i, name in enumerate(header)}
    return RawTable(file, columns, numbers, faults)
