"""Import of the user's files and modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_study import finished_study, study_text

from ipgl.config import ConfigError, read_document
from ipgl.methods import METHODS
from ipgl.plan.study_plan import make_plan
from ipgl.study.results import summarise
from ipgl.trial.build import load_model
from ipgl.trial.user_code import ImportFailedError, load_imports

OWN = """
from ipgl.methods import METHODS, method_entry
from ipgl.methods.erm import Erm, ErmSettings
METHODS["own_method"] = method_entry(Erm, ErmSettings, "me")
"""


@pytest.fixture(autouse=True)
def _registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(METHODS)
    modules = set(sys.modules)
    yield
    METHODS.clear()
    METHODS.update(before)
    for name in set(sys.modules) - modules:
        if name.startswith("_ipgl_"):
            del sys.modules[name]


def test_a_study_with_a_method_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    text = study_text(tmp_path / "runs", more="imports: [own.py]").replace("  erm: {}", "  own_method: {}")
    plan, folder = finished_study(tmp_path / "runs", text)
    assert (folder.path / "imports" / "own.py").read_text() == OWN
    assert [method.label for method in summarise(plan, folder).summary.methods] == ["own_method", "ipg"]
    # The copy serves where the file itself has gone.
    (tmp_path / "own.py").unlink()
    del METHODS["own_method"]
    for name in [name for name in sys.modules if name.startswith("_ipgl_own_")]:
        del sys.modules[name]
    assert make_plan(read_document(folder.files.source)).methods[0].method == "own_method"
    key = summarise(plan, folder).summary.methods[0].final_runs[0]
    assert not load_model(folder.trial(key).path).training


def test_a_file_runs_once_and_again_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(sys, "ipgl_calls", calls, raising=False)
    file = tmp_path / "own.py"
    file.write_text("import sys\nsys.ipgl_calls.append(1)\n")
    for _ in range(2):
        load_imports(["own.py"], tmp_path)
    assert calls == [1]
    file.write_text("import sys\nsys.ipgl_calls.append(2)\n")
    load_imports(["own.py"], tmp_path)
    assert calls == [1, 2]


def test_a_module_by_its_name(tmp_path: Path) -> None:
    load_imports(["json.decoder"], tmp_path)
    with pytest.raises(
        ImportFailedError, match=r"'no_such_thing' cannot be imported \(ModuleNotFoundError: "
    ):
        load_imports(["json", "no_such_thing"], tmp_path)


def test_what_is_wrong_is_located_in_the_study_file(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    for entry, message in [
        ("nowhere.py", "no such file: .*nowhere.py; a file is relative to the study file"),
        ("broken.py", r"'broken.py' cannot be imported \(ZeroDivisionError: division by zero\); correct it"),
    ]:
        file = tmp_path / "study.yaml"
        file.write_text(study_text(tmp_path, more=f"imports: [json, {entry}]"))
        with pytest.raises(ConfigError, match=rf"study.yaml:13: imports\[1\]: {message}"):
            make_plan(read_document(file))
    assert not any(name.startswith("_ipgl_broken") for name in sys.modules)
