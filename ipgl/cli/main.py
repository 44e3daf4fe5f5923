"""The command line. Heavy imports stand inside the handlers, so that `ipgl --help` answers at once."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from ipgl import __version__
from ipgl.cli.cluster import add_to
from ipgl.cli.data import SkipBadOption, data_app, pairs_app
from ipgl.core.errors import IpglError

app = typer.Typer(
    name="ipgl",
    help="Train image classifiers that ignore spurious correlations, and see how they hold up when groups shift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
study_app = typer.Typer(help="Run, check, resume and show studies.", no_args_is_help=True)
app.add_typer(study_app, name="study")
track_app = typer.Typer(help="Keep MLflow's copy of a study up to date.", no_args_is_help=True)
app.add_typer(track_app, name="track")
app.add_typer(data_app, name="data")
app.add_typer(pairs_app, name="pairs")
add_to(study_app, app)

StorageOption = Annotated[str, typer.Option(help="Folder, or URI, that holds the studies.")]
AddressOption = Annotated[
    str | None, typer.Option(help="Ray address; default: $RAY_ADDRESS, or this machine.")
]
StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML).", show_default=False)]
Format = Literal["html", "md", "csv", "parquet"]
FormatOption = Annotated[Format, typer.Option(help="md prints Markdown; csv and parquet write every table.")]
OutputOption = Annotated[
    Path | None, typer.Option(help="File (folder for tables); default: beside the study's files.")
]
ProgressOption = Annotated[
    Literal["auto", "json"],
    typer.Option(
        help="auto: a live table, or lines where there is no terminal; json: records for programs, too."
    ),
]
StudyName = Annotated[str, typer.Argument(help="The study's name.", show_default=False)]


def _version(value: bool) -> None:
    if value:
        print(f"ipgl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@study_app.command()
def run(
    file: StudyFile,
    address: AddressOption = None,
    storage: Annotated[
        str | None, typer.Option(help="Folder or URI; default: the study file's.", show_default=False)
    ] = None,
    skip_bad: SkipBadOption = False,
    progress: ProgressOption = "auto",
) -> None:
    """Run a study: search, choose winners, retrain them on fresh seeds, test once, report."""
    from ipgl.plan.study_plan import load_plan
    from ipgl.study.runner import start_study, storage_folder

    plan = load_plan(file, skip_bad, storage)
    _watch(plan, storage_folder(plan), lambda watcher: start_study(plan, watcher, address), progress)


@study_app.command()
def resume(
    name: StudyName,
    storage: StorageOption = "runs",
    address: AddressOption = None,
    progress: ProgressOption = "auto",
) -> None:
    """Go on with an interrupted study; nothing that has finished runs again."""
    from ipgl.study.runner import require_state, resume_study, stored_plan

    folder = _folder(name, storage)
    require_state(folder)
    _watch(stored_plan(folder), folder, lambda watcher: resume_study(folder, watcher, address), progress)


@study_app.command()
def validate(file: StudyFile, skip_bad: SkipBadOption = False) -> None:
    """Check a study file and build its data and models; nothing is trained."""
    from ipgl.cli.live_display import DecodeLines
    from ipgl.data.image_cache import decoding_progress
    from ipgl.plan.final_runs import component_runs
    from ipgl.plan.preflight import check_by_building
    from ipgl.plan.study_plan import load_plan

    plan = load_plan(file, skip_bad)
    with decoding_progress(DecodeLines(_console(error=True))):
        notes = check_by_building(plan).notes
    trials = sum(plan.search_trials(method.label) for method in plan.methods)
    finals = len(plan.methods) * len(plan.final_seeds())
    repeated = sum(component_runs(plan, method.label) for method in plan.methods)
    print(
        f"{file}: valid; {len(plan.methods)} methods, at most {trials} search trials and {finals} final runs"
        f"{f', then {repeated} component runs' if repeated else ''}"
    )
    for note in notes:
        print(f"note: {note}")


@study_app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    import json

    from ipgl.plan.json_schema import study_schema

    print(json.dumps(study_schema(), indent=1))


@study_app.command("list")
def list_studies(storage: StorageOption = "runs") -> None:
    """List the studies in a storage folder."""
    from ipgl.cli.tables import studies_table
    from ipgl.storage.study_folder import StudyFolder

    _console().print(studies_table(StudyFolder.all_at(storage)))


@study_app.command()
def show(
    name: StudyName,
    storage: StorageOption = "runs",
    format: Annotated[
        Literal["table", "json"], typer.Option(help="json: final test runs, for programs.")
    ] = "table",
) -> None:
    """Show a study's results."""
    from ipgl.cli.live_display import print_results
    from ipgl.study.results import final_runs_json, summarise
    from ipgl.study.runner import require_state, stored_plan

    folder = _folder(name, storage)
    state = require_state(folder)
    if format == "json":
        print(final_runs_json(folder, stored_plan(folder).config.evaluation.confidence))
        return
    print_results(_console(), summarise(stored_plan(folder), folder).summary)
    if state["phase"] != "finished":
        print(f"The study has not finished; go on with it by: {folder.command('resume')}")


