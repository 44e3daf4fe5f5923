"""Subcommands that show the results of a finished study."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest
from small_study import finished_study, study_text

from ipgl.cli.main import main


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("cli") / "runs"
    finished_study(storage)
    finished_study(storage, study_text(storage, "fewer", pairs=20))
    finished_study(storage, study_text(storage, "other-data", data_seed=1))
    return storage


@pytest.fixture
def ipgl(
    storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command on the finished studies; `(exit code, standard output, standard error)`."""
    monkeypatch.chdir(tmp_path)

    def ipgl(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ipgl", *map(str, arguments), "--storage", str(storage)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    return ipgl


class TestReport:
    def test_html(self, ipgl: Callable[..., tuple[int, str, str]], storage: Path) -> None:
        page = storage / "small" / "report.html"
        page.unlink()
        code, out, err = ipgl("report", "small")
        assert (code, out, err) == (0, f"{page}\n", "")
        text = page.read_text()
        assert "Do pairs help?" in text
        assert text.count("data:image/png;base64,") > 16  # pairs and mistakes

    def test_to_a_file_of_one_s_own(self, ipgl: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
        code, out, _ = ipgl("report", "small", "--output", tmp_path / "new" / "r.html")
        assert (code, out) == (0, f"{tmp_path / 'new' / 'r.html'}\n")
        assert (tmp_path / "new" / "r.html").stat().st_size > 1_000_000

    def test_markdown_is_printed_or_written(
        self, ipgl: Callable[..., tuple[int, str, str]], tmp_path: Path
    ) -> None:
        code, out, err = ipgl("report", "small", "--format", "md")
        assert (code, err) == (0, "")
        assert out.startswith("# small\n")
        assert "| Method |" in out
        ipgl("report", "small", "--format", "md", "--output", "r.md")
        assert (tmp_path / "r.md").read_text().strip() == out.strip()

    def test_tables(self, ipgl: Callable[..., tuple[int, str, str]], storage: Path, tmp_path: Path) -> None:
        code, out, _ = ipgl("report", "small", "--format", "csv")
        assert code == 0
        paths = [Path(line) for line in out.splitlines()]
        assert {path.parent for path in paths} == {storage / "small" / "tables"}
        methods = next(path for path in paths if path.stem == "methods")
        rows = list(csv.DictReader(methods.open()))
        assert [row["method"] for row in rows] == ["erm", "ipg"]
        summary = json.loads((storage / "small" / "summary.json").read_text())
        mean = summary["methods"][1]["estimates"]["worst_group"]["mean"]
        assert any(float(value) == pytest.approx(mean) for value in rows[1].values() if _number(value))
        code, out, _ = ipgl("report", "small", "--format", "parquet", "--output", "tables")
        names = {path.stem for path in (tmp_path / "tables").glob("*.parquet")}
        assert names == {path.stem for path in paths}
        table = pyarrow.parquet.read_table(tmp_path / "tables" / "methods.parquet")
        assert table.column("method").to_pylist() == ["erm", "ipg"]

    def test_an_unknown_study(self, ipgl: Callable[..., tuple[int, str, str]], storage: Path) -> None:
        code, out, err = ipgl("report", "smal")
        assert (code, out) == (2, "")
        assert f"{storage / 'smal'}: no study of this name; studies there: fewer, other-data, small" in err


class TestCompare:
    def test_side_by_side(self, ipgl: Callable[..., tuple[int, str, str]], storage: Path) -> None:
        code, out, err = ipgl("compare", "small", "fewer")
        assert (code, err) == (0, "")
        for label in ("small/erm", "small/ipg", "fewer/erm", "fewer/ipg"):
            assert label in out
        assert re.search(r"fewer/ipg - small/ipg where the attribute agrees 10% .*, p = ", out)
        page = storage / "compared" / "small+fewer" / "report.html"
        assert out.splitlines()[-1] == str(page)
        assert "small + fewer" in page.read_text()

    def test_what_cannot_be_compared_is_said_after_all_that_can(
        self, ipgl: Callable[..., tuple[int, str, str]]
    ) -> None:
        code, out, err = ipgl("compare", "small", "other-data", "--format", "md")
        assert code == 2
        assert "small/ipg" in out
        assert "other-data/ipg" in out
        assert err.startswith(
            "error: not everything could be compared: Studies small and other-data were tested on "
        )
        assert "dataset.seed: 0 and 1" in err

    def test_one_study_is_not_enough(self, ipgl: Callable[..., tuple[int, str, str]]) -> None:
        code, out, err = ipgl("compare", "small", "small")
        assert (code, out) == (2, "")
        assert "comparing takes two or more different studies, but got: small, small" in err

    def test_an_unknown_study(self, ipgl: Callable[..., tuple[int, str, str]]) -> None:
        code, out, err = ipgl("compare", "small", "nowhere")
        assert (code, out) == (2, "")
        assert "no study of this name; studies there: fewer, other-data, small" in err


class TestShow:
    def test_json_has_every_group_with_its_interval(self, ipgl: Callable[..., tuple[int, str, str]]) -> None:
        code, out, _ = ipgl("study", "show", "small", "--format", "json")
        runs = json.loads(out)["runs"]
        assert code == 0
        assert [(run["method"], run["seed"]) for run in runs] == [
            ("erm", 1),
            ("ipg", 1),
            ("erm", 2),
            ("ipg", 2),
        ]
        for group in runs[0]["groups"]:
            assert group["low"] <= group["accuracy"] <= group["high"]
            assert group["low"] < group["high"]
            assert group["accuracy"] == group["correct"] / group["count"]
        assert runs[0]["curves"].keys() >= {"mixture", "worst_case_kl", "interpolation", "corruption_hue"}
        assert runs[0]["curves"]["worst_case_kl"][0]["agreement"] is None


class TestTrackSync:
    def test_a_study_without_a_tracker_needs_an_address(
        self, ipgl: Callable[..., tuple[int, str, str]], storage: Path, tmp_path: Path
    ) -> None:
        code, out, err = ipgl("track", "sync", "small")
        assert (code, out) == (2, "")
        assert (
            "the study is not tracked (`tracking: {name: none}`); name a server or database with --uri" in err
        )
        database = tmp_path / "m.db"
        code, out, err = ipgl("track", "sync", "small", "--uri", f"sqlite:///{database}")
        assert (code, err) == (0, "")
        assert out.startswith("6 runs are in MLflow as they stand on storage\n")
        assert database.exists()


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
