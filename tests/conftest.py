"""Tests leave nothing behind: environment, threads, Ray."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

# Set once on import by the tracker, to keep MLflow quiet; and what pytest and libraries write for themselves.
_OWN = ("MLFLOW_", "PYTEST_", "GIT_PYTHON_", "KMP_", "TORCH", "PYDEVD_", "COVERAGE_")


_leave, _own_pid = os._exit, os.getpid()


def _exit(code: int) -> None:
    """Ending this process at once would skip all later tests, with an exit code that may say that they passed."""
    if os.getpid() == _own_pid:
        raise AssertionError(f"the test ended the process with code {code}")
    _leave(code)


os._exit = _exit  # type: ignore[assignment]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    environment, threads = _environment(), set(threading.enumerate())
    yield
    changed = {
        name
        for name in environment.keys() | _environment().keys()
        if environment.get(name) != os.environ.get(name)
    }
    assert not changed, f"the test left the environment changed: {sorted(changed)}"
    # MLflow keeps its pools of artifact threads for the life of the process.
    left = [
        t.name
        for t in threading.enumerate()
        if t not in threads and t.is_alive() and not t.daemon and not t.name.startswith("Mlflow")
    ]
    assert not left, f"the test left threads running: {left}"
    ray = sys.modules.get("ray")
    assert ray is None or not ray.is_initialized(), "the test left Ray running"
