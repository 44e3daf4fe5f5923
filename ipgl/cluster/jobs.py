"""Studies as jobs of a remote Ray cluster: submitting, following and stopping them with Ray's job client."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from ipgl.cluster.package import EXCLUDES, packaged_files, require_sendable
from ipgl.config import ConfigError, Violation
from ipgl.core.errors import IpglError, ResourceError, StudyStateError
from ipgl.core.redaction import names_secret, without_credentials
from ipgl.plan.study_plan import StudyPlan, load_plan

CONNECT_TIMEOUT_SECONDS = 8
# A stopped study updates its tracker and writes its state, for which Ray's default of 3 seconds is too short.
STOP_GRACE_SECONDS = 60
_RECONNECTS = 10
_RECONNECT_PAUSE_SECONDS = 3
_CLIENT_LOGGERS = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env",
)


@dataclass(frozen=True)
class Job:
    """A study that was submitted as a job.

    Attributes:
        id: Ray's submission id.
        study: The study's name; empty for a job that was not submitted by `ipgl`.
        file: The study file, as submitted.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        exit_code: Exit code of the study; None while it runs, and if it was stopped or never started.
        begun_at: Start in seconds since the epoch; None before it.
        ended_at: End in seconds since the epoch; None before it.
        message: Ray's explanation of the status.
    """

    id: str
    study: str
    file: str
    status: str
    exit_code: int | None
    begun_at: float | None
    ended_at: float | None
    message: str

    @property
    def ended(self) -> bool:
        return bool(JobStatus(self.status).is_terminal())

    @property
    def code(self) -> int:
        """Exit code of a command that waits for the job: that of the study, or 130 if the job was stopped."""
        if self.status == JobStatus.SUCCEEDED:
            return 0
        return 130 if self.status == JobStatus.STOPPED else self.exit_code or 1


@dataclass(frozen=True)
class Submission:
    """A study that has been checked and can be submitted.

    Attributes:
        plan: The study.
        folder: Working folder, absolute.
        file: The study file, relative to `folder`.
        files: Sizes in bytes of the files that are sent, by path relative to `folder`.
        environment: Environment variables of the study and its trials.
        resume: Whether to resume the study, which is on the cluster's storage.
        storage: Whether the storage differs from that of the study file.
    """

    plan: StudyPlan
    folder: Path
    file: Path
    files: dict[Path, int]
    environment: dict[str, str]
    resume: bool = False
    storage: bool = False

    @property
    def entrypoint(self) -> str:
        """The job's command line."""
        config = self.plan.config
        words = (
            ["resume", config.name, "--storage", config.storage] if self.resume else ["run", str(self.file)]
        )
        if self.storage and not self.resume:
            words += ["--storage", config.storage]
        words += ["--progress", "json"]  # `LogFollower` shows these records as a table
        return shlex.join(["ipgl", "study", *words])


def prepare(
    file: Path,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    resume: bool = False,
    storage: str | None = None,
) -> Submission:
    """Check a study file, and that all files that it needs would be sent. Nothing is sent yet.

    Args:
        file: The study file.
        folder: Working folder, which is sent with the job.
        environment: Environment variables of the study and its trials.
        resume: Whether to resume the study, which is on the cluster's storage.
        storage: Folder or URI that replaces the file's `storage`.

    Raises:
        IpglError: The file is not valid, its storage would be removed with the job, the folder is too large or
            lacks a file that the study names, or a variable holds a secret.
    """
    plan = load_plan(file, storage=storage)
    folder = folder.resolve()
    place = plan.config.storage
    if not (Path(place).is_absolute() or place.startswith("~") or "://" in place):
        raise ConfigError(
            plan.document,
            [
                Violation(
                    ("storage",),
                    "a submitted study runs in a copy of the working folder that goes with the job, so its storage "
                    f"must be an absolute path that every node sees, or a URI (storage: /shared/runs, or the option "
                    f"--storage), but got {place!r}",
                )
            ],
        )
    try:
        relative = file.resolve().relative_to(folder)
    except ValueError:
        raise StudyStateError(
            f"{file}: a study file must lie in the working folder that is sent, but that is {folder}; "
            "name another one with --working-dir"
        ) from None
    _refuse_secrets(environment or {})
    files = packaged_files(folder)
    imports = [relative.parent / entry for entry in plan.config.imports if entry.endswith(".py")]
    needed = [Path(os.path.normpath(path)) for path in (relative, *imports)]
    missing = [str(path) for path in needed if path not in files]
    if missing:
        raise StudyStateError(
            f"{file}: the study needs {', '.join(missing)}, which would not be sent: a file must lie in {folder} and "
            "match no pattern of its .gitignore and .rayignore files, nor one of: " + " ".join(EXCLUDES)
        )
    require_sendable(folder, files)
    return Submission(plan, folder, relative, files, dict(environment or {}), resume, storage is not None)


