"""MLflow's backend: a server, a database, or by default one SQLite file in the storage folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ipgl.core.errors import TrackingError
from ipgl.core.redaction import MASK, QUERY_SECRET, USERINFO, without_credentials

_SERVERS = ("http", "https")
_DATABASES = ("postgresql", "mysql", "mssql")


@dataclass(frozen=True)
class Store:
    """A place that MLflow can read and write.

    Attributes:
        uri: Address for MLflow, with credentials; use `display_uri` in output.
        artifact_root: Folder of the artifacts, absolute; None where the server decides.
        database: The SQLite file; None for servers and other databases.
    """

    uri: str = field(repr=False)
    artifact_root: Path | None
    database: Path | None = None

    @property
    def is_server(self) -> bool:
        """Whether the address is that of an MLflow server rather than a database."""
        return urlsplit(self.uri).scheme in _SERVERS

    @property
    def display_uri(self) -> str:
        """The address without credentials, fit for screens, files and error messages."""
        return self.redact(self.uri)

    @property
    def browser_base(self) -> str:
        """The server's address without credentials or query; empty if this is no server."""
        if not self.is_server:
            return ""
        parts = urlsplit(self.uri)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))

    def redact(self, text: str) -> str:
        """Text without the credentials of any URL, and without this store's own anywhere in it."""
        return without_credentials(self.remove_own_credentials(text))

    def remove_own_credentials(self, text: str) -> str:
        """Text without this store's credentials; everything else stays exactly as it is."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    @property
    def _secrets(self) -> list[str]:
        if self.database:
            return []
        secrets = set()
        for match in USERINFO.finditer(self.uri):
            user, colon, password = match.group(0)[:-1].partition(":")
            # A short password, or a name alone, may equal an ordinary word; within a URL both are redacted anyway.
            if colon:
                secrets |= {f"{user}:{password}", *([password] if len(password) >= 4 else [])}
            elif self.is_server and len(user) >= 8:
                secrets.add(user)
        secrets |= {match.group(0).partition("=")[2] for match in QUERY_SECRET.finditer(self.uri)}
        secrets |= {unquote(secret) for secret in secrets}
        return sorted(secrets, key=len, reverse=True)


def locate(storage: Path, uri: str | None) -> Store:
    """Resolve `tracking.uri` of a study file.

    Args:
        storage: Folder of all studies.
        uri: The study file's `tracking.uri`; None is `mlflow.db` in the storage folder. A relative SQLite path
            counts from the working folder. Artifacts of a SQLite file lie in `mlartifacts` beside it.

    Raises:
        TrackingError: Not an address of a server or database.
    """
    if uri is None:
        return _sqlite(storage.resolve() / "mlflow.db")
    scheme, separator, rest = uri.partition("://")
    backend = scheme.partition("+")[0].lower()
    if separator and backend == "sqlite" and rest.startswith("/") and rest[1:] not in ("", ":memory:"):
        return _sqlite(Path(rest[1:]).resolve())
    if separator and rest and (backend in _SERVERS or backend in _DATABASES):
        artifact_root = None if backend in _SERVERS else storage.resolve() / "mlartifacts"
        return Store(uri, artifact_root)
    shown = without_credentials(uri)
    raise TrackingError(
        "tracking.uri must be the address of a server or a database (http://host:5000, sqlite:////folder/mlflow.db, "
        f"postgresql://user@host/name), but got {shown!r}; leave it out to keep a local database in the storage folder"
    )


def _sqlite(database: Path) -> Store:
    return Store(f"sqlite:///{database.as_posix()}", database.parent / "mlartifacts", database)
