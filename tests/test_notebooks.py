"""The notebooks run as they are committed, on a small study of the same kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))

STUDY = """
name: quickstart
question: Do pairs help?
dataset: {name: colored_mnist, source: digits, pairs: {train: 300, held_out: 200}}
model: {name: mlp, width: 64, depth: 1}
methods:
  erm: {}
  ipg: {update: additive, discrepancy: logit, through: both, adaptivity: "off", strength: 10}
training: {epochs: 6, batch_size: 64, evaluations: 2, optimiser: {lr: 3e-3}}
search: {final_seeds: 2}
"""


def execute(path: Path, folder: Path) -> list[str]:
    """Run a notebook in `folder`; the text of its outputs."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=580, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_output(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_each_is_executed_here() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "01_read_a_study",
        "02_your_own_method",
        "03_how_the_correction_works",
    ]


def test_how_the_correction_works(tmp_path: Path) -> None:
    """The notebook itself asserts that its arrows are the steps that the method took."""
    printed = "".join(execute(NOTEBOOKS[2], tmp_path))
    assert "each of the first 20 steps is what the formula says" in printed
    spurious = {
        share: float(value) for share, value in re.findall(r"share (\S+): spurious weight (\S+)", printed)
    }
    assert spurious["0.33"] < 0.2
    assert spurious["0.67"] < 0.2
    assert spurious["1.50"] > 1.5


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_reading_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    subprocess.run(
        [sys.executable, "-m", "ipgl", "study", "run", "study.yaml"],
        cwd=tmp_path,
        check=True,
        timeout=580,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    monkeypatch.setenv("IPGL_STORAGE", str(tmp_path / "runs"))
    monkeypatch.delenv("IPGL_STUDY", raising=False)
    texts = execute(NOTEBOOKS[0], tmp_path)
    assert any("ipg has the highest accuracy where the attribute never agrees" in text for text in texts)
    assert any("p_value" in text for text in texts)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_method_of_ones_own(tmp_path: Path) -> None:
    texts = execute(NOTEBOOKS[1], tmp_path)
    assert (tmp_path / "runs" / "my-method" / "imports" / "my_method.py").is_file()
    together = "".join(texts)
    numbers = [int(number) for number in re.findall(r"^ *(\d+)  (?:search|final) ", together, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)), "one line per ended trial, and none is lost"
    assert len(numbers) > 6
    assert len(re.findall(r"^epoch .* score ", together, re.MULTILINE)) == 4
    assert re.search(r"feature_matching Evaluation\(average=", together)
    for shown in ("Trained(score=", "shifted_accuracy_low", "corrected_p_value", "digit >= 5"):
        assert any(shown in text for text in texts), shown
    assert any("feature_matching" in text and "ipg" in text for text in texts)
    assert len(texts) < 40


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_what_a_cell_has_printed_stays_when_a_study_runs(tmp_path: Path) -> None:
    """Tune's reporter for notebooks clears a cell's output; rich's live table would be repeated four times a second."""
    (tmp_path / "study.yaml").write_text(STUDY)
    code = "print('said before')\nimport ipgl\nstudy = ipgl.run_study('study.yaml')\nstudy"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, tmp_path / "one.ipynb")
    texts = execute(tmp_path / "one.ipynb", tmp_path)
    together = "".join(texts)
    assert together.startswith("said before\n")
    lines = re.findall(r"^ *(\d+)  (search|final) ", together, re.MULTILINE)
    assert lines == [(str(number), "search" if number < 3 else "final") for number in range(1, 7)]
    assert texts[-1] == "Study('quickstart', finished, methods: erm, ipg)"
