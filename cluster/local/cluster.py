"""A small Ray cluster and MLflow on this machine, to try a study the way a real cluster runs it.

    python cluster/local/cluster.py up | status | down

One head without CPUs and some workers, each a node of its own to Ray; the token is needed to talk to them. Every
listener is on 127.0.0.1. `ray start` cannot do that (it binds all interfaces, whatever `--node-ip-address` says), so
a supervisor process starts the nodes through Ray's own `ray.cluster_utils`, and ends them all when it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil

HOST = "127.0.0.1"
UP_SECONDS = 120.0
DOWN_SECONDS = 30.0
# Every process of the cluster inherits this from the supervisor; it is how a crashed cluster's remains are found.
MARK = "IPGL_LOCAL_CLUSTER"
# The environment holds a token or password; nobody else may read these files.
PRIVATE = 0o600


class ClusterError(Exception):
    """Something the user can put right."""


class Place:
    """The folder that holds all files of one local cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self.state = self.folder / "state.json"
        self.env = self.folder / "env"
        self.pid = self.folder / "supervisor.pid"
        self.token = self.folder / "ray_token"
        self.password = self.folder / "mlflow_password"
        self.ray_folder = self.folder / "ray_folder"
        self.logs = self.folder / "logs"

    def processes(self) -> list[psutil.Process]:
        """Every living process of this cluster, whether or not the supervisor still runs.

        Most carry the mark in their environment; Ray's workers and agents write their title over theirs, but stay
        in the supervisor's session, whose number the system does not give away while one of them lives.
        """
        session = self._supervisor_number()
        marked: list[psutil.Process] = []
        others: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                (marked if process.environ().get(MARK) == str(self.folder) else others).append(process)
        if session is None or any(process.pid == session for process in others):
            return marked
        for process in others:
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == session and "ray" in process.name() + " ".join(
                    process.cmdline()
                ):
                    marked.append(process)
        return marked

    def supervisor(self) -> psutil.Process | None:
        """The supervisor, if it lives; a process that merely took over its number is another one."""
        number = self._supervisor_number()
        return next((process for process in self.processes() if process.pid == number), None)

    def _supervisor_number(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self.pid.read_text())
        return None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, never readable by others even for a moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "w") as file:
        file.write(text)
    os.replace(temporary, path)


def require_free(port: int, option: str) -> None:
    """Raise unless this port of 127.0.0.1 can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ClusterError(
                f"port {port} on {HOST} cannot be had ({error.strerror}); give another: {option}"
            ) from None


# up


def up(place: Place, options: argparse.Namespace) -> None:
    """Start the supervisor and wait until everything answers.

    Raises:
        ClusterError: It runs already, a port is taken, or it does not come up; the cause is in the logs.
    """
    if place.processes():
        raise ClusterError(f"a cluster of {place.folder} is running: `status` shows it, `down` ends it")
    if options.workers < 1 or options.cpus < options.workers:
        raise ClusterError(
            f"each worker needs at least one CPU, but got {options.workers} workers and {options.cpus} CPUs; "
            "give --workers N and --cpus M with 1 <= N <= M"
        )
    for name in ("gcs_port", "dashboard_port", "mlflow_port"):
        require_free(getattr(options, name), f"--{name.replace('_', '-')}")
    shutil.rmtree(place.logs, ignore_errors=True)
    place.logs.mkdir(parents=True)
    place.folder.chmod(0o700)
    for path in (place.state, place.env, place.pid):
        path.unlink(missing_ok=True)
    for secret in (place.token, place.password):
        write_private(secret, secrets.token_hex(32))
    # Of the caller's environment nothing that points Ray or MLflow elsewhere may pass.
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    environment = clean | ray_environment(place) | {MARK: str(place.folder)}
    # A submitted job calls `ipgl` by name: the one that is installed here.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", os.defpath)])
    command = [sys.executable, str(Path(__file__).resolve()), "supervise", "--folder", str(place.folder)]
    for name in ("workers", "cpus", "memory_gib", "gcs_port", "dashboard_port", "mlflow_port"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    with (place.logs / "supervisor.log").open("wb") as log:
        child = subprocess.Popen(
            command,
            env=environment,
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + UP_SECONDS
    try:
        while not place.state.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                raise ClusterError(
                    f"the cluster did not come up within {UP_SECONDS:.0f} s; "
                    f"the end of {place.logs / 'supervisor.log'}:\n{tail(place.logs / 'supervisor.log')}"
                )
            time.sleep(0.2)
    except BaseException:
        down(place)
        raise


def ray_environment(place: Place) -> dict[str, str]:
    """What Ray needs, on nodes and clients alike, to ask for the token and stay on loopback."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place.token),
        # Ray's switch for desktops whose firewall would ask: it binds 127.0.0.1 in place of all interfaces.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


