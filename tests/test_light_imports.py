"""What stays unloaded: checked in fresh processes, because this one has loaded everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "ray", "mlflow", "optuna", "plotly", "sklearn", "scipy", "pandas")
CLUSTER_AND_TRACKING = ("ray", "mlflow", "optuna", "plotly")

HELP = """
import sys
sys.argv = ["ipgl", {arguments}]
from ipgl.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def loaded(code: str, packages: tuple[str, ...]) -> list[str]:
    """Those of `packages` that a fresh interpreter has loaded after `code`."""
    # The answer goes to standard error's last line: the code itself may print.
    probe = f"\nimport json, sys\nprint(json.dumps([p for p in {packages!r} if p in sys.modules]), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code + probe], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stderr.splitlines()[-1])
    return found


def test_the_check_can_fail() -> None:
    assert loaded("import numpy", ("numpy", "ray", "json")) == ["numpy", "json"]
    assert loaded("def later():\n    import numpy", ("numpy",)) == []
    with pytest.raises(AssertionError, match="no_such_module"):
        loaded("import no_such_module", ("numpy",))


@pytest.mark.parametrize("code", ["import ipgl", "import ipgl.config", "import ipgl.cli.main"])
def test_the_package_and_its_settings_are_light(code: str) -> None:
    assert loaded(code, HEAVY) == []


@pytest.mark.parametrize(
    "arguments", ['"--help"', '"--version"', '"study", "--help"', '"study", "run", "--help"']
)
def test_help_is_light(arguments: str) -> None:
    assert loaded(HELP.format(arguments=arguments), HEAVY) == []


def test_training_and_checking_a_study_file_need_neither_cluster_nor_tracking() -> None:
    code = "import ipgl.training, ipgl.methods, ipgl.trial.run, ipgl.plan.study_plan, ipgl.plan.json_schema"
    assert loaded(code, ("torch", *CLUSTER_AND_TRACKING)) == ["torch"]


def test_keeping_predictions_needs_no_pandas(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
import numpy as np
from ipgl.evaluation import Predictions
whole = np.zeros(3, dtype=np.int32)
share = np.full((3, 2), 0.5, dtype=np.float32)
Predictions(label=whole, attribute=whole, prediction=whole, probability=share).write(
    Path({str(tmp_path / "examples")!r}), Path({str(tmp_path / "pairs")!r})
)
"""
    assert loaded(code, ("pandas", "pyarrow")) == ["pyarrow"]


def test_showing_a_study_loads_no_cluster() -> None:
    assert loaded("import ipgl.study.runner", ("plotly", "ray", "mlflow", "optuna")) == ["plotly"]
