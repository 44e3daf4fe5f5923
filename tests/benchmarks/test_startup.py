"""What a command costs before it does anything: whole processes, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

COMMANDS = {
    "python alone": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "--help": ["-m", "ipgl", "--help"],
    "study validate": [
        "-m",
        "ipgl",
        "study",
        "validate",
        str(Path(__file__).parents[2] / "studies/quickstart.yaml"),
    ],
}


def test_commands(keep: Callable[[dict[str, float]], None]) -> None:
    """Targets: 0.3 s for `--help`, 3 s for `study validate`."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(6):
        for name, arguments in COMMANDS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            if number:  # the first reads files that are not in memory yet
                seconds[name].append(time.perf_counter() - begin)
    keep({f"{name} (s)": statistics.median(values) for name, values in seconds.items()})
