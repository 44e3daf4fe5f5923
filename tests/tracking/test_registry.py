"""Selection of a tracker by name, without importing mlflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ipgl.config import TrackingSettings
from ipgl.core.errors import TrackingError
from ipgl.core.registry import UnknownNameError
from ipgl.tracking import MlflowTracker, NoneTracker, make_tracker


def test_names(tmp_path: Path) -> None:
    assert isinstance(make_tracker(TrackingSettings(), tmp_path, tmp_path / "c.json"), MlflowTracker)
    assert isinstance(make_tracker(TrackingSettings(name="none"), tmp_path, tmp_path / "c.json"), NoneTracker)


def test_unknown_name_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown tracker 'mlfow': did you mean 'mlflow'\? Choices: mlflow, none"
    ):
        make_tracker(TrackingSettings(name="mlfow"), tmp_path, tmp_path / "c.json")


def test_bad_uri_is_refused_when_the_tracker_is_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"tracking\.uri must be the address"):
        make_tracker(TrackingSettings(uri="./mlruns"), tmp_path, tmp_path / "c.json")


@pytest.mark.parametrize(("extra", "loaded"), [("", "False"), ("; import mlflow", "True")])
def test_import_does_not_load_mlflow(extra: str, loaded: str) -> None:
    """The second case proves that the check can fail."""
    code = f"import sys, ipgl.tracking{extra}; print('mlflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == loaded
