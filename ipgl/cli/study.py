"""Subcommands for studies: `ipgl study run, resume, validate, schema, list, show`.

Heavy imports are made inside the functions, as in `ipgl.cli.main`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ipgl.cli.options import (
    AddressOption,
    ProgressOption,
    SkipBadOption,
    StorageOption,
    StudyFile,
    StudyName,
)

if TYPE_CHECKING:
    from ipgl.execution.events import Events
    from ipgl.plan.study_plan import StudyPlan
    from ipgl.storage.study_dir import StudyFolder
    from ipgl.study.runner import FinishedStudy

study_app = typer.Typer(help="Run, check, resume and show studies.", no_args_is_help=True)


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
    from ipgl.storage.study_dir import StudyFolder
    from ipgl.study.runner import require_state, resume_study, stored_plan

    folder = StudyFolder.at(storage, name)
    require_state(folder)
    _watch(stored_plan(folder), folder, lambda watcher: resume_study(folder, watcher, address), progress)


@study_app.command()
def validate(file: StudyFile, skip_bad: SkipBadOption = False) -> None:
    """Check a study file and build its data and models; nothing is trained."""
    from ipgl.cli.console import make_console
    from ipgl.cli.live_display import DecodeLines
    from ipgl.data.image_cache import decoding_progress
    from ipgl.plan.final_runs import component_runs
    from ipgl.plan.preflight import check_by_building
    from ipgl.plan.study_plan import load_plan

    plan = load_plan(file, skip_bad)
    with decoding_progress(DecodeLines(make_console(error=True))):
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
    from ipgl.cli.console import make_console
    from ipgl.cli.tables import studies_table
    from ipgl.storage.study_dir import studies_at

    make_console().print(studies_table(studies_at(storage)))


@study_app.command()
def show(
    name: StudyName,
    storage: StorageOption = "runs",
    format: Annotated[
        Literal["table", "json"], typer.Option(help="json: final test runs, for programs.")
    ] = "table",
) -> None:
    """Show a study's results."""
    from ipgl.cli.console import make_console
    from ipgl.cli.live_display import print_results
    from ipgl.storage.study_dir import StudyFolder, study_command
    from ipgl.study.results import final_runs_json, summarise
    from ipgl.study.runner import require_state, stored_plan

    folder = StudyFolder.at(storage, name)
    state = require_state(folder)
    if format == "json":
        print(final_runs_json(folder, stored_plan(folder).config.evaluation.confidence))
        return
    print_results(make_console(), summarise(stored_plan(folder), folder).summary)
    if state["phase"] != "finished":
        print(f"The study has not finished; go on with it by: {study_command(folder, 'resume')}")


def _watch(
    plan: StudyPlan, folder: StudyFolder, action: Callable[[Events], FinishedStudy], progress: str
) -> None:
    """Run or resume a study with a live display, then print its results and the next step."""
    from ipgl.cli.console import make_console, print_links
    from ipgl.cli.live_display import print_results, run_displayed
    from ipgl.storage.study_dir import study_command

    console = make_console()
    try:
        finished = run_displayed(plan, folder, action, console, records=progress == "json")
    except KeyboardInterrupt:
        print(f"\nStopped. Nothing finished is lost; go on with: {study_command(folder, 'resume')}")
        sys.exit(130)
    print_results(console, finished.results.summary)
    print_links(console, finished.links, finished.warnings)
    console.print(f"open the report: {finished.folder.display_uri}/report.html", soft_wrap=True)
    if not any(method.final_runs for method in finished.results.summary.methods):
        sys.exit(1)
