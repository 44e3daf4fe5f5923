"""The documentation says what is there: links, commands, study files, generated pages, and a site without warnings."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest
import typer
import yaml

from ipgl.cli.main import app
from ipgl.data import DATASETS
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.plan.json_schema import study_schema
from ipgl.plan.study_plan import load_plan

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
OTHERS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "studies/README.md", "cluster/README.md")
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in OTHERS)]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def load_hook(name: str) -> ModuleType:
    """A file of `docs/hooks`, as mkdocs loads it."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return load_hook("reference")


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))


class Parameter(Protocol):
    """An argument or option of a command, as far as it is read."""

    opts: list[str]


class Command(Protocol):
    """A command of the command line, as far as it is read."""

    @property
    def params(self) -> Sequence[Parameter]: ...


def commands(command: Command, name: str = "ipgl") -> Iterator[tuple[str, Command]]:
    yield name, command
    for key, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {key}")


@pytest.fixture(scope="module")
def known() -> dict[str, Command]:
    return dict(commands(typer.main.get_command(app)))


def test_the_readme_is_a_first_page() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text) <= 9_000
    assert "\nmake test " in text


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^()\s]+)\)", without_code(page.read_text()))
    local = [target.partition("#")[0] for target in targets if "://" not in target]
    assert [target for target in local if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_picture_is_fetched_and_no_machine_is_named(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"!\[[^\]]*\]\(\w+://", text) == []
    assert re.findall(r"(?:^|[\s`\"(=])/(?:root|home|work|tmp)/\S*", text) == []
    assert re.findall(r"https?://\S*(?:pypi|pythonhosted)\S*", text) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_their_options_exist(page: Path, known: dict[str, Command]) -> None:
    shown = [text for language, text in BLOCK.findall(page.read_text()) if not language]
    for line in "\n".join(shown).splitlines():
        found = re.match(r"(?:[A-Z_]+=\S+ )*(?:\S*/bin/)?(ipgl(?: [a-z-]+)*)([^#]*)", line)
        if not found:
            continue
        words = found[1].split()
        name = next(" ".join(words[:n]) for n in range(len(words), 0, -1) if " ".join(words[:n]) in known)
        assert not hasattr(known[name], "commands"), (
            f"{line!r}: no command, only {name!r} and what is below it"
        )
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", found[2])) <= options, line


def studies() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for language, text in BLOCK.findall(page.read_text()):
            if language == "yaml" and {"name", "dataset", "model", "methods"} <= set(yaml.safe_load(text)):
                yield page, text


@pytest.mark.parametrize("text", [pytest.param(text, id=named(page)) for page, text in studies()])
def test_complete_study_files_are_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    # An own method would stay in the registry for the tests that follow.
    lines = [line for line in text.splitlines() if not line.startswith(("imports:", "  feature_matching:"))]
    file.write_text("\n".join(lines))
    assert load_plan(file).methods


def test_every_command_and_option_is_in_the_reference(
    reference: ModuleType, known: dict[str, Command]
) -> None:
    text = reference.cli_reference()
    for name, command in known.items():
        assert re.search(rf"^##+ `{name}`$", text, re.MULTILINE), name
        for parameter in command.params:
            assert parameter.opts[0] in text, (name, parameter.opts)


def test_every_key_of_a_study_file_is_in_the_reference(reference: ModuleType) -> None:
    text = reference.study_file_reference()
    schema = study_schema()
    sections = {
        name: schema["$defs"][own["$ref"].rpartition("/")[2]]["properties"]
        for name, own in schema["properties"].items()
        if "$ref" in own
    }
    assert {"training", "search", "evaluation", "resources", "tracking"} <= set(sections)
    for name, keys in sections.items():
        section = text.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        missing = [key for key in keys if f"| `{key}" not in section]
        assert missing == [], name
    for name in (*DATASETS, *MODELS):
        assert f"### `{name}`" in text


def test_nested_settings_of_one_name_are_not_mixed_up(reference: ModuleType) -> None:
    """`augment` of images is a crop; `augment` of `ipg` moves pairs; both classes have the same name."""
    section = reference.study_file_reference().partition("### `waterbirds`")[2].partition("###")[0]
    assert "`augment.ratio`" in section
    assert "shift_pixels" not in section


def test_every_setting_of_a_method_is_in_the_reference(reference: ModuleType) -> None:
    text = reference.methods_reference()
    for name, entry in METHODS.items():
        section = text.partition(f"### `{name}`\n")[2].partition("\n### ")[0]
        assert entry.source in section
        for key in entry.settings.model_fields:
            assert f"`{key}" in section, (name, key)


class TestLinksOutOfDocs:
    @pytest.fixture
    def linked(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
        pytest.importorskip("mkdocs", reason="the docs extra is not installed")
        monkeypatch.syspath_prepend(str(DOCS / "hooks"))
        found: Callable[[str, str], str] = load_hook("pages").linked
        return found

    @pytest.mark.parametrize(
        ("page", "text", "there"),
        [
            ("how-to/x.md", "[C](../../CHANGELOG.md)", "[C](../changelog.md)"),
            ("how-to/x.md", "[C](../../cluster/README.md#size)", "[C](cluster-setups.md#size)"),
            ("changelog.md", "[b](docs/results/balanced.md#a)", "[b](results/balanced.md#a)"),
            ("results/studies.md", "[b](../docs/results/balanced.md)", "[b](balanced.md)"),
            ("index.md", "[licence](../LICENSE)", "licence (`LICENSE`)"),
            ("index.md", "[`LICENSE`](../LICENSE)", "`LICENSE`"),
            ("index.md", "[gone](../nowhere.md)", "[gone](../nowhere.md)"),
            ("index.md", "[web](https://example.org/a.md)", "[web](https://example.org/a.md)"),
            ("index.md", "`[code](../LICENSE)`", "`[code](../LICENSE)`"),
            ("index.md", "![picture](../LICENSE)", "![picture](../LICENSE)"),
        ],
    )
    def test_become_links_of_the_site_or_names(
        self, linked: Callable[[str, str], str], page: str, text: str, there: str
    ) -> None:
        assert linked(text, page) == there


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    pytest.importorskip("mkdocstrings", reason="the docs extra is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    fetched = r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//"
    for page in pages:
        text = page.read_text()
        assert re.findall(fetched, text) == [], page.name
        assert "<!-- generated:" not in text
        assert "doctest:" not in text, f"{page.name}: an example in a docstring is not read as one"
