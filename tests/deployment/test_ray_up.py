"""The cluster launcher's files pass Ray's own check, ask for the token, and open no dashboard."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import ipgl

Config = dict[str, Any]  # as the file holds it

FOLDER = Path(__file__).parents[2] / "cluster" / "ray-up"
FILES = sorted(FOLDER.glob("*.yaml"))


def _read(file: Path) -> Config:
    config: Config = yaml.safe_load(file.read_text())
    return config


def test_both_are_there() -> None:
    assert [file.name for file in FILES] == ["aws.yaml", "on-prem.yaml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
class TestEach:
    def test_ray_accepts_it(self, file: Path) -> None:
        validate_config(prepare_config(_read(file)))

    def test_ray_refuses_a_field_that_it_does_not_know(self, file: Path) -> None:
        config = copy.deepcopy(_read(file)) | {"idle_timeout": 5}
        with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
            validate_config(prepare_config(config))

    def test_every_node_asks_for_the_token(self, file: Path) -> None:
        config = _read(file)
        options = " ".join(config["docker"]["run_options"])
        (path,) = [
            part.removeprefix("RAY_AUTH_TOKEN_PATH=") for part in options.split() if "TOKEN_PATH" in part
        ]
        assert "--env RAY_AUTH_MODE=token" in options
        assert path in config["file_mounts"]
        for role in ("head", "worker"):
            assert "chmod 600 ~/.ray/auth_token" in config[f"{role}_start_ray_commands"]

    def test_the_dashboard_is_on_loopback_and_the_image_pinned(self, file: Path) -> None:
        config = _read(file)
        (start,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
        assert "--dashboard-host=127.0.0.1" in start
        assert config["docker"]["image"].endswith(f":{ipgl.__version__}-cuda")


def test_aws_opens_ssh_alone_and_not_to_everybody() -> None:
    (rule,) = _read(FOLDER / "aws.yaml")["provider"]["security_group"]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
    assert all(not block["CidrIp"].endswith("/0") for block in rule["IpRanges"])
