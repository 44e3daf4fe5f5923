"""Retries of transient storage errors, and recognition of permanent ones."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ipgl.core.errors import StudyStateError
from ipgl.core.retry import is_permanent, retrying
from ipgl.storage.study_dir import StudyFolder, try_to_write


class Access:
    """Fails a number of times, then gives 7."""

    def __init__(self, number: int, failures: int) -> None:
        self._number, self._failures, self.calls = number, failures, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise OSError(self._number, "it fails")
        return 7


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("ipgl.core.retry.time.sleep", waited.append)
    return waited


@pytest.mark.parametrize(("failures", "waited"), [(0, []), (1, [0.1]), (3, [0.1, 0.5, 2.0])])
def test_what_passes_is_waited_out(waits: list[float], failures: int, waited: list[float]) -> None:
    assert retrying(Access(errno.EIO, failures)) == 7
    assert waits == waited


def test_four_failures_are_enough(waits: list[float]) -> None:
    access = Access(errno.ESTALE, 4)
    with pytest.raises(OSError, match="it fails"):
        retrying(access)
    assert access.calls == 4


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EACCES])
def test_what_does_not_pass_is_not_waited_for(waits: list[float], number: int) -> None:
    access = Access(number, 1)
    with pytest.raises(OSError, match="it fails"):
        retrying(access)
    assert access.calls == 1
    assert waits == []


def test_what_lasts() -> None:
    assert is_permanent(OSError(errno.ENOSPC, ""))
    assert is_permanent(OSError(errno.EROFS, ""))
    assert not is_permanent(OSError(errno.EIO, ""))
    assert not is_permanent(ValueError())
    assert not is_permanent(None)


def test_a_storage_that_is_gone_refuses_and_names_the_next_step(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert try_to_write(folder) is None
    assert list(tmp_path.iterdir()) == []
    gone = StudyFolder(tmp_path / "gone")
    assert isinstance(try_to_write(gone), FileNotFoundError)
    with pytest.raises(StudyStateError, match=r"No such file.*ipgl study resume gone --storage"):
        gone.write_state({})
