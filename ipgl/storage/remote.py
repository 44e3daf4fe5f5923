"""Storage at a URI (`s3://bucket/studies`, or any other fsspec file system), accessed through local copies.

Each process has its own folder of local copies. Files are uploaded when they have been written, and downloaded before
they are read if they have changed. An upload replaces the whole object, so that readers see its old content or the new,
as with atomic writes to a local file.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache, partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ipgl.core.errors import StudyStateError
from ipgl.core.redaction import without_credentials
from ipgl.core.retry import retrying

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_R = TypeVar("_R")
_P = ParamSpec("_P")
# Object stores replace an object in one step; elsewhere a file is uploaded under a temporary name and renamed.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
_SIGNATURE = (
    "size",
    "ETag",
    "etag",
    "md5Hash",
    "generation",
    "mtime",
    "LastModified",
    "last_modified",
    "ino",
)


def _guarded(method: Callable[Concatenate[Remote, _P], _R]) -> Callable[Concatenate[Remote, _P], _R]:
    def guarded(remote: Remote, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with remote.guard:
            return method(remote, *args, **kwargs)

    update_wrapper(guarded, method)
    return guarded


def is_uri(storage: str) -> bool:
    """Whether a study's `storage` is a URI rather than a folder."""
    return "://" in storage


@lru_cache
def remote_at(uri: str) -> Remote:
    """This process's `Remote` for a storage URI; the same one for each call."""
    return Remote(uri)


def download(remote: Remote | None, *paths: Path) -> None:
    """`Remote.pull`, or nothing where the storage is a folder."""
    if remote:
        remote.pull(*paths)


def upload(remote: Remote | None, *paths: Path) -> None:
    """`Remote.push`, or nothing where the storage is a folder."""
    if remote:
        remote.push(*paths)


class Remote:
    """A storage URI and this process's local copies of its files.

    Attributes:
        uri: The URI.
        display_uri: The URI without credentials, for messages.
        guard: Held during every transfer; hold it around writing a local copy and uploading it.
    """

    def __init__(self, uri: str) -> None:
        """Store the URI; no connection is made yet."""
        self.uri = uri.rstrip("/")
        self.display_uri = without_credentials(self.uri)
        # Threads share the local copies: none may download over a file that another has written but not yet uploaded.
        self.guard = threading.RLock()
        self._known: dict[str, tuple[object, ...]] = {}
        self._sent: dict[str, tuple[int, int]] = {}

    @cached_property
    def local(self) -> Path:
        """The folder of local copies; removed when the process ends, or, if it is killed, by the next process."""
        parent = _private_folder()
        for path in parent.glob("copies-*"):
            process = path.name.split("-")[1]
            if process.isdigit() and not Path(f"/proc/{process}").exists():
                shutil.rmtree(path, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"copies-{os.getpid()}-", dir=parent))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def lock(self, name: str) -> Path:
        """The lock file of the study `name` for the processes of this machine."""
        digest = hashlib.sha256(f"{self.uri}/{name}".encode()).hexdigest()[:16]
        return _private_folder() / f"{digest}.lock"

    @cached_property
    def system(self) -> AbstractFileSystem:
        """The fsspec file system.

        Raises:
            StudyStateError: The scheme is unknown, or its package is not installed.
        """
        return self._opened[0]

    @cached_property
    def root(self) -> str:
        """The URI's path in the form that `system` uses."""
        return str(self._opened[1]).rstrip("/")

    @cached_property
    def _opened(self) -> tuple[AbstractFileSystem, str]:
        from fsspec.core import url_to_fs  # few studies need it

        try:
            system, root = url_to_fs(self.uri, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise StudyStateError(
                f"storage {self.display_uri}: this URI cannot be used ({error}); install the package for it on all "
                "nodes (s3fs for s3://, gcsfs for gs://, adlfs for abfs://), or give a folder"
            ) from None
        return system, root

    @_guarded
    def pull(self, *paths: Path) -> None:
        """Download these files if they have changed; local copies of files that do not exist at the URI are removed.

        Raises:
            OSError: The storage cannot be read.
        """
        for path in paths:
            name = self._name(path)
            try:
                info = self._retry(partial(self.system.info, self._at(name)))
            except (FileNotFoundError, NotADirectoryError):
                self._known.pop(name, None)
                path.unlink(missing_ok=True)
                continue
            self._fetch(path, info)

    @_guarded
    def pull_below(self, folder: Path, names: Iterable[str] = ()) -> None:
        """Download the files below a folder that have changed, with a single listing.

        Args:
            folder: The local copy of the folder.
            names: File names to which the download is limited; empty for all.

        Raises:
            OSError: The storage cannot be read.
        """
        wanted = set(names)
        below = self._at(self._name(folder))
        try:
            found = self._retry(lambda: self.system.find(below, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return
        for place, info in found.items():
            name = str(place)[len(self.root) :].lstrip("/")
            parts = name.split("/")
            # A listing must not lead out of the folder of local copies.
            if any(part in ("", ".", "..") for part in parts) or parts[-1].startswith("."):
                continue
            if not wanted or parts[-1] in wanted:
                self._fetch(self.local / name, info)

    @_guarded
    def push(self, *paths: Path) -> None:
        """Upload these files, except those that have not changed since the last transfer.

        Raises:
            OSError: The storage refuses one; its old content remains.
        """
        for path in paths:
            name, state = self._name(path), _state(path)
            if self._sent.get(name) == state:
                continue
            self._retry(partial(self._put, path, self._at(name)))
            self._known[name] = _signature(self._retry(partial(self.system.info, self._at(name))))
            self._sent[name] = state

    @_guarded
    def push_below(self, folder: Path) -> None:
        """Upload every file below a folder, except hidden ones.

        Raises:
            OSError: The storage refuses one.
        """
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                self.push(path)

    @_guarded
    def remove(self, path: Path) -> None:
        """Remove a file from the storage, if it exists there, and its local copy.

        Raises:
            OSError: The storage refuses.
        """
        path.unlink(missing_ok=True)
        name = self._name(path)
        self._known.pop(name, None)
        self._sent.pop(name, None)
        with suppress(FileNotFoundError):
            self._retry(partial(self.system.rm_file, self._at(name)))

    def _fetch(self, path: Path, info: Mapping[str, object]) -> None:
        name, signature = self._name(path), _signature(info)
        if self._known.get(name) == signature and path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            self._retry(partial(self.system.get_file, self._at(name), str(temporary)))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._known[name], self._sent[name] = signature, _state(path)

    def _put(self, path: Path, place: str) -> None:
        protocol = self.system.protocol
        if _OBJECT_STORES & {protocol, *(() if isinstance(protocol, str) else protocol)}:
            self.system.put_file(str(path), place)
            return
        folder, _, name = place.rpartition("/")
        self.system.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}"
        try:
            self.system.put_file(str(path), temporary)
            self.system.mv(temporary, place)
        except BaseException:
            if self.system.exists(temporary):
                self.system.rm_file(temporary)
            raise

    def _retry(self, action: Callable[[], _R]) -> _R:
        self.system.invalidate_cache()
        return retrying(action, any_error=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.local).as_posix()

    def _at(self, name: str) -> str:
        return self.root if name == "." else f"{self.root}/{name}"


def _private_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"ipgl-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise StudyStateError(
            f"{folder}: the folder of copies must be yours alone, but others own it or can write to it; remove it"
        )
    return folder


def _signature(info: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(str(info.get(name)) for name in _SIGNATURE)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
