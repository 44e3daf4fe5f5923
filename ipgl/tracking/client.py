"""Talking to MLflow quietly, with short retries, and with its many errors as one `TrackingError`."""

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

# MLflow knows these switches only as environment variables; whatever the user has set stays. Its own seven
# retries with doubling pauses would hold up the study's driver for minutes when a server goes away.
SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
CHECK_TIMEOUT_SECONDS = 5
_LONGEST_CAUSE = 600


def connect(store: Store) -> MlflowClient:
    """A client of `store`, with MLflow's telemetry and chatter off; creates a SQLite file that is missing."""
    _quieten()
    from mlflow import MlflowClient

    if store.database and not store.database.exists():
        _create_database(store.database, store.artifact_root)
    return MlflowClient(store.uri)


def probe(store: Store) -> None:
    """Raise MLflow's or the database driver's own error, within seconds, if `store` cannot be used."""
    if not store.is_server and store.database is None:
        # MLflow retries a database for almost two minutes; one attempt of our own comes first.
        import sqlalchemy

        seconds = "timeout" if store.uri.startswith("mssql") else "connect_timeout"
        engine = sqlalchemy.create_engine(store.uri, connect_args={seconds: CHECK_TIMEOUT_SECONDS})
        with engine.connect():
            pass
        engine.dispose()
    if store.database and store.database.exists() and not os.access(store.database, os.W_OK):
        raise PermissionError(f"{store.database} cannot be written")
    with http_limits(retries=0, timeout_seconds=CHECK_TIMEOUT_SECONDS):
        connect(store).search_experiments(max_results=1)


@contextmanager
def http_limits(retries: int, timeout_seconds: int | None = None) -> Iterator[None]:
    """Other limits for the requests within; MLflow reads them from the environment at every request."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries)}
    if timeout_seconds is not None:
        limits["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(timeout_seconds)
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def tracking_errors(store: Store, action: str) -> Iterator[None]:
    """Turn what MLflow raises within into a `TrackingError`: place, what failed, cause, next step."""
    _quieten()
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


def _quieten() -> None:
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
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
    # Built beside its place and linked in when complete: a kill leaves no half-made schema, and of two
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
