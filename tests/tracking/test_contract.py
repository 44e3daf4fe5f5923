"""Contract of the `Tracker` protocol; each implementation adds one class here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ipgl.config import TrackingSettings
from ipgl.tracking import TRACKERS, NoneTracker, Tracker, make_tracker


class TrackerContract:
    @pytest.fixture
    def settings(self) -> TrackingSettings:
        raise NotImplementedError

    @pytest.fixture
    def tracker(self, settings: TrackingSettings, storage: Path) -> Tracker:
        return make_tracker(settings, storage, storage / "digits" / "tracking.json")

    def test_a_whole_study_and_every_call_again(
        self, tracker: Tracker, make: SimpleNamespace, tmp_path: Path
    ) -> None:
        (tmp_path / "study.yaml").write_text("name: digits\n")
        for _ in range(2):
            tracker.check()
            tracker.open_study(make.study())
            tracker.record(make.run(rows=1))
            tracker.record(make.run(rows=3, result=make.result()))
            tracker.close_study(make.results(), [tmp_path / "study.yaml"])

    def test_failed_and_stopped_runs_are_recorded(self, tracker: Tracker, make: SimpleNamespace) -> None:
        tracker.open_study(make.study())
        tracker.record(make.run(key="a", rows=0, result=make.failure(trial="a")))
        tracker.record(make.run(key="b", rows=1, result=make.result(trial="b", status="stopped")))

    def test_interrupt_before_and_after_opening(self, tracker: Tracker, make: SimpleNamespace) -> None:
        tracker.interrupt()
        tracker.open_study(make.study())
        tracker.record(make.run())
        tracker.interrupt()
        tracker.open_study(make.study())
        tracker.record(make.run())

    def test_a_second_tracker_continues(
        self, tracker: Tracker, settings: TrackingSettings, storage: Path, make: SimpleNamespace
    ) -> None:
        tracker.open_study(make.study())
        tracker.record(make.run(rows=1))
        again = make_tracker(settings, storage, storage / "digits" / "tracking.json")
        again.open_study(make.study())
        again.record(make.run(rows=3, result=make.result()))
        again.close_study(make.results())

    def test_links_are_text_and_only_there_once_open(self, tracker: Tracker, make: SimpleNamespace) -> None:
        assert tracker.links == {}
        tracker.open_study(make.study())
        assert all(isinstance(text, str) and text for pair in tracker.links.items() for text in pair)


class TestNoneTracker(TrackerContract):
    @pytest.fixture
    def settings(self) -> TrackingSettings:
        return TrackingSettings(name="none")

    def test_leaves_no_file(self, tracker: NoneTracker, make: SimpleNamespace, storage: Path) -> None:
        before = sorted(storage.rglob("*"))
        tracker.open_study(make.study())
        tracker.record(make.run(result=make.result()))
        tracker.close_study(make.results())
        assert sorted(storage.rglob("*")) == before


class TestMlflowTracker(TrackerContract):
    @pytest.fixture
    def settings(self) -> TrackingSettings:
        return TrackingSettings(name="mlflow")


def test_every_registered_tracker_is_under_contract() -> None:
    assert set(TRACKERS) == {"mlflow", "none"}
