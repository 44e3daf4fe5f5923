"""The `ipgl` command and its exit codes.

Heavy imports are made inside the subcommands' functions, which keeps `ipgl --help` fast.
"""

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

# Other exit codes: 0 for success, 1 for a study without a completed final run, 130 for an interrupted study.
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

    An error that the user can correct is printed as one paragraph on standard error, with exit code 2. Any other
    exception is an error in ipgl itself: its traceback is printed, with exit code 3.
    """
    # Torch, Ray and MLflow create millions of permanent objects. With Python's default thresholds, garbage collection
    # adds a fifth to the time of importing them.
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
