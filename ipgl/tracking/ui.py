"""The command `ipgl ui`: serve MLflow's pages for the local database, by default to this machine only."""

from __future__ import annotations

import errno
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ipgl.core.errors import TrackingError
from ipgl.tracking.client import SWITCHES
from ipgl.tracking.store import locate

_POLL_SECONDS = 0.3
_GRACE_SECONDS = 10


def ui_command(
    storage: Path, uri: str | None = None, host: str = "127.0.0.1", port: int = 5000
) -> tuple[list[str], dict[str, str]]:
    """The server's command line and environment.

    The database's address goes through the environment, because every user of the machine can read a command line.

    Raises:
        TrackingError: There is no local database yet, or `uri` is a server, which has its own pages.
    """
    store = locate(storage, uri)
    if store.is_server:
        raise TrackingError(
            f"the runs are on an MLflow server, so there is nothing to start: open {store.browser_base}"
        )
    if store.database and not store.database.exists():
        raise TrackingError(
            f"there is no MLflow database at {store.database} yet: run a study first, "
            "or name the storage folder of one that has run"
        )
    server = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    quiet = ["--no-serve-artifacts", "--uvicorn-opts", "--log-level warning"]
    environment = {
        **SWITCHES,
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store.uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": str(store.artifact_root),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore",  # MLflow's own deprecation warnings
    }
    return [*server, *quiet], environment


def run_ui(
    storage: Path,
    uri: str | None = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    announce: Callable[[str], object] = print,
) -> int:
    """Serve until Ctrl-C or SIGTERM; leaves no process behind.

    Args:
        storage: Folder of all studies.
        uri: The study file's `tracking.uri`.
        host: Interface to listen on; anything but loopback shows the results to the network.
        port: TCP port.
        announce: Called with the address once the server responds.

    Returns:
        The server's exit status; 0 if it was stopped from here.

    Raises:
        TrackingError: No database yet, or the port is taken; the message names a free one.
    """
    command, environment = ui_command(storage, uri, host, port)
    if warning := exposure(host):
        print(f"warning: {warning}", file=sys.stderr)
    _require_free(host, port)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    # Its own session: Ctrl-C in the terminal reaches this process alone, and one signal ends all server processes.
    server = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        if _wait_until_ready(server, host, port):
            announce(f"http://{host}:{port}")
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)
        for number, handler in before.items():
            signal.signal(number, handler)


def exposure(host: str) -> str:
    """A warning about who can reach a server that listens on `host`; empty for loopback."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        return ""
    return (
        f"on {host} everyone who reaches this machine can read, change and delete the results, without a password; "
        "leave --host out and forward the port (ssh -L), or run an MLflow server with accounts"
    )


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _wait_until_ready(server: subprocess.Popen[bytes], host: str, port: int) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None:
        try:
            with direct.open(f"http://{host}:{port}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_SECONDS)
    return False


def _end(server: subprocess.Popen[bytes]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave the server behind
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _GRACE_SECONDS)):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    server.wait()


def _require_free(host: str, port: int) -> None:
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise TrackingError(f"cannot listen on {host}: {error.strerror}; use --host 127.0.0.1") from None
        reason = "is taken" if error.errno == errno.EADDRINUSE else "is reserved for the administrator"
        raise TrackingError(f"port {port} on {host} {reason}: try --port {_bind(host, 0)}") from None


def _bind(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