@app.command()
def report(
    name: StudyName,
    storage: StorageOption = "runs",
    format: FormatOption = "html",
    output: OutputOption = None,
) -> None:
    """Write a study's report, or its tables, from what is on storage."""
    from ipgl.study.gallery import make_gallery
    from ipgl.study.results import summarise
    from ipgl.study.runner import require_state, stored_plan

    folder = _folder(name, storage)
    state = require_state(folder)
    plan = stored_plan(folder)
    results = summarise(plan, folder)
    if state["phase"] != "finished":
        message = f"the study has not finished; go on with it by: {folder.command('resume')}"
        print(f"note: {message}", file=sys.stderr)
    _write(results, format, output, _beside(folder), lambda: make_gallery(plan, folder, results))


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Two or more studies.", show_default=False)],
    storage: StorageOption = "runs",
    format: FormatOption = "html",
    output: OutputOption = None,
) -> None:
    """Put studies side by side: one table, the same curves, differences with intervals."""
    from ipgl.cli.live_display import print_results
    from ipgl.core.errors import StudyStateError
    from ipgl.study.compare import compare_studies
    from ipgl.study.runner import require_state, stored_plan

    if len(set(names)) < 2:
        raise StudyStateError(f"comparing takes two or more different studies, but got: {', '.join(names)}")
    folders = [_folder(name, storage) for name in dict.fromkeys(names)]
    for folder in folders:
        require_state(folder)
    compared = compare_studies([(stored_plan(folder), folder) for folder in folders])
    if format == "html" or output is not None:
        print_results(_console(), compared.results.summary)
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
    from ipgl.study.replay import sync_study

    synced = sync_study(_folder(name, storage), uri)
    console = _console()
    console.print(f"{synced.runs} runs are in MLflow as they stand on storage")
    _print_links(console, synced.links, synced.warnings)


@app.command()
def methods() -> None:
    """List the methods: what each needs, where it is from, and the ranges recommended for its settings."""
    from ipgl.cli.tables import methods_table

    _console().print(methods_table())


@app.command()
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


def _watch(plan: Any, folder: Any, action: Any, progress: str) -> None:
    """Run or resume a study with a live display, then print what it found and what to do next."""
    from ipgl.cli.live_display import DecodeLines, LiveDisplay, print_results
    from ipgl.data.image_cache import decoding_progress

    console = _console()
    try:
        display = LiveDisplay(plan, folder, console, records=progress == "json")
        with display, decoding_progress(DecodeLines(console)):
            finished = action(display)
    except KeyboardInterrupt:
        print(f"\nStopped. Nothing finished is lost; go on with: {folder.command('resume')}")
        sys.exit(130)
    print_results(console, finished.results.summary)
    _print_links(console, finished.links, finished.warnings)
    console.print(f"open the report: {finished.folder.shown}/report.html", soft_wrap=True)
    if not any(method.final_runs for method in finished.results.summary.methods):
        sys.exit(1)


def _print_links(console: Any, links: dict[str, str], warnings: list[str]) -> None:
    from ipgl.cli.console import print_remark

    for warning in warnings:
        print_remark(console, "tracking:", warning)
    for title, link in links.items():
        console.print(f"{title}: {link}", soft_wrap=True)


def _write(
    results: Any, format: Format, output: Path | None, folder: Path, gallery: Callable[[], Any] = lambda: None
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


def _folder(name: str, storage: str) -> Any:
    from ipgl.storage.study_folder import StudyFolder

    return StudyFolder.at(storage, name)


def _beside(folder: Any) -> Path:
    """Where a study's reports go: beside its files, or into the working folder if those are at a URI."""
    return Path.cwd() / folder.name if folder.remote else Path(folder.path)


def _console(error: bool = False) -> Any:
    from ipgl.cli.console import make_console

    return make_console(error)


def command() -> NoReturn:
    """Entry point: `main`, and the end of the process."""
    # Torch, Ray and MLflow bring millions of objects that stay; looking for garbage among them as often as Python
    # does adds a fifth to the time that importing them takes.
    gc.set_threshold(100_000, 20, 20)
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        _leave(end.code or 0)


def main() -> NoReturn:
    """Run the command and raise SystemExit: a user's error is one paragraph on standard error and exit code 2."""
    try:
        app(standalone_mode=True)
    except IpglError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(0)
    sys.exit(0)


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart, which after a study would last for over two seconds."""
    threading._shutdown()  # type: ignore[attr-defined]  # wait for threads, as the interpreter does
    atexit._run_exitfuncs()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
