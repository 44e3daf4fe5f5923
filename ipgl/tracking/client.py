"""Connections to MLflow: its process-wide settings, a quick check, and its errors as `TrackingError`."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ipgl.core.errors import TrackingError
from ipgl.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow reads these settings from environment variables only. Its own limits, 120 seconds and seven retries with
# doubling pauses, would hold up a study for minutes when a server is down.
SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
CHECK_TIMEOUT_SECONDS = 5
_LONGEST_CAUSE = 600


def set_environment() -> None:
    """Set MLflow's environment variables for this process; those that the user has set stay.

    Call it in the main thread before other threads use MLflow: a process's environment is shared by its threads, and
    changing it while another thread reads it is a race.
    """
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)


def forbid_retries() -> None:
    """Keep MLflow from repeating requests in this process, whatever the user has set; see `set_environment`.

    A request to create a run that is repeated after a lost answer creates a second run. Without retries it fails,
    and the next call finds the run that was created.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"


def connect(store: Store) -> MlflowClient:
    """A client of `store`, with MLflow's log messages off; creates a SQLite file that is missing."""
    _silence_loggers()
    from mlflow import MlflowClient

    if store.database and not store.database.exists():
        _create_database(store.database, store.artifact_root)
    return MlflowClient(store.uri)


def probe(store: Store) -> None:
    """Raise MLflow's or the database driver's own error, within seconds, if `store` cannot be used."""
    if not store.is_server and store.database is None:
        # MLflow retries a database for almost two minutes; this single attempt comes first.
        import sqlalchemy

        seconds = "timeout" if store.uri.startswith("mssql") else "connect_timeout"
        engine = sqlalchemy.create_engine(store.uri, connect_args={seconds: CHECK_TIMEOUT_SECONDS})
        with engine.connect():
            pass
        engine.dispose()
    if store.database and store.database.exists() and not os.access(store.database, os.W_OK):
        raise PermissionError(f"{store.database} cannot be written")
    if store.is_server:
        _probe_server(store)
    else:
        connect(store).search_experiments(max_results=1)


@contextmanager
def tracking_errors(store: Store, action: str) -> Iterator[None]:
    """Turn what MLflow raises within into a `TrackingError`: place, what failed, cause, next step."""
    _silence_loggers()
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError, ImportError) as error:
        cause = " ".join(store.redact(str(error)).split()) or type(error).__name__
        if len(cause) > _LONGEST_CAUSE:
            cause = cause[: _LONGEST_CAUSE - 1] + "…"
        message = f"MLflow at {store.display_uri}: cannot {action}: {cause.rstrip('.')}. {_next_step(store)}"
        # A chained cause would carry the address with its credentials into tracebacks.
        raise TrackingError(message) from None


def _probe_server(store: Store) -> None:
    # `MlflowClient` takes its limits from the environment alone; the function below it takes them as arguments.
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    endpoint = "/api/2.0/mlflow/experiments/search"
    answer = http_request(
        get_default_host_creds(store.uri),
        endpoint,
        "GET",
        max_retries=0,
        timeout=CHECK_TIMEOUT_SECONDS,
        params={"max_results": 1},
    )
    verify_rest_response(answer, endpoint)


def _silence_loggers() -> None:
    import mlflow  # noqa: F401  (it sets its loggers' levels when it is first imported)

    for name, level in (
        ("mlflow", logging.WARNING),
        ("alembic", logging.WARNING),
        ("urllib3", logging.ERROR),
    ):
        logging.getLogger(name).setLevel(level)


def _next_step(store: Store) -> str:
    without = "or set `tracking: {name: none}` to do without MLflow; the study's own files are not affected."
    if store.is_server:
        return (
            "Check that the server runs and that `tracking.uri` is right, leave `tracking.uri` out to keep a local "
            f"database (shown by `ipgl ui`), {without}"
        )
    if store.database:
        return f"Check that the file is a current MLflow database in a folder with space that you may write, {without}"
    return f"Check that the database runs, that its driver is installed and that `tracking.uri` is right, {without}"


def _create_database(database: Path, artifact_root: Path | None) -> None:
    # Built in a temporary folder and linked when complete: a kill leaves no partial schema, and of two
    # drivers that start at once the second uses the first one's file.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=database.parent, prefix=f".{database.name}.") as folder:
        draft = Path(folder) / database.name
        SqlAlchemyStore(f"sqlite:///{draft.as_posix()}", str(artifact_root)).engine.dispose()
        try:
            os.link(draft, database)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            os.replace(draft, database)