# supervise: runs in the background


def supervise(place: Place, options: argparse.Namespace) -> None:
    """Hold the nodes and MLflow until SIGTERM; nothing outlives this."""
    write_private(place.pid, str(os.getpid()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        mlflow = stack.enter_context(mlflow_server(place, options.mlflow_port))
        address = stack.enter_context(ray_nodes(place, options))
        wait_for_mlflow(mlflow, options.mlflow_port)
        variables = ray_environment(place) | {
            "RAY_ADDRESS": address,
            "RAY_API_SERVER_ADDRESS": f"http://{HOST}:{options.dashboard_port}",
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{options.mlflow_port}",
        }
        if mlflow_auth_possible():
            variables |= {
                "MLFLOW_TRACKING_USERNAME": "admin",
                "MLFLOW_TRACKING_PASSWORD": place.password.read_text(),
            }
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        write_private(place.env, "".join(lines))
        state = {
            "ray": address,
            "dashboard": variables["RAY_API_SERVER_ADDRESS"],
            "mlflow": variables["MLFLOW_TRACKING_URI"],
            "mlflow_auth": mlflow_auth_possible(),
            "workers": options.workers,
            "cpus": options.cpus,
        }
        write_private(place.state, json.dumps(state))
        while mlflow.poll() is None:
            time.sleep(1)
        print(f"MLflow ended by itself with status {mlflow.returncode}; the cluster ends too", flush=True)


def _stop(number: int, frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not cut the clean-up short
    raise KeyboardInterrupt


@contextlib.contextmanager
def ray_nodes(place: Place, options: argparse.Namespace) -> Iterator[str]:
    """The head and the workers; yields the address of the cluster."""
    import ray
    from ray.cluster_utils import Cluster

    # Ray opens its folder to everybody and puts sockets into it, whose paths may have 107 characters: so a short
    # one, inside one that is ours alone.
    outer = Path(tempfile.mkdtemp(prefix="ipgl-", dir="/tmp"))
    write_private(place.ray_folder, str(outer))
    ray_folder = outer / "ray"
    # CPUs are dealt out as evenly as they go; the head has none, so that trials run where a real cluster runs them.
    shares = [
        options.cpus // options.workers + (i < options.cpus % options.workers) for i in range(options.workers)
    ]
    memory = int(options.memory_gib * 2**30) // options.workers
    cluster = Cluster()
    try:
        cluster.add_node(
            num_cpus=0,
            gcs_server_port=options.gcs_port,
            include_dashboard=True,
            dashboard_host=HOST,
            dashboard_port=options.dashboard_port,
            temp_dir=str(ray_folder),
        )
        for number, share in enumerate(shares):
            # Each node unpacks a job's working folder anew: nodes that share a place pull it from under each other.
            place_of_jobs = f"runtime_resources_{number}"
            cluster.add_node(
                num_cpus=share, memory=memory, temp_dir=str(ray_folder), runtime_env_dir_name=place_of_jobs
            )
        # A dashboard that does not start is no error to Ray, but jobs could not be submitted.
        wait_for_http(f"http://{HOST}:{options.dashboard_port}/api/version", "Ray's dashboard")
        (place.logs / "ray").symlink_to(Path(cluster.head_node.get_logs_dir_path()))
        yield str(cluster.address)
    finally:
        cluster.shutdown()
        ray.shutdown()
        keep_logs(place)


def keep_logs(place: Place) -> None:
    """Put Ray's logs among the others, and remove its folder."""
    if not place.ray_folder.exists():
        return
    outer, link = Path(place.ray_folder.read_text()), place.logs / "ray"
    if link.is_symlink():
        source = link.readlink()
        link.unlink()
        if source.is_dir():
            shutil.copytree(source, link, symlinks=True, ignore_dangling_symlinks=True)
    shutil.rmtree(outer, ignore_errors=True)
    place.ray_folder.unlink()


@contextlib.contextmanager
def mlflow_server(place: Place, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow with SQLite; with a password if the `auth` extra is installed."""
    data = place.folder / "mlflow"
    data.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{data / 'mlflow.db'}",
        "MLFLOW_ARTIFACTS_DESTINATION": str(data / "artifacts"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    if mlflow_auth_possible():
        command += ["--app-name", "basic-auth"]
        configuration = data / "basic_auth.ini"
        # A new password each time, so the user store is made anew; the runs stay.
        users = data / "users.db"
        users.unlink(missing_ok=True)
        write_private(
            configuration,
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\nadmin_username = admin\n"
            f"database_uri = sqlite:///{users}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        )
        environment |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
            "MLFLOW_AUTH_ADMIN_PASSWORD": place.password.read_text(),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        }
    with (place.logs / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def mlflow_auth_possible() -> bool:
    """Whether MLflow's `auth` extra is installed."""
    return importlib.util.find_spec("flask_wtf") is not None


def wait_for_mlflow(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the pages answer."""
    wait_for_http(f"http://{HOST}:{port}/health", "MLflow", server)


def wait_for_http(url: str, name: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until `url` answers at all; asking for a password is an answer.

    Raises:
        ClusterError: It does not in time, or its process ended.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + UP_SECONDS / 2
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            with direct.open(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise ClusterError(f"{name} does not answer at {url}")


# status and down


def status(place: Place) -> int:
    """Print what runs; 0 if everything does, 3 if nothing does, 1 if something is left without its supervisor."""
    processes = place.processes()
    if not processes:
        print(f"no cluster runs in {place.folder}")
        return 3
    if place.supervisor() is None or not place.state.exists():
        print(f"{len(processes)} processes without a working supervisor: end them with `down`")
        return 1
    memory = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_info().rss / 2**30
    print(describe(place))
    print(f"{len(processes)} processes, {memory:.1f} GiB (pages that they share counted in each)")
    return 0


def describe(place: Place) -> str:
    """How to reach the cluster."""
    state: dict[str, Any] = json.loads(place.state.read_text())
    guard = (
        "user admin, password in " + str(place.password)
        if state["mlflow_auth"]
        else "no password: loopback only"
    )
    return (
        f"Ray        {state['ray']}  ({state['workers']} workers, {state['cpus']} CPUs, token needed)\n"
        f"dashboard  {state['dashboard']}  (token in {place.token})\n"
        f"MLflow     {state['mlflow']}  ({guard})\n"
        f"logs       {place.logs}\n"
        f"use it     . {shlex.quote(str(place.env))} && ipgl study run studies/quickstart.yaml"
    )


def down(place: Place) -> int:
    """End every process of the cluster, also after a crash; how many had to be killed."""
    outer = Path(place.ray_folder.read_text()) if place.ray_folder.exists() else None
    supervisor = place.supervisor()
    if supervisor is not None:
        with contextlib.suppress(psutil.Error):
            supervisor.terminate()
            supervisor.wait(DOWN_SECONDS)
    rest = place.processes()
    for process in rest:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(rest, timeout=DOWN_SECONDS)
    left = place.processes()
    if left:
        raise ClusterError(f"processes {[process.pid for process in left]} could not be ended")
    for path in (place.state, place.env, place.pid, place.token, place.password):
        path.unlink(missing_ok=True)
    keep_logs(place)
    # A node that was still ending may have written again after the supervisor removed the folder.
    if outer is not None:
        shutil.rmtree(outer, ignore_errors=True)
    return len(rest)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("up", "supervise", "status", "down"):
        command = verbs.add_parser(verb)
        command.add_argument("--folder", type=Path, default=Path("runs/.cluster"), help="its files and logs")
        if verb in ("up", "supervise"):
            command.add_argument("--workers", type=int, default=2, help="worker nodes")
            command.add_argument("--cpus", type=int, default=2, help="CPUs of all workers together")
            command.add_argument(
                "--memory-gib", type=float, default=4.0, help="memory that trials may reserve"
            )
            command.add_argument("--gcs-port", type=int, default=6379, help="Ray's own port")
            command.add_argument(
                "--dashboard-port", type=int, default=8265, help="Ray's dashboard and job API"
            )
            command.add_argument("--mlflow-port", type=int, default=5000, help="MLflow's pages")
    return parser


def main() -> int:
    """Run one verb."""
    options = parser().parse_args()
    place = Place(options.folder)
    try:
        if options.verb == "up":
            up(place, options)
            print(describe(place))
        elif options.verb == "supervise":
            supervise(place, options)
        elif options.verb == "status":
            return status(place)
        else:
            killed = down(place)
            print("stopped" + (f"; {killed} processes had to be killed" if killed else ""))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
