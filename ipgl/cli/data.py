"""Subcommands for data: `ipgl data make-waterbirds, preview, features` and `ipgl pairs audit`.

Heavy imports are made inside the functions, as in `ipgl.cli.main`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ipgl.cli.options import SkipBadOption, StudyFile

data_app = typer.Typer(help="Generate data sets and look at them.", no_args_is_help=True)
pairs_app = typer.Typer(help="Check invariance pairs.", no_args_is_help=True)


@pairs_app.callback()
def _pairs() -> None:
    # Without a callback typer would make an app's only command the app itself.
    pass


MethodOption = Annotated[
    str | None, typer.Option(help="Label whose data set is meant; default: the study's first.")
]


@data_app.command("make-waterbirds")
def make_waterbirds(
    cub: Annotated[Path, typer.Option(help="CUB-200-2011's folder, with its masks.", show_default=False)],
    places: Annotated[Path, typer.Option(help="Places' folder.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="Folder that receives the data set's folder.", show_default=False)
    ],
    strength: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of training birds on their own place type; 0.95 as published."
        ),
    ] = 0.95,
    pairs: Annotated[
        int, typer.Option(min=0, help="Training birds to show on the other place type, too (pairs.csv).")
    ] = 0,
    species: Annotated[
        Literal["published", "corrected"],
        typer.Option(help="corrected: three land birds that the published list takes for water birds."),
    ] = "published",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out, and record, birds whose picture cannot be made.")
    ] = False,
) -> None:
    """Make Waterbirds at any correlation strength; run again, it goes on where it was interrupted."""
    from ipgl.cli.data_views import run_generator
    from ipgl.data.generate import WaterbirdsPlan

    plan = WaterbirdsPlan(strength=strength, pairs=pairs, species=species, seed=seed)
    try:
        run_generator(plan, cub, places, out, skip_bad)
    except KeyboardInterrupt:
        print("\nStopped. What is made is kept; the same command goes on.")
        sys.exit(130)


@data_app.command()
def preview(
    file: StudyFile,
    method: MethodOption = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG to write; default: <study>-groups.png here.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(min=0, max=50, help="Pictures of each group.")] = 8,
    skip_bad: SkipBadOption = False,
) -> None:
    """Show a study's groups with their counts and some pictures, here and as PNG."""
    from ipgl.cli.data_views import show_groups

    show_groups(file, method, out, samples, skip_bad)


@data_app.command()
def features(
    file: StudyFile,
    out: Annotated[Path, typer.Option(help="File (.npy) to write.", show_default=False)],
    method: MethodOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Write the training images' features, from a frozen model, for `pairs: {source: matched, features: FILE}`."""
    from ipgl.cli.data_views import write_features

    write_features(file, method, out, skip_bad)


@pairs_app.command()
def audit(
    file: StudyFile,
    method: MethodOption = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG to write; default: <study>-pairs.png here.", show_default=False)
    ] = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="json: for programs, no PNG.")] = "table",
    skip_bad: SkipBadOption = False,
) -> None:
    """Check a study's pairs against its splits and each other; exit code 2 if they make results wrong."""
    from ipgl.cli.data_views import show_audit

    show_audit(file, method, out, format == "json", skip_bad)
