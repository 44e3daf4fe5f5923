"""Checks before the submission of a job; whole jobs are tested in tests/cli/test_cluster.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipgl.cluster.jobs import Cluster, prepare
from ipgl.cluster.package import packaged_files, require_sendable
from ipgl.core.errors import IpglError, ResourceError

STUDY = """\
name: s
dataset: {{name: colored_mnist, source: digits, pairs: {{train: 20, held_out: 20}}}}
model: {{name: mlp, width: 8}}
methods: {{erm: {{}}}}
tracking: {{name: none}}
storage: {storage}
{more}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "studies").mkdir()
    return tmp_path


def study(folder: Path, storage: str = "/shared/runs", more: str = "") -> Path:
    file = folder / "studies" / "x.yaml"
    file.write_text(STUDY.format(storage=storage, more=more))
    return file


def test_results_data_weights_caches_and_secrets_stay_here(folder: Path) -> None:
    kept = ["studies/x.yaml", "pkg/data/a.py", "README.md"]
    left = [
        "runs/s/study.json",
        "data/x.bin",
        "a/model.pt",
        ".git/HEAD",
        ".venv/x.py",
        ".env",
        "k/auth_token",
    ]
    left += ["__pycache__/a.pyc", "own/big.bin", "ignored.txt"]
    for name in (*kept, *left):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("12345")
    (folder / ".gitignore").write_text("ignored.txt\n")
    (folder / ".rayignore").write_text("own/\n")
    found = packaged_files(folder)
    assert found == dict.fromkeys(map(Path, kept), 5) | {Path(".gitignore"): 12, Path(".rayignore"): 5}


def test_a_folder_that_ray_cannot_take_is_refused_and_the_largest_files_named(folder: Path) -> None:
    file = study(folder)
    with (folder / "big.bin").open("wb") as big:
        big.truncate(600 * 2**20)  # no disk is used
    with pytest.raises(
        ResourceError, match=r"less than 512 MiB, but holds 600 MiB in 2 files; the largest: big\.bin \(600"
    ):
        prepare(file, folder)
    require_sendable(folder, {Path("a"): 9}, limit_bytes=10)
    with pytest.raises(ResourceError):
        require_sendable(folder, {Path("a"): 10}, limit_bytes=10)


def test_the_command_runs_or_resumes_the_study(folder: Path) -> None:
    file = study(folder)
    assert prepare(file, folder).entrypoint == "ipgl study run studies/x.yaml --progress json"
    assert (
        prepare(file, folder, resume=True).entrypoint
        == "ipgl study resume s --storage /shared/runs --progress json"
    )


def test_storage_that_goes_with_the_job_is_refused(folder: Path) -> None:
    with pytest.raises(
        IpglError, match=r"x\.yaml:6: storage: .* absolute path that every node sees, .*got 'runs'"
    ):
        prepare(study(folder, "runs"), folder)
    assert (
        prepare(study(folder, "runs"), folder, storage="s3://b/runs").entrypoint
        == "ipgl study run studies/x.yaml --storage s3://b/runs --progress json"
    )


def test_what_the_study_needs_must_be_sent(folder: Path) -> None:
    with pytest.raises(IpglError, match="must lie in the working folder"):
        prepare(study(folder), folder / "studies" / "deeper")
    (folder / "studies" / "own.py").write_text("")
    file = study(folder, more="imports: [own.py]")
    assert Path("studies/own.py") in prepare(file, folder).files
    (folder / ".gitignore").write_text("own.py")
    with pytest.raises(IpglError, match=r"needs studies/own\.py, which would not be sent"):
        prepare(file, folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "hush-hush"),
        ("RAY_AUTH_TOKEN", "hush-hush"),
        ("URI", "http://me:hush-hush@h"),
    ],
)
def test_a_secret_is_not_put_into_the_jobs_metadata(folder: Path, name: str, value: str) -> None:
    with pytest.raises(IpglError, match=f"--env {name}: .*looks like a secret") as refused:
        prepare(study(folder), folder, {name: value})
    assert "hush-hush" not in str(refused.value)
    assert prepare(study(folder), folder, {"OMP_NUM_THREADS": "1"}).environment == {"OMP_NUM_THREADS": "1"}


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"http://HEAD:8265, but got 'head:6379'"):
        Cluster("head:6379")
    with pytest.raises(
        ResourceError, match=r"no Ray cluster answers at http://127\.0\.0\.1:9 .*Connection refused"
    ):
        Cluster("http://127.0.0.1:9")
