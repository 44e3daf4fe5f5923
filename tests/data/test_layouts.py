"""Every known layout of a data set is found; two matches are an error, and so is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipgl.core.errors import DataError
from ipgl.data.celeba import ATTRIBUTES, IMAGES, PARTITION
from ipgl.data.layouts import CELEBA_FOLDERS, WATERBIRDS_FOLDERS, dataset_root, find_layout


def waterbirds(root: Path, folder: str | None = None) -> Path:
    return find_layout("Waterbirds", root, folder, WATERBIRDS_FOLDERS, ["metadata.csv"])


def celeba(root: Path, folder: None = None) -> Path:
    return find_layout("CelebA", root, folder, CELEBA_FOLDERS, [ATTRIBUTES, PARTITION, IMAGES])


def put_waterbirds(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text("")
    return folder


def put_celeba(folder: Path, form: str = "csv") -> Path:
    (folder / IMAGES).mkdir(parents=True)
    for name in ("list_attr_celeba", "list_eval_partition"):
        (folder / f"{name}.{form}").write_text("")
    return folder


@pytest.mark.parametrize(
    "folder",
    [
        ".",
        "waterbird_complete95_forest2water2",
        "waterbird_1.0_forest2water2",
        "waterbird_0.8_forest2water2",
        "cub/data/waterbird_complete95_forest2water2",
        "cub/data",
        "waterbirds_v1.0",
        "waterbirds",
        "waterbirds/waterbird_complete95_forest2water2",
    ],
)
def test_waterbirds_folders(tmp_path: Path, folder: str) -> None:
    expected = put_waterbirds(tmp_path / folder)
    (tmp_path / "other").mkdir()
    assert waterbirds(tmp_path).samefile(expected)


@pytest.mark.parametrize("form", ["csv", "txt"])
@pytest.mark.parametrize("folder", [".", "celeba", "celebA", "celebA/data", "celebA_v1.0"])
def test_celeba_folders(tmp_path: Path, folder: str, form: str) -> None:
    expected = put_celeba(tmp_path / folder, form)
    assert celeba(tmp_path).samefile(expected)


def test_two_folders_are_asked_about(tmp_path: Path) -> None:
    for name in ("waterbird_complete95_forest2water2", "waterbird_1.0_forest2water2"):
        put_waterbirds(tmp_path / name)
    with pytest.raises(DataError) as caught:
        waterbirds(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds Waterbirds more than once: waterbird_1.0_forest2water2, "
        "waterbird_complete95_forest2water2; set `folder` to the one you mean"
    )
    assert waterbirds(tmp_path, "waterbird_1.0_forest2water2") == tmp_path / "waterbird_1.0_forest2water2"


def test_a_link_is_no_second_folder(tmp_path: Path) -> None:
    put_waterbirds(tmp_path / "waterbirds_v1.0")
    (tmp_path / "waterbirds").symlink_to(tmp_path / "waterbirds_v1.0")
    assert waterbirds(tmp_path).samefile(tmp_path / "waterbirds_v1.0")


def test_no_folder_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "celeba" / IMAGES).mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        celeba(tmp_path)
    assert str(caught.value) == (
        f"CelebA is not below {tmp_path}.\n"
        "  looked for list_attr_celeba.csv or list_attr_celeba.txt, list_eval_partition.csv or "
        "list_eval_partition.txt, img_align_celeba in: ., celeba, celebA, celebA/data, celebA_v1.0\n"
        "  found there: MNIST, celeba\n"
        f"  {tmp_path}/celeba lacks list_attr_celeba.csv or list_attr_celeba.txt, "
        "list_eval_partition.csv or list_eval_partition.txt\n"
        "Set `root` to the folder that holds one of these, or `folder` to the folder itself."
    )


def test_a_folder_that_the_user_names_must_hold_it(tmp_path: Path) -> None:
    put_waterbirds(tmp_path / "waterbirds")
    with pytest.raises(DataError, match=r"looked for metadata\.csv in: elsewhere"):
        waterbirds(tmp_path, "elsewhere")


def test_the_root_is_below_the_data_folder_or_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPGL_DATA", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert dataset_root("mine") == tmp_path / "mine"
    assert dataset_root("") == tmp_path
    assert dataset_root(str(tmp_path / "mine")) == tmp_path / "mine"
    with pytest.raises(DataError, match=r"nothing is not a folder; set `root` to the data set's folder"):
        dataset_root("nothing")