def _refuse_secrets(environment: Mapping[str, str]) -> None:
    """Refuse secrets among a job's variables, since every user of the cluster can read these."""
    for name, value in environment.items():
        if names_secret(name) or without_credentials(value) != value:
            raise IpglError(
                f"--env {name}: a job's variables can be read by everyone who may use the cluster, and this one looks "
                "like a secret; give it to the cluster's nodes instead (a Kubernetes secret, or their environment)"
            )


class Cluster:
    """The job server of a Ray cluster.

    Args:
        address: Address of the dashboard, `http://HEAD:8265` or https.

    Attributes:
        address: The address.
        display_uri: The address without credentials, for messages.

    Raises:
        ResourceError: The server cannot be reached, or refuses the token.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.display_uri = without_credentials(self.address)
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ResourceError(
                f"jobs go to the address of Ray's dashboard, http://HEAD:8265, but got {self.display_uri!r}; "
                "`ray status` on the head, or whoever runs the cluster, tells the host"
            )
        for name in _CLIENT_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._require_reachable()
        with self._errors(), _no_other_address():
            self._client = JobSubmissionClient(self.address)

    def submit(self, submission: Submission) -> str:
        """Send the working folder and start the study.

        Returns:
            The job's id.

        Raises:
            ResourceError: The cluster refuses.
        """
        config = submission.plan.config
        environment = {
            "PYTHONUNBUFFERED": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_GRACE_SECONDS),
            **submission.environment,
        }
        with self._errors():
            job: str = self._client.submit_job(
                entrypoint=submission.entrypoint,
                submission_id=f"{config.name}-{secrets.token_hex(3)}",
                metadata={"ipgl.study": config.name, "ipgl.file": str(submission.file)},
                runtime_env={
                    "working_dir": str(submission.folder),
                    "excludes": list(EXCLUDES),
                    "env_vars": environment,
                },
                # The driver of the study runs on the head node, since workers may be removed.
                entrypoint_resources={"node:__internal_head__": 0.001},
            )
        return job

    def job(self, job: str) -> Job:
        """The present state of a job.

        Raises:
            StudyStateError: There is no such job.
            ResourceError: The cluster cannot be reached.
        """
        with self._errors(job):
            return _job(self._client.get_job_info(job))

    def jobs(self) -> list[Job]:
        """All submitted studies, the oldest first."""
        with self._errors():
            found = [_job(info) for info in self._client.list_jobs() if info.submission_id]
        return sorted((job for job in found if job.study), key=lambda job: job.begun_at or time.time())

    def logs(self, job: str) -> str:
        """The output of a job so far."""
        with self._errors(job):
            return str(self._client.get_job_logs(job))

    def stop(self, job: str) -> bool:
        """Request that a job stops, as by Ctrl-C; False if it has ended already."""
        with self._errors(job):
            return bool(self._client.stop_job(job))

    def follow(self, job: str, write: Callable[[str], object]) -> Job:
        """Pass on the output of a job until it has ended, reconnecting if the connection is lost.

        Args:
            job: The job's id.
            write: Receives the output in pieces, from its beginning.

        Returns:
            The job after its end.

        Raises:
            KeyboardInterrupt: The user interrupted this command; the job continues.
            ResourceError: The connection was lost and could not be made again.
        """
        import asyncio

        shown = 0

        async def tail() -> None:
            nonlocal shown
            position = 0
            async for chunk in self._client.tail_job_logs(job):
                new = chunk[max(0, shown - position) :]
                position += len(chunk)
                if new:
                    write(new)
                    shown = position

        self.job(job)  # an unknown job has no log to wait for
        tries = 0
        while True:
            before = shown
            try:
                asyncio.run(tail())
            except (RuntimeError, OSError) as error:
                lost: Exception | None = error
            else:
                lost = None
            if lost is None:
                found = self.job(job)
                if found.ended:
                    return found
            tries = 0 if shown > before else tries + 1
            if tries > _RECONNECTS:
                raise ResourceError(
                    f"{self.display_uri}: the connection to the logs of {job} was lost and could not be made again "
                    f"({lost}); the job goes on without it, come back by: {self.command('logs', job)} --follow"
                )
            time.sleep(_RECONNECT_PAUSE_SECONDS)

    def command(self, verb: str, job: str) -> str:
        """A command about a job, for messages."""
        return f"ipgl study {verb} {job} --address {self.display_uri}"

    def _require_reachable(self) -> None:
        """Check the connection within seconds; Ray's client would wait for minutes."""
        try:
            with urllib.request.urlopen(f"{self.address}/api/version", timeout=CONNECT_TIMEOUT_SECONDS):
                pass
        except urllib.error.HTTPError:
            pass  # the server answers; the client reports what it refuses
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"no Ray cluster answers at {self.display_uri} ({getattr(error, 'reason', error)}); check that it runs "
                "(`ray status` on its head), that the port is the dashboard's (8265), and that it is open to this "
                "machine (`kubectl port-forward`, or ssh -L 8265:localhost:8265 HEAD)"
            ) from None

    @contextmanager
    def _errors(self, job: str = "") -> Iterator[None]:
        """Convert Ray's errors to errors of one paragraph with the next step."""
        try:
            yield
        except AuthenticationError as error:
            wrong = str(error).startswith("Authentication failed")
            raise ResourceError(f"{self.display_uri}: {_TOKEN_WRONG if wrong else _TOKEN_MISSING}") from None
        except (RuntimeError, ValueError, OSError) as error:
            if job and "status code 404" in str(error):
                raise StudyStateError(
                    f"{self.display_uri}: there is no job {job!r}; see what there is by: "
                    f"ipgl study status --address {self.display_uri}"
                ) from None
            cause = " ".join(str(error).split())[:600]
            raise ResourceError(
                f"{self.display_uri}: the cluster refuses: {cause}; this machine has Ray {ray.__version__}, and the "
                "cluster should have the same"
            ) from None


_TOKEN_MISSING = (
    "the cluster asks for its token and got none; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file "
    "with the cluster's token (mode 0600)"
)
_TOKEN_WRONG = (
    "the cluster refuses the token; put its current one into the file that RAY_AUTH_TOKEN_PATH names "
    "(~/.ray/auth_token by default), mode 0600"
)


@contextmanager
def _no_other_address() -> Iterator[None]:
    """Unset variables that would override the user's address in Ray's client."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _job(info: object) -> Job:
    def get(name: str) -> object:
        return getattr(info, name, None)

    def seconds(name: str) -> float | None:
        value = get(name)
        return float(str(value)) / 1000 if value else None

    metadata = get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    code = get("driver_exit_code")
    return Job(
        id=str(get("submission_id") or get("job_id")),
        study=str(metadata.get("ipgl.study", "")),
        file=str(metadata.get("ipgl.file", "")),
        status=str(JobStatus(get("status")).value),
        exit_code=int(str(code)) if code is not None else None,
        begun_at=seconds("start_time"),
        ended_at=seconds("end_time"),
        message=str(get("message") or ""),
    )
