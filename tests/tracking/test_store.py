"""Addresses of servers and databases, and redaction of their credentials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipgl.core.errors import TrackingError
from ipgl.tracking import locate


def test_default_is_sqlite_beside_the_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = locate(Path("runs"), None)
    assert store.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert store.artifact_root == tmp_path / "runs" / "mlartifacts"
    assert store.database == tmp_path / "runs" / "mlflow.db"
    assert not store.is_server


def test_relative_sqlite_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(Path("runs"), "sqlite:///shared/all.db").uri == f"sqlite:///{tmp_path}/shared/all.db"


def test_a_server_decides_about_artifacts(tmp_path: Path) -> None:
    store = locate(tmp_path, "https://bob:secret@tracking.example:8443/mlflow/?x=1")
    assert store.is_server
    assert store.artifact_root is None
    assert store.browser_base == "https://tracking.example:8443/mlflow"


def test_a_database_server_keeps_artifacts_in_storage(tmp_path: Path) -> None:
    assert locate(tmp_path, "postgresql+psycopg2://host/name").artifact_root == tmp_path / "mlartifacts"


@pytest.mark.parametrize(
    "uri", ["./mlruns", "file:///tmp/x", "sqlite://", "sqlite:///:memory:", "ftp://host", "http://"]
)
def test_other_addresses_are_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="leave it out to keep a local database"):
        locate(tmp_path, uri)


def test_a_refused_address_shows_no_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as caught:
        locate(tmp_path, "ftp://bob:hunter22@host")
    assert "hunter22" not in str(caught.value)
    assert "ftp://***@host" in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://bob:hunter22@host:5000/x", "http://***@host:5000/x"),
        ("https://tokentoken@host", "https://***@host"),
        ("postgresql://bob:pa/ss@host/name", "postgresql://***@host/name"),
        (
            "postgresql://host/name?password=hunter22&sslmode=require",
            "postgresql://host/name?password=***&sslmode=require",
        ),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_shown_address_has_no_credentials(uri: str, shown: str, tmp_path: Path) -> None:
    store = locate(tmp_path, uri)
    assert store.display_uri == shown
    assert "hunter22" not in repr(store)


def test_redact_hides_own_password_anywhere_and_others_in_urls(tmp_path: Path) -> None:
    store = locate(tmp_path, "http://bob:hunter%2122@host")
    text = "no hunter!22, no hunter%2122, no http://ann:other@elsewhere/; but bob and a@b stay"
    assert store.redact(text) == "no ***, no ***, no http://***@elsewhere/; but bob and a@b stay"


def test_removing_own_credentials_leaves_other_text_alone(tmp_path: Path) -> None:
    store = locate(tmp_path, "http://bob:hunter22@host")
    text = "see https://cdn.example:443/npm/plotly@2.0 and http://bob:hunter22@host"
    assert (
        store.remove_own_credentials(text) == "see https://cdn.example:443/npm/plotly@2.0 and http://***@host"
    )


def test_a_path_is_not_taken_for_credentials(tmp_path: Path) -> None:
    odd = tmp_path / "a@b"
    store = locate(odd, None)
    assert store.remove_own_credentials(str(odd)) == os.fspath(odd)
    assert store.uri == f"sqlite:///{odd}/mlflow.db"
