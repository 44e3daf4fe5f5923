from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from narrowing import as_images, as_rows, of_kind
from PIL import Image

from ipgl.core.errors import DataError
from ipgl.data.images import FileImage
from ipgl.data.pair_sources import ImagePairSettings, make_pairs
from ipgl.data.pair_sources.manifest import manifest_pairs
from ipgl.data.table import ImageTable

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


# Rows 0 to 5 train, 6 validates, 7 tests.
ROWS = [(0, 0, 0), (1, 1, 0), (0, 1, 0), (1, 0, 0), (0, 0, 0), (1, 1, 0), (0, 0, 1), (1, 1, 2)]
SETTINGS = ImagePairSettings(source="manifest", held_out=1)


@pytest.fixture
def table(make_table: Callable[..., ImageTable]) -> ImageTable:
    return make_table(ROWS)


@pytest.fixture
def write(table: ImageTable) -> Callable[..., None]:
    def write(*lines: str, header: str = "image_a,image_b,label") -> None:
        (table.root / "pairs.csv").write_text("\n".join([header, *lines]) + "\n")

    return write


def test_pairs_of_training_images_need_no_decoding_and_no_label(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    write("0.png,2.png", "3.png,1.png", header="image_a,image_b")
    found = manifest_pairs(SETTINGS, make_request(table))
    assert (as_rows(found.a).tolist(), as_rows(found.b).tolist()) == ([0, 3], [2, 1])
    assert found.label.tolist() == [0, 1]
    assert found.source.tolist() == [0, 3]


def test_other_images_are_decoded_and_take_their_partners_label(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    (table.root / "more").mkdir()
    for i in range(2):
        Image.new("RGB", (8, 8), (250, i, 0)).save(table.root / f"more/{i}.png")
    write("0.png,more/0.png,", "more/1.png,more/0.png,1", "3.png,2.png/../5.png,1")
    found = manifest_pairs(SETTINGS, make_request(table))
    assert [of_kind(image, FileImage).path.name for image in found.a] == ["0.png", "1.png", "3.png"]
    assert found.label.tolist() == [0, 1, 1]
    assert found.source.tolist() == [0, -1, 3]
    assert found.unit[0] == found.unit[1] != found.unit[2]
    made = make_pairs(SETTINGS, make_request(table))
    assert made.held_out.source.tolist() == [3]
    assert as_images(made.pairs.b).pixels(made.pairs.y * 0)[0, 0, 0].tolist() == [250, 0, 0]


def test_columns_may_stand_in_any_order_beside_others(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    write("x,0,2.png,0.png", header="note,label,image_b,image_a")
    found = manifest_pairs(SETTINGS, make_request(table))
    assert (as_rows(found.a).tolist(), as_rows(found.b).tolist()) == ([0], [2])


def test_all_faulty_rows_are_named_at_once(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest, tmp_path: Path
) -> None:
    (tmp_path / "outside.png").touch()
    write(
        "0.png,7.png,0",
        "6.png,0.png,0",
        "../outside.png,0.png,0",
        f"{tmp_path}/outside.png,0.png,0",
        "0.png,nowhere.png,0",
        "0.png,./0.png,0",
        "0.png,,0",
        "0.png,2.png,2",
        "0.png,2.png,dog",
        "0.png,2.png,1",
        "0.png,1.png,",
        "0.png,2.png,0",
    )
    with pytest.raises(DataError) as error:
        manifest_pairs(SETTINGS, make_request(table))
    file, root = table.root / "pairs.csv", table.root
    use = "pairs may use training images, and images outside the table"
    assert str(error.value).splitlines() == [
        f"{file}: some pairs break a rule:",
        f"  {file}, line 2: '7.png' is the test image of line 9 in table.csv; {use}",
        f"  {file}, line 3: '6.png' is the validation image of line 8 in table.csv; {use}",
        f"  {file}, line 4: the path must stay below the root, but got '../outside.png'",
        f"  {file}, line 5: the path must stay below the root, but got '{tmp_path}/outside.png'",
        f"  {file}, line 6: {root / 'nowhere.png'} is missing",
        f"  {file}, line 7: image_a and image_b must differ, but both are '0.png'",
        f"  {file}, line 8: image_a and image_b must name files, but one is empty",
        f"  {file}, line 9: label must be one of 0 to 1, but got '2'",
        f"  {file}, line 10: label must be one of 0 to 1, but got 'dog'",
        f"  {file}, line 11: label is 1, but the table says 0",
        f"  {file}, line 12: both members must have one label, but the table says 0 and 1",
        "Mend the rows, or leave them out with --skip-bad.",
    ]


def test_more_than_twenty_faults_are_counted(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    write(*["0.png,7.png,0"] * 33)
    with pytest.raises(DataError) as error:
        manifest_pairs(SETTINGS, make_request(table))
    assert str(error.value).splitlines()[21] == "  and 13 more"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_test_image_is_refused_under_another_name(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest, link: Callable[..., object]
) -> None:
    link(table.root / "7.png", table.root / "innocent.png")
    write("0.png,innocent.png,0")
    with pytest.raises(DataError, match=r"'innocent\.png' is the test image of line 9"):
        manifest_pairs(SETTINGS, make_request(table))


@pytest.mark.parametrize("name", ["./7.png", ".\\\\7.png", ".//7.png", "x/../7.png", ".\\\\.\\\\7.png"])
def test_a_test_image_is_refused_under_every_spelling(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest, name: str
) -> None:
    write(f"0.png,{name},0")
    with pytest.raises(DataError) as caught:
        manifest_pairs(SETTINGS, make_request(table))
    assert f"line 2: {name!r} is the test image of line 9 in table.csv; pairs may use" in str(caught.value)


@pytest.mark.parametrize("form", ["./{}", ".\\\\{}", ".//{}", "x/../{}"])
def test_a_training_image_is_the_same_under_every_spelling(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest, form: str
) -> None:
    write(f"{form.format('0.png')},2.png", f"3.png,{form.format('1.png')}", header="image_a,image_b")
    found = manifest_pairs(SETTINGS, make_request(table))
    assert (as_rows(found.a).tolist(), as_rows(found.b).tolist()) == ([0, 3], [2, 1])
    write("0.png,2.png", "3.png,1.png", header="image_a,image_b")
    assert found.names == manifest_pairs(SETTINGS, make_request(table)).names


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_training_image_is_known_through_a_link(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest, link: Callable[..., object]
) -> None:
    link(table.root / "0.png", table.root / "other.png")
    write("other.png,2.png", header="image_a,image_b")
    found = manifest_pairs(SETTINGS, make_request(table))
    assert (as_rows(found.a).tolist(), found.label.tolist(), found.source.tolist()) == ([0], [0], [0])


@pytest.mark.parametrize("name", ["copy.png", "copy.bmp"])
def test_a_copy_of_a_test_image_is_refused_by_its_pixels(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest, name: str
) -> None:
    with Image.open(table.root / "7.png") as image:
        image.save(table.root / name)
    write(f"0.png,{name},0", "0.png,2.png,0", "3.png,5.png,1")
    settings = SETTINGS.model_copy(update={"held_out": 2})
    with pytest.raises(DataError) as caught:
        make_pairs(settings, make_request(table))
    fault = f"{table.root}/pairs.csv, line 2 ({name}): has the pixels of the test image of line 9 in table.csv (7.png)"
    assert str(caught.value) == (
        f"{table.root}/table.csv: some pairs show pictures of validation or test:\n  {fault}\n"
        "Take these pictures out of the pairs, or leave the pairs out with --skip-bad."
    )
    made = make_pairs(settings, make_request(table, skip_bad=True))
    assert f"pair skipped: {fault}" in made.notes
    kept = [
        as_images(pairs.b).pixels(pairs.y * 0 + i)[0, 0, 0].tolist()
        for pairs in (made.pairs, made.held_out)
        for i in range(len(pairs))
    ]
    assert sorted(kept) == [[2, 4, 198], [5, 10, 195]]  # the colours of 2.png and 5.png


def test_a_training_row_with_a_test_images_pixels_is_refused(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    with Image.open(table.root / "6.png") as image:
        image.save(table.root / "2.png", compress_level=1)
    write("0.png,2.png,0", "4.png,0.png,0")
    with pytest.raises(DataError) as caught:
        manifest_pairs(SETTINGS, make_request(table))
    assert (
        "line 2: '2.png' has the pixels of the validation image of line 8 in table.csv (6.png); pairs may use"
        in str(caught.value)
    )


def test_a_label_is_needed_where_the_table_knows_none(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    for name in ("x", "y"):
        Image.new("RGB", (8, 8)).save(table.root / f"{name}.png")
    write("x.png,y.png,")
    with pytest.raises(DataError, match="line 2: neither image is in the table"):
        manifest_pairs(SETTINGS, make_request(table))


def test_skipping_keeps_the_others_and_notes_the_rows(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    write("0.png,7.png,0", "0.png,2.png,0", "3.png,5.png,1")
    made = make_pairs(SETTINGS, make_request(table, skip_bad=True))
    assert sorted([*made.pairs.source.tolist(), *made.held_out.source.tolist()]) == [0, 3]
    assert len(made.notes) == 1
    assert made.notes[0].startswith(
        f"pair skipped: {table.root / 'pairs.csv'}, line 2: '7.png' is the test image"
    )


def test_a_damaged_other_image_is_named_or_skipped(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest
) -> None:
    (table.root / "bad.png").write_bytes(b"no picture")
    write("0.png,bad.png,0", "0.png,2.png,0", "3.png,5.png,1")
    with pytest.raises(DataError, match=r"pairs\.csv, line 2"):
        make_pairs(SETTINGS, make_request(table))
    made = make_pairs(SETTINGS, make_request(table, skip_bad=True))
    assert len(made.pairs) + len(made.held_out) == 2
    assert [note for note in made.notes if "pairs.csv, line 2" in note]


@pytest.mark.parametrize(
    ("header", "found"),
    [("a,b", "image_a, image_b is missing; found: a,b"), ("image_a", "image_b is missing")],
)
def test_missing_columns_are_named(
    table: ImageTable, write: Callable[..., None], make_request: MakeRequest, header: str, found: str
) -> None:
    write("0.png,2.png", header=header)
    with pytest.raises(DataError, match=f"line 1: the columns are image_a,image_b.*{found}"):
        manifest_pairs(SETTINGS, make_request(table))


def test_an_empty_or_missing_file(table: ImageTable, make_request: MakeRequest) -> None:
    with pytest.raises(DataError, match=r"pairs\.csv: there is no such file; pairs\.file names"):
        manifest_pairs(SETTINGS, make_request(table))
    (table.root / "pairs.csv").touch()
    with pytest.raises(DataError, match="found: an empty file"):
        manifest_pairs(SETTINGS, make_request(table))
    (table.root / "pairs.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as CSV in UTF-8"):
        manifest_pairs(SETTINGS, make_request(table))


def test_a_file_outside_the_root_is_refused(
    table: ImageTable, make_request: MakeRequest, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text("image_a,image_b\n0.png,2.png\n")
    with pytest.raises(DataError, match=r"pairs\.file must stay below"):
        manifest_pairs(SETTINGS.model_copy(update={"file": "../pairs.csv"}), make_request(table))
