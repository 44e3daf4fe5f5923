"""The MLflow server for a group: on loopback, with a password, with secrets from files alone."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import yaml

import ipgl

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "mlflow"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_images_are_pinned_and_the_build_target_exists() -> None:
    services = COMPOSE["services"]
    assert re.fullmatch(r"postgres:\d+\.\d+-bookworm", services["database"]["image"])
    assert services["mlflow"]["image"] == f"ipgl-mlflow:{ipgl.__version__}"
    build = services["mlflow"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert re.search(rf"AS {build['target']}$", (ROOT / build["dockerfile"]).read_text(), re.MULTILINE)


def test_only_mlflow_is_reached_and_only_from_this_machine() -> None:
    services = COMPOSE["services"]
    assert services["mlflow"]["ports"] == ["${MLFLOW_BIND:-127.0.0.1}:5000:5000"]
    assert "ports" not in services["database"]
    assert services["database"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_every_name_is_defined() -> None:
    for service in COMPOSE["services"].values():
        assert set(service["secrets"]) <= COMPOSE["secrets"].keys()
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (FOLDER / source).is_file(), source


def test_secrets_are_files_that_the_script_makes_once(tmp_path: Path) -> None:
    assert not re.search(r"(PASSWORD|SECRET_KEY): ", (FOLDER / "compose.yaml").read_text())
    folder = tmp_path / "secrets"
    command = [str(FOLDER / "secrets.sh"), str(folder)]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    values = {path.name: path.read_text() for path in folder.iterdir()}
    subprocess.run(command, capture_output=True, check=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == values
    assert values.keys() == COMPOSE["secrets"].keys()
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values.values())
    assert len(set(values.values())) == 3
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any(value in first.stdout + first.stderr for value in values.values())
    assert "secrets/" in (FOLDER / ".gitignore").read_text().split()


def test_the_server_asks_for_a_password_and_has_what_that_needs() -> None:
    start = (FOLDER / "start.sh").read_text()
    assert "--app-name basic-auth" in start
    pins = set(re.findall(r"^([a-z0-9-]+)==", (FOLDER / "requirements.txt").read_text(), re.MULTILINE))
    assert {"mlflow", "flask-wtf", "psycopg2-binary"} <= pins
    ours = re.search(r"^mlflow==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert ours is not None
    assert f"mlflow[auth,db]=={ours[1]}" in (FOLDER / "requirements.in").read_text()
