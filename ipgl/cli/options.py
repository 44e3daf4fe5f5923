"""Options and arguments that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

StorageOption = Annotated[str, typer.Option(help="Folder, or URI, that holds the studies.")]
AddressOption = Annotated[
    str | None, typer.Option(help="Ray address; default: $RAY_ADDRESS, or this machine.")
]
StudyFile = Annotated[Path, typer.Argument(help="Study file (YAML).", show_default=False)]
SkipBadOption = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out, and record, faulty rows, images and pairs of the data set."),
]
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
