from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import ray
from nodes import Nodes

from ipgl.cluster.doctor.examine import check_token, check_tracker, examine, judge
from ipgl.cluster.doctor.node import Disk, Finding, NodeFacts
from ipgl.config import TrackingSettings
from ipgl.core.errors import ResourceError

GIB = 2**30
VERSIONS = {"ipgl": "1", "python": "3.11", "torch": "2.15.0", "ray": "2.60", "mlflow": "3"}
HERE = NodeFacts("this machine", VERSIONS)
STORAGE = "/shared"


def levels(findings: list[Finding], subject: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in findings if finding.subject == subject]


def bad(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    findings = list(findings)
    assert all(finding.cure for finding in findings if finding.level != "ok")
    return [(finding.subject, finding.level) for finding in findings if finding.level != "ok"]


def node(**facts: object) -> NodeFacts:
    usual: dict[str, Any] = {"node": "node 10.0.0.2", "versions": VERSIONS}
    return NodeFacts(**usual | facts)


def test_a_sound_cluster_has_nothing_to_mend() -> None:
    findings = judge(STORAGE, HERE, [node(disks=(Disk("/tmp", 50 * GIB, 100 * GIB),))])
    assert bad(findings) == []
    assert levels(findings, "storage") == [("ok", "/shared can be written by the driver and from 1 nodes")]
    assert levels(findings, "disk") == [("ok", "node 10.0.0.2: /tmp has 50.0 GiB free of 100")]


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"versions": VERSIONS | {"ray": "2.59"}}, [("versions", "error")]),
        ({"versions": VERSIONS | {"torch": "2.14.0"}}, [("versions", "warning")]),
        ({"gpus": ("H100, 80 GiB",)}, []),
        (
            {"gpus": ("H100, 80 GiB",), "versions": VERSIONS | {"torch": "2.15.0+cpu"}},
            [("versions", "warning"), ("gpus", "error")],
        ),
        ({"storage_error": "Permission denied"}, [("storage", "error")]),
        ({"same_storage": False}, [("storage", "error")]),
        ({"disks": (Disk("/tmp", GIB // 2, 100 * GIB),)}, [("disk", "error")]),
        ({"disks": (Disk("/tmp", 4 * GIB, 100 * GIB),)}, [("disk", "warning")]),
        ({"disks": (Disk("/tmp", 9 * GIB, 20 * GIB),)}, [("disk", "warning")]),
        ({"disks": (Disk("/tmp", 11 * GIB, 20 * GIB),)}, []),
        ({"skew_seconds": 1.9}, []),
        ({"skew_seconds": -2.1}, [("clock", "warning")]),
        ({"skew_seconds": 61.0}, [("clock", "error")]),
    ],
)
def test_each_fault_is_found_and_has_a_cure(facts: dict[str, object], found: list[tuple[str, str]]) -> None:
    assert bad(judge(STORAGE, HERE, [node(**facts)])) == found


def test_the_wording_names_node_value_and_side() -> None:
    findings = judge(STORAGE, HERE, [node(skew_seconds=-3.0, same_storage=False)])
    assert levels(findings, "clock")[0][1].startswith(
        "the clock of node 10.0.0.2 is 3.0 s behind the driver's"
    )
    assert levels(findings, "storage") == [
        ("error", "node 10.0.0.2 does not see what the driver writes to /shared")
    ]


@pytest.mark.parametrize(("mode", "found"), [(0o644, [("token", "warning")]), (0o600, [])])
def test_a_token_is_for_its_owner_alone(tmp_path: Path, mode: int, found: list[tuple[str, str]]) -> None:
    token = tmp_path / "token"
    token.write_text("x" * 64)
    token.chmod(mode)
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    findings = list(check_token(environment, on_cluster=True))
    assert bad(findings) == found
    if found:
        assert findings[-1].cure == f"chmod 600 {token}"
        assert "mode 0644" in findings[-1].message
    assert "x" * 64 not in str(findings)


def test_a_cluster_without_a_token_and_a_mode_without_one(tmp_path: Path) -> None:
    path = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    assert bad(check_token(path, on_cluster=True)) == [("token", "warning")]
    assert bad(check_token(path, on_cluster=False)) == []
    assert bad(check_token({"RAY_AUTH_MODE": "token", **path}, on_cluster=False)) == [("token", "error")]


def test_a_server_that_is_away_is_an_error_and_a_database_to_come_is_not(tmp_path: Path) -> None:
    away = check_tracker(TrackingSettings(uri="http://me:secret-word@127.0.0.1:9"), tmp_path)
    assert away.level == "error"
    assert "secret-word" not in str(away)
    assert check_tracker(TrackingSettings(), tmp_path).level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_this_machine_is_looked_at_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    findings = examine(storage=str(tmp_path / "a" / "runs"))
    assert levels(findings, "storage") == [("ok", f"{tmp_path / 'a' / 'runs'} can be written")]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    findings = examine(storage=str(tmp_path / "file" / "runs"))
    assert [level for level, _ in levels(findings, "storage")] == ["error"]


def test_an_address_at_which_nobody_listens_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        ResourceError, match=r"no Ray cluster answers at 127\.0\.0\.1:9 .*leave the address out"
    ):
        examine(address="127.0.0.1:9", storage=str(tmp_path))
    with pytest.raises(ResourceError, match="ray job submit --address http://head:8265 -- ipgl doctor"):
        examine(address="http://head:8265")
    assert list(tmp_path.iterdir()) == []
    assert not ray.is_initialized()


def test_storage_at_a_uri(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    findings = examine(storage=f"file://{tmp_path}/there")
    assert levels(findings, "storage") == [("ok", f"file://{tmp_path}/there can be written")]
    assert ("mlflow", "error") in bad(findings)
    assert list((tmp_path / "there").iterdir()) == []
    (tmp_path / "file").write_text("")
    assert ("storage", "error") in bad(examine(storage=f"file://{tmp_path}/file/there"))
    (problem,) = levels(examine(storage="nope://somewhere"), "storage")
    assert "install the package" in problem[1]


@pytest.mark.ray
@pytest.mark.timeout(200)
def test_every_node_of_a_cluster_is_asked(tmp_path: Path) -> None:
    with Nodes(0, 1, 1) as nodes:
        command = [
            sys.executable,
            "-m",
            "ipgl",
            "doctor",
            "--address",
            nodes.address,
            "--storage",
            str(tmp_path),
        ]
        done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    shown = {finding["subject"]: finding["message"] for finding in found["findings"]}
    assert shown["cluster"] == "3 nodes with 2 CPUs and 0 GPUs"
    assert shown["versions"].endswith("the same on 3 nodes")
    assert shown["storage"] == f"{tmp_path} can be written by the driver and from 3 nodes"
    assert shown["clock"] == "the nodes' clocks agree with the driver's to 2 s"
    assert list(tmp_path.iterdir()) == []
