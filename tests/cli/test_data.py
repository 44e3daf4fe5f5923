from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from ipgl.cli.data import data_app, pairs_app
from ipgl.core.errors import DataError, IpglError
from ipgl.data import Dataset
from ipgl.data.generate import draw_sources
from ipgl.plan.study_plan import StudyPlan

STUDY = """\
name: s
dataset:
  name: waterbirds_tiny
  birds: 60
  test_birds: 40
  side: 32
  input_size: 16
  cache: {cache}
  pairs: {{held_out: 10}}
model: {{name: cnn, width: 8}}
methods:
  erm: {{}}
  ipg: {{dataset: {{pairs: {{train: 5}}}}}}
tracking: {{name: none}}
"""


def invoke(app: Typer, *arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def study(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "s.yaml"
    file.write_text(STUDY.format(cache=cache))
    return file


def test_preview_shows_groups_and_writes_the_sheet(study: Path, tmp_path: Path) -> None:
    out = invoke(data_app, "preview", study)
    lines = [line for line in out.splitlines() if "landbird" in line or "waterbird," in line]
    assert [line.split("│")[1].strip() for line in lines[:4]] == [
        "landbird, land",
        "landbird, water",
        "waterbird, land",
        "waterbird, water",
    ]
    assert [line.split("│")[2].strip() for line in lines[:4]] == [
        "aligned",
        "conflicting",
        "conflicting",
        "aligned",
    ]
    assert lines[1].split("│")[3].strip() == "0"
    assert "note: no training example of landbird with water" in out
    assert "contact sheet: s-groups.png" in out
    with Image.open(tmp_path / "s-groups.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 8 * 112


def test_preview_draws_on_a_terminal(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from ipgl.cli import data_views as data_commands

    shown = Console(force_terminal=True, color_system="truecolor", width=160, record=True, file=io.StringIO())
    monkeypatch.setattr(data_commands, "make_console", lambda error=False: shown)
    data_commands.show_groups(study, None, None, 2, False)
    text = shown.export_text()
    assert text.count("▀") == 4 * 6 * 2 * 12  # groups, lines, samples, columns


def test_the_sheet_goes_where_it_is_told(study: Path, tmp_path: Path) -> None:
    invoke(data_app, "preview", study, "--out", tmp_path / "x.png", "--samples", 1)
    assert (tmp_path / "x.png").is_file()
    with pytest.raises(IpglError, match=r"nowhere/x\.png: cannot be written .*; choose another --out"):
        invoke(data_app, "preview", study, "--out", tmp_path / "nowhere/x.png")


def test_audit_prints_a_table_and_a_sheet(study: Path, tmp_path: Path) -> None:
    out = invoke_audit(study)
    rows = {
        cells[1].strip(): [c.strip() for c in cells[2:4]]
        for line in out.splitlines()
        if len(cells := line.split("│")) > 3
    }
    assert rows["pairs"] == ["38", "10"]
    assert rows["holding a test image"] == ["0", "0"]
    assert rows["holding a test image pixel for pixel"] == ["0", "0"]
    assert "splits: 0 training images that are also in validation or test, 0 validation images" in out
    assert rows["sharing a picture with the training pairs"] == ["", "0"]
    assert (tmp_path / "s-pairs.png").is_file()
    assert "contact sheet: s-pairs.png" in out


def test_audit_speaks_json(study: Path) -> None:
    data = json.loads(invoke_audit(study, "--format", "json"))
    assert [s["count"] for s in data["sets"]] == [38, 10]
    assert data["faults"] == []


def test_a_methods_own_data_set_is_audited(study: Path) -> None:
    data = json.loads(invoke_audit(study, "--format", "json", "--method", "ipg"))
    assert [s["count"] for s in data["sets"]] == [5, 10]
    with pytest.raises(
        IpglError, match="--method names a label of the study file, but got 'ipgg': did you mean 'ipg'"
    ):
        invoke_audit(study, "--method", "ipgg")


def invoke_audit(study: Path, *arguments: str) -> str:
    return invoke(pairs_app, "audit", study, *arguments)


def test_unsound_pairs_are_an_error_after_the_table(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from ipgl.cli import data_views as data_commands

    real = data_commands._dataset

    def spoiled(plan: StudyPlan, label: None) -> Dataset:
        data = real(plan, label)
        return replace(data, test=replace(data.test, x=data.pairs.a.take(data.pairs.y.new_zeros(40))))

    monkeypatch.setattr(data_commands, "_dataset", spoiled)
    with pytest.raises(
        DataError, match=r"the pairs make results wrong: 1 training pairs hold an image of the test split"
    ):
        invoke_audit(study)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return draw_sources(tmp_path_factory.mktemp("sources"), train=20, test=12, side=24)


class TestMakeWaterbirds:
    def make(self, sources: tuple[Path, Path], out: Path, *arguments: str | float) -> str:
        return invoke(
            data_app, "make-waterbirds", "--cub", sources[0], "--places", sources[1], "--out", out, *arguments
        )

    def test_the_folder_can_be_read_by_the_loader(self, sources: tuple[Path, Path], tmp_path: Path) -> None:
        from ipgl.data import DATASETS

        out = self.make(sources, tmp_path, "--strength", 1.0, "--pairs", 8, "--seed", 3)
        folder = tmp_path / "waterbird_1.0_forest2water2"
        assert f"8 counterfactual pairs: {folder / 'pairs.csv'}" in out
        assert "waterbird │ water" in out
        entry = DATASETS["waterbirds"]
        settings = {
            "root": str(tmp_path),
            "input_size": 16,
            "cache": str(tmp_path / "cache"),
            "pairs": {"source": "manifest", "held_out": 3},
        }
        data = entry.build(entry.settings.model_validate(settings))
        assert (len(data.train), len(data.validation), len(data.test)) == (16, 4, 12)
        assert (len(data.pairs), len(data.held_out_pairs)) == (5, 3)

    def test_another_strength_is_another_folder(self, sources: tuple[Path, Path], tmp_path: Path) -> None:
        self.make(sources, tmp_path)
        self.make(sources, tmp_path, "--strength", 0.5)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "waterbird_complete50_forest2water2",
            "waterbird_complete95_forest2water2",
        ]

    def test_what_is_skipped_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "sources").mkdir()
        sources = draw_sources(tmp_path / "sources", train=8, test=4, side=24)
        next((sources[0] / "segmentations").rglob("*.png")).unlink()
        with pytest.raises(DataError, match="leave these birds out with --skip-bad"):
            self.make(sources, tmp_path / "out")
        out = self.make(sources, tmp_path / "out", "--skip-bad")
        assert "1 problems were skipped; they are in" in out

    def test_ctrl_c_says_that_the_same_command_goes_on(
        self, sources: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import ipgl.cli.data_views as commands

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(commands, "generate_waterbirds", stop)
        arguments = ["make-waterbirds", "--cub", sources[0], "--places", sources[1], "--out", tmp_path]
        done = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
        assert done.exit_code == 130
        assert "the same command goes on" in done.stdout

    def test_a_strength_is_a_share(self, sources: tuple[Path, Path], tmp_path: Path) -> None:
        arguments = [
            "make-waterbirds",
            "--cub",
            sources[0],
            "--places",
            sources[1],
            "--out",
            tmp_path,
            "--strength",
            95,
        ]
        done = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
        assert done.exit_code == 2
        assert "less than or equal to 1" in done.output
