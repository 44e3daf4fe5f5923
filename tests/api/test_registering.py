"""Components of one's own under a name."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ipgl
from ipgl.config import Settings
from ipgl.core.errors import IpglError
from ipgl.data import DATASETS
from ipgl.methods import METHODS
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.models import MODELS, Classifier
from ipgl.trial.user_code import load_imports


@pytest.fixture(autouse=True)
def _registries() -> Iterator[None]:
    registries: list[dict[str, Any]] = [DATASETS, METHODS, MODELS]
    before = [(registry, dict(registry)) for registry in registries]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


class OwnSettings(Settings):
    pass


def test_a_registered_method_trains() -> None:
    @ipgl.register_method("own", ErmSettings, source="here")
    class Own(Erm):
        pass

    assert METHODS["own"].source == "here"
    data = {"name": "colored_mnist", "source": "digits"}
    quick = {"epochs": 1, "evaluations": 1, "device": "cpu"}
    models = [
        ipgl.train(data, {"name": "mlp", "width": 8}, name, training=quick, progress=False)
        for name in ("own", "erm")
    ]
    assert models[0].metrics == models[1].metrics


def test_a_cell_that_is_run_again_replaces_its_own_and_nothing_else() -> None:
    def define() -> None:
        @ipgl.register_model("own", OwnSettings)
        def build(settings: OwnSettings, shape: tuple[int, ...], classes: int) -> Classifier:
            raise NotImplementedError

    define()
    define()
    with pytest.raises(IpglError, match=r"'mlp' is registered already, by ipgl\.models\.mlp\.build_mlp"):
        ipgl.register_model("mlp", OwnSettings)(MODELS["cnn"].build)
    with pytest.raises(IpglError, match="'erm' is registered already"):
        ipgl.register_method("erm", OwnSettings)(object)  # type: ignore[type-var]


def test_a_file_under_imports_that_has_changed_replaces_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own_file.py"
    text = """
import ipgl
from ipgl.methods.erm import Erm, ErmSettings

@ipgl.register_method("own", ErmSettings, source="SOURCE")
class Own(Erm):
    pass
"""
    file.write_text(text.replace("SOURCE", "first"))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("own_file")  # as a notebook might, beside the study that names the file
    load_imports(["own_file.py"], tmp_path)
    file.write_text(text.replace("SOURCE", "second"))
    load_imports(["own_file.py"], tmp_path)
    assert METHODS["own"].source == "second"
    (tmp_path / "other_file.py").write_text(text)
    with pytest.raises(IpglError, match=r"'own' is registered already, by own_file\.Own; choose another"):
        load_imports(["other_file.py"], tmp_path)


@pytest.mark.parametrize("name", ["", "My Method", "../x", "a" * 65])
def test_a_name_is_checked(name: str) -> None:
    with pytest.raises(IpglError, match="a data set's name is 1 to 64"):
        ipgl.register_dataset(name, OwnSettings)(DATASETS["colored_mnist"].build)
