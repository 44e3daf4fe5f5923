"""The script behind docs/results/balanced.md runs, whatever it is asked for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "balanced_variants.py"


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.parametrize(
    ("study", "only", "rate"),
    [
        ("rationale", "unit", "1e-3"),
        ("plain_descent", "spread", "0.1"),
        ("adaptive", "rationale", "1e-3"),
        ("hidden", "logit, 500", "1e-3"),
    ],
)
def test_it_prints_a_table(study: str, only: str, rate: str) -> None:
    if not (Path(os.environ.get("IPGL_DATA", "data")) / "MNIST" / "raw").is_dir():
        pytest.skip("needs the real MNIST below $IPGL_DATA")
    command = [sys.executable, str(SCRIPT), study, "--only", only, "--lr", rate]
    small = ["--epochs", "1", "--width", "8", "--device", "cpu"]
    done = subprocess.run(
        command + small,
        check=True,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    cells = re.findall(r"(\d+\.\d) / (\d+\.\d) \((\d\.\d\d)\)", done.stdout)
    assert cells
    assert all(
        0 < float(low) < 100 and 0 < float(high) < 100 and float(share) <= 1 for low, high, share in cells
    )
