"""Subcommands for results: `ipgl report, compare, track sync, methods, ui`.

Heavy imports are made inside the functions, as in `ipgl.cli.main`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ipgl.cli.options import Format, FormatOption, OutputOption, StorageOption, StudyName

if TYPE_CHECKING:
    from ipgl.evaluation import StudyResults
    from ipgl.report import Gallery
    from ipgl.storage.study_dir import StudyFolder

track_app = typer.Typer(help="Keep MLflow's copy of a study up to date.", no_args_is_help=True)


def report(
    name: StudyName,
    storage: StorageOption = "runs",
    format: FormatOption = "html",
    output: OutputOption = None,
) -> None:
    """Write a study's report, or its tables, from what is on storage."""
    from ipgl.storage.study_dir import StudyFolder, study_command
    from ipgl.study.gallery import make_gallery
    from ipgl.study.results import summarise
    from ipgl.study.runner import require_state, stored_plan

    folder = StudyFolder.at(storage, name)
    state = require_state(folder)
    plan = stored_plan(folder)
    results = summarise(plan, folder)
    if state["phase"] != "finished":
        message = f"the study has not finished; go on with it by: {study_command(folder, 'resume')}"
        print(f"note: {message}", file=sys.stderr)
    _write(results, format, output, _beside(folder), lambda: make_gallery(plan, folder, results))


def compare(
    names: Annotated[list[str], typer.Argument(help="Two or more studies.", show_default=False)],
    storage: StorageOption = "runs",
    format: FormatOption = "html",
    output: OutputOption = None,
) -> None:
    """Put studies side by side: one table, the same curves, differences with intervals."""
    from ipgl.cli.console import make_console
    from ipgl.cli.live_display import print_results
    from ipgl.core.errors import StudyStateError
    from ipgl.storage.study_dir import StudyFolder
    from ipgl.study.compare import compare_studies
    from ipgl.study.runner import require_state, stored_plan

    if len(set(names)) < 2:
        raise StudyStateError(f"comparing takes two or more different studies, but got: {', '.join(names)}")
    folders = [StudyFolder.at(storage, name) for name in dict.fromkeys(names)]
    for folder in folders:
        require_state(folder)
    compared = compare_studies([(stored_plan(folder), folder) for folder in folders])
    if format == "html" or output is not None:
        print_results(make_console(), compared.results.summary)
    _write(compared.results, format, output, _beside(folders[0]).parent / "compared" / "+".join(names))
    if compared.problems:
        raise StudyStateError("not everything could be compared: " + " ".join(compared.problems))


@track_app.command()
def sync(
    name: StudyName,
    storage: StorageOption = "runs",
    uri: Annotated[
        str | None, typer.Option(help="Server or database; default: the study file's `tracking.uri`.")
    ] = None,
) -> None:
    """Replay a study into MLflow from its files; what is there already stays as it is."""
    from ipgl.cli.console import make_console, print_links
    from ipgl.storage.study_dir import StudyFolder
    from ipgl.study.replay import sync_study

    synced = sync_study(StudyFolder.at(storage, name), uri)
    console = make_console()
    console.print(f"{synced.runs} runs are in MLflow as they stand on storage")
    print_links(console, synced.links, synced.warnings)


def methods() -> None:
    """List the methods: what each needs, where it is from, and the ranges recommended for its settings."""
    from ipgl.cli.console import make_console
    from ipgl.cli.tables import methods_table

    make_console().print(methods_table())


def ui(
    storage: StorageOption = "runs",
    uri: Annotated[str | None, typer.Option(help="MLflow store; default: the storage folder's own.")] = None,
    host: Annotated[
        str, typer.Option(help="Interface; anything but loopback opens the UI to others.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on the studies' results (loopback only, unless a host is given)."""
    from ipgl.core.errors import TrackingError
    from ipgl.tracking import run_ui

    if "://" in storage and uri is None:
        raise TrackingError("MLflow keeps no runs at a storage URI: name its server or database with --uri")
    run_ui(Path(storage), uri, host=host, port=port)


def add_to(app: typer.Typer) -> None:
    """Register report, compare, methods and ui at the top level, and sync under `ipgl track`."""
    for verb in (report, compare, methods, ui):
        app.command()(verb)
    app.add_typer(track_app, name="track")


def _write(
    results: StudyResults,
    format: Format,
    output: Path | None,
    folder: Path,
    gallery: Callable[[], Gallery | None] = lambda: None,
) -> None:
    """Write a report or tables to `output`, by default into `folder`; Markdown without `output` is printed."""
    from ipgl.core.atomic_files import write_text
    from ipgl.report import markdown_report, write_report, write_tables

    if format != "md":
        folder.mkdir(parents=True, exist_ok=True)
    if format == "md":
        text = markdown_report(results)
        if output is None:
            print(text)
        else:
            output.parent.mkdir(parents=True, exist_ok=True)
            print(write_text(output, text))
    elif format == "html":
        print(write_report(results, output or folder / "report.html", gallery=gallery()))
    else:
        for path in write_tables(results, output or folder / "tables", format):
            print(path)


def _beside(folder: StudyFolder) -> Path:
    """The folder for a study's reports: its own, or one in the working folder if the storage is a URI."""
    return Path.cwd() / folder.name if folder.remote else Path(folder.path)
