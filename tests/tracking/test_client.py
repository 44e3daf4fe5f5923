"""Creating the database file, and keeping MLflow quiet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ipgl.tracking import locate
from ipgl.tracking.client import connect


@pytest.fixture
def migration(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Function that replaces MLflow's slow migration; what it is given happens while the draft is made."""

    def replace(meanwhile: Callable[..., object] = lambda: None) -> None:
        def store(uri: str, artifact_root: str) -> SimpleNamespace:
            Path(uri.removeprefix("sqlite:///")).write_text("ours")
            meanwhile()
            return SimpleNamespace(engine=SimpleNamespace(dispose=lambda: None))

        monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.SqlAlchemyStore", store)
        monkeypatch.setattr("mlflow.MlflowClient", lambda uri: uri)

    return replace


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_the_file_appears_complete_and_alone(migration: Callable[..., None], tmp_path: Path) -> None:
    migration(
        meanwhile=lambda: None if names(tmp_path) != ["mlflow.db"] else pytest.fail("visible too early")
    )
    connect(locate(tmp_path, None))
    assert (tmp_path / "mlflow.db").read_text() == "ours"
    assert names(tmp_path) == ["mlflow.db"]


def test_another_driver_that_was_faster_wins(migration: Callable[..., None], tmp_path: Path) -> None:
    migration(meanwhile=lambda: (tmp_path / "mlflow.db").write_text("theirs"))
    connect(locate(tmp_path, None))
    assert (tmp_path / "mlflow.db").read_text() == "theirs"
    assert names(tmp_path) == ["mlflow.db"]


def test_a_file_system_without_hard_links(
    migration: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Path) -> None:
        raise PermissionError("no hard links here")

    migration()
    monkeypatch.setattr(os, "link", refuse)
    connect(locate(tmp_path, None))
    assert (tmp_path / "mlflow.db").read_text() == "ours"


def test_nothing_is_printed_and_telemetry_is_off(storage: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from ipgl.config import TrackingSettings\n"
        "from ipgl.tracking import StudyView, make_tracker\n"
        "storage = Path(sys.argv[1]); tracker = make_tracker(TrackingSettings(), storage, storage / 'tracking.json')\n"
        "tracker.check(); tracker.open_study(StudyView(study='digits', execution='e1')); tracker.interrupt()\n"
        "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled()"
    )
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "DO_NOT_TRACK")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(storage)],
        capture_output=True,
        text=True,
        timeout=120,
        env=quiet,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
