"""Tables of images: parsed rows, and the message of each fault."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import pytest
from image_files import write_csv

from ipgl.core.errors import DataError
from ipgl.data.manifest import Columns, check_table, read_csv
from ipgl.data.table import ImageTable

HEADER = ["path", "label", "attribute", "split"]
GOOD: list[list[object]] = [["a/0.png", 0, 0, "train"], ["a/1.png", 1, 1, "val"], ["a/2.png", 1, 0, "test"]]


class ColumnNames(TypedDict, total=False):
    """Fields of `Columns`."""

    path: str
    label: str
    attribute: str
    split: str
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]


def table(
    tmp_path: Path,
    rows: Sequence[Sequence[object]],
    header: list[str] = HEADER,
    skip_bad: bool = False,
    **columns: Unpack[ColumnNames],
) -> tuple[ImageTable, tuple[str, ...]]:
    raw = read_csv(write_csv(tmp_path / "m.csv", header, rows))
    return check_table(raw, tmp_path, Columns(**columns), skip_bad=skip_bad)


def message(
    tmp_path: Path,
    rows: Sequence[Sequence[object]],
    header: list[str] = HEADER,
    **columns: Unpack[ColumnNames],
) -> str:
    with pytest.raises(DataError) as caught:
        table(tmp_path, rows, header, **columns)
    return str(caught.value).replace(str(tmp_path), "ROOT")


def test_rows_become_numbers(tmp_path: Path) -> None:
    found, notes = table(tmp_path, GOOD)
    assert notes == ()
    assert found.paths == ("a/0.png", "a/1.png", "a/2.png")
    assert found.label.tolist() == [0, 1, 1]
    assert found.attribute.tolist() == [0, 1, 0]
    assert found.split.tolist() == [0, 1, 2]
    assert found.environment.tolist() == [0, 0, 0]
    assert found.line.tolist() == [2, 3, 4]
    assert (found.class_names, found.attribute_names) == (("0", "1"), ("0", "1"))
    assert found.where(1) == f"{tmp_path}/m.csv, line 3 (a/1.png)"
    assert found.source(2).path == tmp_path / "a/2.png"
    assert found.rows_of(1).tolist() == [1]
    part = found.take(np.array([2, 0]))
    assert (part.paths, part.line.tolist(), part.extra["label"].tolist()) == (
        ("a/2.png", "a/0.png"),
        [4, 2],
        ["1", "0"],
    )


def test_any_number_of_named_classes_and_attributes(tmp_path: Path) -> None:
    rows = [["0", "cow", "grass", "0"], ["1", "camel", "sand", "1"], ["2", "ant", "mud", "Validation"]]
    found, _ = table(tmp_path, rows)
    assert found.class_names == ("ant", "camel", "cow")
    assert found.label.tolist() == [2, 1, 0]
    assert found.attribute_names == ("grass", "mud", "sand")
    assert found.split.tolist() == [0, 1, 1]
    found, _ = table(tmp_path, rows, class_names=("cow", "camel", "ant", "bee"))
    assert found.label.tolist() == [0, 1, 2]
    assert found.class_names == ("cow", "camel", "ant", "bee")


def test_numbers_count_among_given_names(tmp_path: Path) -> None:
    found, _ = table(tmp_path, GOOD, class_names=("cow", "camel"))
    assert (found.class_names, found.label.tolist()) == (("cow", "camel"), [0, 1, 1])


def test_other_columns_are_kept_and_environment_is_read(tmp_path: Path) -> None:
    rows = [[*row, number + 3, f"p{number}"] for number, row in enumerate(GOOD)]
    found, _ = table(tmp_path, rows, header=[*HEADER, "environment", "place"])
    assert found.environment.tolist() == [3, 4, 5]
    assert found.extra["place"].tolist() == ["p0", "p1", "p2"]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    rows: list[list[object]] = [["x", "1", "0", "train"], ["y", "0", "1", "test"]]
    found, _ = table(
        tmp_path,
        rows,
        header=["file", "y", "place", "part"],
        path="file",
        label="y",
        attribute="place",
        split="part",
    )
    assert found.paths == ("x", "y")
    assert found.label.tolist() == [1, 0]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\ufeffpath,label,attribute,split\na,0,0,train\nb,1,0,test\n")
    found, _ = check_table(read_csv(tmp_path / "m.csv"), tmp_path, Columns())
    assert found.paths == ("a", "b")


def test_all_faults_stand_in_one_error(tmp_path: Path) -> None:
    rows = [
        *GOOD,
        ["a/3.png", 1, 0, "trian"],
        ["a/4.png", 7, 0, "train"],
        ["a/5.png", -1, 0, "train"],
        ["a/6.png", 1, "", "train"],
        ["/etc/passwd", 1, 0, "train"],
        ["../up.png", 1, 0, "train"],
        ["a/../../up.png", 1, 0, "train"],
        ["", 1, 0, "train"],
        ["a/1.png", 1, 0, "test"],
        ["a/9.png", 1, 0],
        ["a/10.png", 8, 9, "?"],
    ]
    # A negative label makes the column one of names, unless these are given.
    text = message(tmp_path, rows, class_names=("cow", "camel"), attribute_names=("grass", "sand"))
    assert text == (
        "ROOT/m.csv: some rows cannot be used:\n"
        "  line 14: 3 values, but the header has 4\n"
        "  line 5: split must be train, val, test or 0, 1, 2, but got 'trian'\n"
        "  line 6: label must be one of cow, camel, but got '7'\n"
        "  line 7: label must be one of cow, camel, but got '-1'\n"
        "  line 8: attribute is empty\n"
        "  line 9: the path must stay below the root, but got '/etc/passwd'\n"
        "  line 10: the path must stay below the root, but got '../up.png'\n"
        "  line 11: the path must stay below the root, but got 'a/../../up.png'\n"
        "  line 12: the path is empty\n"
        "  line 13: a/1.png stands in line 3 already\n"
        "  line 15: label must be one of cow, camel, but got '8'\n"
        "  line 15: attribute must be one of grass, sand, but got '9'\n"
        "  line 15: split must be train, val, test or 0, 1, 2, but got '?'\n"
        "Correct these rows, or leave them out with --skip-bad."
    )


@pytest.mark.parametrize("name", ["./a/1.png", "a\\\\1.png", "a//1.png", "a/b/../1.png"])
def test_a_path_is_the_same_under_every_spelling(tmp_path: Path, name: str) -> None:
    found, _ = table(tmp_path, [*GOOD[:1], [name, 1, 1, "val"], *GOOD[2:]])
    assert found.paths == ("a/0.png", "a/1.png", "a/2.png")
    assert f"line 5: {name} stands in line 3 already" in message(tmp_path, [*GOOD, [name, 1, 0, "test"]])


def test_a_nul_in_a_path_is_a_fault_of_its_row(tmp_path: Path) -> None:
    text = message(tmp_path, [*GOOD, ["a/\0.png", 1, 0, "test"]])
    assert "line 5: the path holds a NUL character: 'a/\\x00.png'" in text


def test_letters_may_be_composed_otherwise_than_on_disk(tmp_path: Path) -> None:
    on_disk, written = (unicodedata.normalize(form, "Größe.png") for form in ("NFD", "NFC"))
    (tmp_path / on_disk).touch()
    assert table(tmp_path, [*GOOD, [written, 1, 0, "test"]])[0].paths[3] == on_disk
    assert f"line 6: {on_disk} stands in line 5 already" in message(
        tmp_path, [*GOOD, [written, 1, 0, "test"], [on_disk, 1, 0, "test"]]
    )


def test_faulty_rows_can_be_left_out(tmp_path: Path) -> None:
    found, notes = table(tmp_path, [GOOD[0], ["a/9.png", 1, 0, "?"], *GOOD[1:]], skip_bad=True)
    assert found.line.tolist() == [2, 4, 5]
    assert notes == (
        f"row left out: {tmp_path}/m.csv, line 3: split must be train, val, test or 0, 1, 2, but got '?'",
    )


def test_a_number_far_from_the_others_is_no_class(tmp_path: Path) -> None:
    text = message(tmp_path, [*GOOD, ["a/3.png", 11, 0, "train"]])
    assert "line 5: label must be one of 0, 1, but got '11'" in text


def test_many_names_are_counted_instead_of_listed(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(12))
    text = message(tmp_path, [*GOOD, ["b", "x", 0, "train"]], class_names=names)
    assert "label must be one of 12 names or 0 to 11, but got 'x'" in text


def test_an_environment_is_a_whole_number(tmp_path: Path) -> None:
    rows = [[*GOOD[0], "1"], [*GOOD[1], "home"]]
    text = message(tmp_path, rows, header=[*HEADER, "environment"])
    assert "line 3: environment must be a whole number from 0, but got 'home'" in text


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            ["path", "labels", "attribute", "split"],
            "ROOT/m.csv: the column 'label' is missing: did you mean 'labels'? "
            "Choices: attribute, labels, path, split.",
        ),
        (
            ["path", "label", "x", "y"],
            "ROOT/m.csv: the columns 'attribute', 'split' are missing; found: path, label, x, y",
        ),
        (
            ["path", "label", "split", "split"],
            "ROOT/m.csv: the header names split twice; its first line must name each column once",
        ),
    ],
)
def test_wrong_columns(tmp_path: Path, header: list[str], expected: str) -> None:
    assert message(tmp_path, GOOD, header=header) == expected


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    assert message(tmp_path, [["a", 0, 0, "train"]]) == (
        "ROOT/m.csv: the column 'label' must hold at least 2 classes, but holds 1"
    )


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"m\.csv is missing"):
        read_csv(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text("")
    with pytest.raises(DataError, match="the file is empty; its first line must name each column once"):
        read_csv(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"cannot be read as a CSV file .* save it as UTF-8 text with commas"):
        read_csv(tmp_path / "m.csv")
