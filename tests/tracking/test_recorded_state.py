"""The tracker's state file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipgl.tracking.recorded_state import RecordedRun, RecordedStudy, load_recorded, save_recorded

FULL = RecordedStudy(
    store="sqlite:////x",
    experiment_id="1",
    execution="e1",
    parent="p",
    runs={"a": RecordedRun(run_id="r", last_step=30, closed=True)},
)


def test_round_trip_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "study" / "tracking.json"
    save_recorded(FULL, path)
    assert load_recorded(path) == FULL
    assert [p.name for p in path.parent.iterdir()] == ["tracking.json"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"unknown": 1}', '{"runs": {"a": {}}}', "\xff"])
def test_a_missing_or_damaged_file_is_an_empty_record(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "tracking.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    assert load_recorded(path) == RecordedStudy()


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tracking.json"
    save_recorded(FULL, path)

    def full_disk(*_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_recorded(RecordedStudy(), path)
    assert load_recorded(path) == FULL
    assert [p.name for p in tmp_path.iterdir()] == ["tracking.json"]
