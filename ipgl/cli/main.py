"""The `ipgl` command. Heavy imports stand inside the verbs' handlers, so that `ipgl --help` answers at once."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from ipgl.cli import cluster, results
from ipgl.cli.data import data_app, pairs_app
from ipgl.cli.study import study_app
from ipgl.core.errors import IpglError
from ipgl.core.version import __version__

# Exit codes, beside 0 and those of a study that was interrupted (130) or has no tested run (1).
USER_ERROR, INTERNAL_ERROR = 2, 3

app = typer.Typer(
    name="ipgl",
    help="Train image classifiers that ignore spurious correlations, and see how they hold up when groups shift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(study_app, name="study")
app.add_typer(data_app, name="data")
app.add_typer(pairs_app, name="pairs")
cluster.add_to(study_app, app)
results.add_to(app)


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


def main() -> NoReturn:
    """Run the command and exit.

    A user's error is one paragraph on standard error and exit code 2; a fault of this program is its traceback and 3.
    """
    # Torch, Ray and MLflow bring millions of objects that stay; looking for garbage among them as often as Python
    # does adds a fifth to the time that importing them takes.
    gc.set_threshold(100_000, 20, 20)
    try:
        app(standalone_mode=True)
    except IpglError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except BrokenPipeError:
        sys.exit(0)
    except Exception:
        traceback.print_exc()
        print("error: this is a fault of ipgl itself; nothing on storage is lost by it", file=sys.stderr)
        sys.exit(INTERNAL_ERROR)
    sys.exit(0)
