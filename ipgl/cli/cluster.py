"""Subcommands for clusters: `ipgl study submit, status, logs, stop` and `ipgl doctor`.

Heavy imports are made inside the functions, as in `ipgl.cli.main`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ipgl.cli.options import StudyFile

if TYPE_CHECKING:
    from ipgl.cluster.jobs import Cluster, Job

JobName = Annotated[str, typer.Argument(help="The job, as `submit` named it.", show_default=False)]
ClusterOption = Annotated[
    str,
    typer.Option(
        "--address", envvar="RAY_API_SERVER_ADDRESS", help="Address of the dashboard: http://HEAD:8265."
    ),
]
LOCAL = "http://127.0.0.1:8265"


def submit(
    file: StudyFile,
    address: ClusterOption = LOCAL,
    wait: Annotated[
        bool, typer.Option(help="Show the study's output until it ends, and exit with its code.")
    ] = True,
    working_dir: Annotated[
        Path, typer.Option(help="Folder that is sent along; the study file lies in it.")
    ] = Path("."),
    env: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE for the study and its trials; no secrets.", show_default=False),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Folder or URI that every node sees; default: the study file's.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study where it was interrupted.")
    ] = False,
) -> None:
    """Run a study as a job of a cluster: send this folder, start the study on the head, show what it prints."""
    from ipgl.cluster.jobs import Cluster, prepare

    submission = prepare(file, working_dir, _variables(env or []), resume, storage)
    cluster = Cluster(address)
    job = cluster.submit(submission)
    size = sum(submission.files.values()) / 2**20
    print(f"job {job}: {len(submission.files)} files sent ({size:.1f} MiB), {submission.entrypoint}")
    if wait:
        _follow(cluster, job)
    else:
        print(f"follow it by: {cluster.command('logs', job)} --follow")


def status(
    job: Annotated[
        str | None, typer.Argument(help="A job; without it, all studies of the cluster.", show_default=False)
    ] = None,
    address: ClusterOption = LOCAL,
    format: Annotated[Literal["table", "json"], typer.Option(help="json: for programs.")] = "table",
) -> None:
    """Show the studies that were submitted to a cluster, or one of them."""
    from dataclasses import asdict

    from rich.table import Table

    from ipgl.cli.console import make_console
    from ipgl.cluster.jobs import Cluster

    cluster = Cluster(address)
    found = [cluster.job(job)] if job else cluster.jobs()
    if format == "json":
        print(json.dumps([asdict(each) for each in found], indent=1))
        return
    table = Table(title=None if found else f"no studies were submitted to {cluster.display_uri} yet")
    for name in ("job", "study file", "status", "begun", "minutes", "exit code"):
        table.add_column(name, justify="right" if name in ("minutes", "exit code") else "left")
    for each in found:
        begun = (
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.begun_at))
            if each.begun_at is not None
            else ""
        )
        took = (each.ended_at or time.time()) - each.begun_at if each.begun_at is not None else None
        table.add_row(
            each.id,
            each.file,
            each.status,
            begun,
            "" if took is None else f"{took / 60:.1f}",
            "" if each.exit_code is None else str(each.exit_code),
        )
    make_console().print(table)
    if job and found[0].message and found[0].status == "FAILED":
        print(found[0].message)


def logs(
    job: JobName,
    address: ClusterOption = LOCAL,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Until the study ends; exit with its code.")
    ] = False,
) -> None:
    """Show what a submitted study has printed."""
    from ipgl.cli.log_follow import without_records
    from ipgl.cluster.jobs import Cluster

    cluster = Cluster(address)
    if follow:
        _follow(cluster, job)
    else:
        print(without_records(cluster.logs(job)), end="")


def stop(job: JobName, address: ClusterOption = LOCAL) -> None:
    """Stop a submitted study as Ctrl-C would: nothing that has finished is lost, and it can go on."""
    from ipgl.cluster.jobs import STOP_GRACE_SECONDS, Cluster

    cluster = Cluster(address)
    if not cluster.stop(job):
        print(f"{job} has ended already ({cluster.job(job).status})")
        return
    until = time.monotonic() + STOP_GRACE_SECONDS + 10
    while not (found := cluster.job(job)).ended and time.monotonic() < until:
        time.sleep(0.5)
    if not found.ended:
        print(f"{job} was told to stop, but is still {found.status}; see: {cluster.command('status', job)}")
        raise typer.Exit(1)
    print(f"{job} is stopped; nothing finished is lost. {_going_on(cluster, found)}")


def doctor(
    file: Annotated[
        Path | None,
        typer.Argument(help="A study file, whose storage and MLflow are meant.", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Ray address of a cluster that this machine is part of; default: $RAY_ADDRESS."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Folder or URI of the studies; default: the file's, or runs.", show_default=False),
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option(help="json: for programs.")] = "text",
) -> None:
    """Look for what would spoil a study, here or on every node of a cluster, and say what to do about it."""
    from ipgl.cluster.doctor.examine import examine

    findings = examine(file, address, storage)
    failed = any(finding.level == "error" for finding in findings)
    if format == "json":
        from dataclasses import asdict

        print(json.dumps({"ok": not failed, "findings": [asdict(each) for each in findings]}, indent=1))
    else:
        from ipgl.cli.console import make_console, print_remark

        console = make_console()
        colours = {"ok": "green", "warning": "yellow", "error": "red"}
        for each in findings:
            print_remark(console, f"{each.level:7}", f"{each.subject}: {each.message}", colours[each.level])
            if each.cure:
                console.print(f"        {each.cure}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def add_to(study_app: typer.Typer, app: typer.Typer) -> None:
    """Register submit, status, logs and stop under `ipgl study`, and doctor at the top level."""
    for verb in (submit, status, logs, stop):
        study_app.command()(verb)
    app.command()(doctor)


def _variables(given: list[str]) -> dict[str, str]:
    from ipgl.core.errors import IpglError

    broken = [text for text in given if not text.partition("=")[0].isidentifier() or "=" not in text]
    if broken:
        # The value may be a secret without a name, so it is not repeated.
        raise IpglError(f"--env takes NAME=VALUE, but {len(broken)} of {len(given)} have another form")
    return dict(text.split("=", 1) for text in given)


def _follow(cluster: Cluster, job: str) -> None:
    """Show a job's output until it ends, and exit with its code; Ctrl-C ends this command, not the job."""
    from ipgl.cli.console import make_console
    from ipgl.cli.log_follow import LogFollower

    try:
        with LogFollower(make_console()) as output:
            found = cluster.follow(job, output.write)
    except KeyboardInterrupt:
        print(
            f"\nDetached; {job} goes on. Come back by: {cluster.command('logs', job)} --follow\n"
            f"Stop it by: {cluster.command('stop', job)}"
        )
        sys.exit(130)
    if found.status != "SUCCEEDED":
        print(f"{job}: {found.status.lower()}{_reason(found)}. {_going_on(cluster, found)}", file=sys.stderr)
    raise typer.Exit(found.code)


def _reason(job: Job) -> str:
    if job.status == "STOPPED":
        return ""
    if job.exit_code == 127:
        return ": the cluster's head has no `ipgl` on its PATH; install it in the cluster's image"
    if job.exit_code is not None:
        return f", exit code {job.exit_code}"
    return f": {job.message}"


def _going_on(cluster: Cluster, job: Job) -> str:
    if not job.file:
        return ""
    return f"Go on with: ipgl study submit {job.file} --resume --address {cluster.display_uri}"
