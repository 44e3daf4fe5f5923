"""Stored predictions: an exact round trip, and errors for damaged files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from numpy.typing import NDArray

from ipgl.evaluation import Predictions, read_predictions

# What reading may raise; `ipgl.storage.trial_dir` turns these into words.
REFUSED = (OSError, ValueError, KeyError)


def make(examples: int = 60, classes: int = 3, pairs: int = 7, points: int = 4) -> Predictions:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> NDArray[np.int32]:
        return rng.integers(classes, size=shape, dtype=np.int32)

    return Predictions(
        label=draw(examples),
        attribute=draw(examples),
        prediction=draw(examples),
        probability=rng.dirichlet(np.ones(classes), size=examples).astype(np.float32),
        corrupted={"hue": draw(3, examples), "saturation_of_all": draw(2, examples)},
        levels={"hue": (0.0, 1 / 3, 1.0), "saturation_of_all": (1.0, 0.5)},
        along=draw(points, pairs),
    )


def assert_same(found: Predictions, expected: Predictions) -> None:
    assert found.levels == expected.levels
    assert found.corrupted.keys() == expected.corrupted.keys()
    arrays = [(getattr(found, name), getattr(expected, name)) for name in ARRAYS]
    arrays += [(found.corrupted[name], rows) for name, rows in expected.corrupted.items()]
    for mine, theirs in arrays:
        np.testing.assert_array_equal(mine, theirs, strict=True)  # shapes and types, too


ARRAYS = [field.name for field in fields(Predictions) if field.name not in ("corrupted", "levels")]


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "predictions.parquet", tmp_path / "pairs.parquet"


@pytest.fixture
def written(paths: tuple[Path, Path]) -> tuple[Path, Path]:
    make().write(*paths)
    return paths


def test_everything_comes_back(written: tuple[Path, Path]) -> None:
    assert_same(read_predictions(*written), make())


def test_levels_come_back_to_the_last_bit(paths: tuple[Path, Path]) -> None:
    levels = (0.0, 1e-7, 0.1, 0.1 + 1e-9, 1 / 3, 1.0)
    one = replace(
        make(), corrupted={"hue": np.arange(6 * 60, dtype=np.int32).reshape(6, 60)}, levels={"hue": levels}
    )
    one.write(*paths)
    assert_same(read_predictions(*paths), one)


def test_without_pairs_and_corruptions(paths: tuple[Path, Path]) -> None:
    none = np.zeros((0, 0), dtype=np.int32)
    plain = replace(make(), corrupted={}, levels={}, along=none)
    plain.write(*paths)
    assert not paths[1].exists()
    assert_same(read_predictions(*paths), plain)


def test_pairs_of_an_earlier_run_are_not_taken_for_its_own(written: tuple[Path, Path]) -> None:
    plain = replace(make(), along=np.zeros((0, 0), dtype=np.int32))
    plain.write(*written)
    assert_same(read_predictions(*written), plain)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -0.0])
def test_numbers_that_are_none_come_back(paths: tuple[Path, Path], value: float) -> None:
    one = make()
    one.probability[3, 1] = value
    one.probability[5, 1] = np.nan
    one.write(*paths)
    assert read_predictions(*paths).probability.tobytes() == one.probability.tobytes()


def test_other_tools_can_read_the_table(written: tuple[Path, Path]) -> None:
    table = pyarrow.parquet.read_table(written[0], use_threads=False)
    assert table.column_names == [
        "index",
        "label",
        "attribute",
        "prediction",
        "correct",
        *(f"probability_{k}" for k in range(3)),
        *(f"prediction_hue={level}" for level in ("0", "0.3333333333333333", "1")),
        *(f"prediction_saturation_of_all={level}" for level in ("1", "0.5")),
    ]
    assert table.column("index").to_pylist() == list(range(60))
    one = make()
    assert table.column("correct").to_pylist() == (one.label == one.prediction).tolist()
    along = pyarrow.parquet.read_table(written[1], use_threads=False)
    assert along.column_names == [f"prediction_t={t}" for t in ("0", "0.333333", "0.666667", "1")]
    assert along.num_rows == 7


def test_correct_and_consistent_by_hand() -> None:
    one = Predictions(
        label=np.array([0, 1, 1], dtype=np.int32),
        attribute=np.zeros(3, dtype=np.int32),
        prediction=np.array([0, 0, 1], dtype=np.int32),
        probability=np.full((3, 2), 0.5, dtype=np.float32),
        along=np.array([[0, 1], [0, 0], [1, 1]], dtype=np.int32),
    )
    assert one.correct.tolist() == [True, False, True]
    assert one.consistent.tolist() == [[True, True], [True, False], [False, True]]


# --- damage ---


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_file_is_refused(written: tuple[Path, Path], which: int) -> None:
    written[which].unlink()
    with pytest.raises(FileNotFoundError, match=written[which].name):
        read_predictions(*written)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"PK\x03\x04 and no more", b"a,b\n1,2\n" * 9])
def test_a_file_of_other_content_is_refused(written: tuple[Path, Path], which: int, content: bytes) -> None:
    written[which].write_bytes(content)
    with pytest.raises(REFUSED):
        read_predictions(*written)


@pytest.mark.parametrize("which", [0, 1])
def test_a_truncated_file_is_refused(written: tuple[Path, Path], which: int) -> None:
    content = written[which].read_bytes()
    for size in (1, 4, 8, len(content) // 4, len(content) // 2, len(content) - 9, len(content) - 1):
        written[which].write_bytes(content[:size])
        with pytest.raises(REFUSED):
            read_predictions(*written)


@pytest.mark.parametrize("which", [0, 1])
def test_damage_inside_is_refused_or_changes_nothing(written: tuple[Path, Path], which: int) -> None:
    """Some bytes (statistics, the name of the writer) mean nothing here; damage there may pass."""
    content = bytearray(written[which].read_bytes())
    refused = 0
    for position in range(0, len(content), (5, 3)[which]):
        for mask in (0x01, 0xFF):
            spoilt = bytearray(content)
            spoilt[position] ^= mask
            written[which].write_bytes(spoilt)
            try:
                found = read_predictions(*written)
            except REFUSED:
                refused += 1
            else:
                assert_same(found, make())
    assert refused > len(content) / 10


def rewrite(path: Path, change: Callable[..., object]) -> None:
    """Write a table again as another program would, with what it says about itself."""
    table = pyarrow.parquet.read_table(path, use_threads=False)
    pyarrow.parquet.write_table(change(table), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns(["label"]),
        lambda table: table.drop_columns(["probability_2"]),
        lambda table: table.drop_columns(["prediction_hue=1"]),
        lambda table: table.slice(1),
        lambda table: table.rename_columns(
            {name: name.replace("hue=1", "hue=0.5") for name in table.column_names}
        ),
        lambda table: table.set_column(1, "label", table.column("attribute")),
        lambda table: table.replace_schema_metadata({}),
    ],
)
def test_a_table_that_is_not_the_one_that_was_written_is_refused(
    written: tuple[Path, Path], change: Callable[..., object]
) -> None:
    rewrite(written[0], change)
    with pytest.raises(
        ValueError, match=r"predictions\.parquet: the columns are not those that were written"
    ):
        read_predictions(*written)


def test_pairs_of_another_number_of_points_are_refused(written: tuple[Path, Path]) -> None:
    rewrite(written[1], lambda table: table.drop_columns(["prediction_t=1"]))
    with pytest.raises(ValueError, match=r"pairs\.parquet: the columns are not those that were written"):
        read_predictions(*written)


def test_the_two_files_are_not_exchanged(written: tuple[Path, Path]) -> None:
    with pytest.raises(REFUSED):
        read_predictions(written[1], written[0])


def test_a_failed_write_leaves_the_old_file(written: tuple[Path, Path]) -> None:
    old = [path.read_bytes() for path in written]
    uneven = replace(make(), attribute=np.zeros(59, dtype=np.int32))
    with pytest.raises(ValueError, match="length"):
        uneven.write(*written)
    assert [path.read_bytes() for path in written] == old
    assert sorted(path.name for path in written[0].parent.iterdir()) == [
        "pairs.parquet",
        "predictions.parquet",
    ]
