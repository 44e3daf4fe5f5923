"""Storage at a URI: transfers, local copies, credentials, and whole studies."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from faults import STUDY, assert_as_undisturbed, begin, ipgl, results, under_way, until

from ipgl.core.errors import StudyStateError
from ipgl.storage.remote import Remote, is_uri, remote_at
from ipgl.storage.study_dir import StudyFolder, studies_at, study_command


@pytest.fixture(params=["file", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/there"
        return
    yield "memory://there"
    fsspec.filesystem("memory").rm("/there", recursive=True)


@pytest.fixture
def two(uri: str) -> tuple[Remote, Remote]:
    """What two machines see of one storage."""
    return Remote(uri), Remote(uri)


def put(remote: Remote, name: str, text: str) -> Path:
    path = remote.local / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    remote.push(path)
    return path


@pytest.mark.parametrize(
    ("storage", "expected"),
    [("runs", False), ("/a/b", False), ("~/a", False), ("s3://b/c", True), ("file:///a", True)],
)
def test_what_is_a_uri(storage: str, expected: bool) -> None:
    assert is_uri(storage) == expected


def test_what_one_machine_writes_the_other_reads(two: tuple[Remote, Remote]) -> None:
    here, there = two
    assert here.local != there.local
    put(here, "a/b.json", "one")
    copy = there.local / "a/b.json"
    there.pull(copy)
    assert copy.read_text() == "one"
    put(here, "a/b.json", "two, and longer")
    there.pull(copy)
    assert copy.read_text() == "two, and longer"
    here.remove(here.local / "a/b.json")
    here.remove(here.local / "a/b.json")
    there.pull(copy)
    assert not copy.exists()


def test_only_what_has_changed_travels(two: tuple[Remote, Remote], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    path = put(here, "a.json", "one")
    there.pull(there.local / "a.json")
    for remote, verb in ((here, "put_file"), (here, "get_file"), (there, "get_file")):
        monkeypatch.setattr(remote.system, verb, lambda *_, verb=verb: pytest.fail(verb))
    here.push(path)
    here.pull(path)
    there.pull(there.local / "a.json")
    there.pull_below(there.local)


def test_a_whole_folder(two: tuple[Remote, Remote]) -> None:
    here, there = two
    for name in ("s/trials/1/trial.json", "s/trials/1/result.json", "s/trials/2/trial.json"):
        put(here, name, name)
    (here.local / "s/.hidden").write_text("")
    here.push_below(here.local / "s")
    there.pull_below(there.local / "s/trials", ["trial.json"])
    found = sorted(path.relative_to(there.local).as_posix() for path in there.local.rglob("*.json"))
    assert found == ["s/trials/1/trial.json", "s/trials/2/trial.json"]
    there.pull_below(there.local / "s")
    assert (there.local / "s/trials/1/result.json").read_text() == "s/trials/1/result.json"
    assert not (there.local / "s/.hidden").exists()
    there.pull_below(there.local / "nothing")


def test_a_storage_that_fails_for_a_moment(
    two: tuple[Remote, Remote], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    real, failures = there.system.get_file, iter([OSError(errno.EIO, "lost"), OSError("throttled")])

    def get_file(*arguments: str) -> None:
        for error in failures:
            raise error
        real(*arguments)

    monkeypatch.setattr(there.system, "get_file", get_file)
    put(here, "a.json", "one")
    there.pull(there.local / "a.json")
    assert (there.local / "a.json").read_text() == "one"


def test_an_upload_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Remote(f"file://{tmp_path}/there"), Remote(f"file://{tmp_path}/there")
    path = put(here, "a.json", "one")

    def put_file(source: str, target: str) -> None:
        Path(target).write_text("half")
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(here.system, "put_file", put_file)
    path.write_text("two")
    with pytest.raises(PermissionError):
        here.push(path)
    monkeypatch.undo()
    there.pull(there.local / "a.json")
    assert (there.local / "a.json").read_text() == "one"
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a.json"]
    here.push(path)
    there.pull(there.local / "a.json")
    assert (there.local / "a.json").read_text() == "two"


def test_a_listing_cannot_lead_out_of_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(f"file://{tmp_path}/there")
    put(remote, "s/good.json", "good")
    info = remote.system.info(f"{tmp_path}/there/s/good.json")
    hostile = {f"{remote.root}/s/../../../evil.json": info, f"{remote.root}/s/a//b/./evil.json": info}
    monkeypatch.setattr(remote.system, "find", lambda *_, **__: hostile)
    monkeypatch.setattr(remote.system, "get_file", lambda *_: pytest.fail("it was fetched"))
    remote.pull_below(remote.local / "s")


def test_copies_go_with_the_process_and_those_of_the_dead_with_the_next(tmp_path: Path) -> None:
    script = f"""
import os, signal
from ipgl.storage.remote import Remote
print(Remote("file://{tmp_path}").local, flush=True)
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}

    def run(end: str) -> Path:
        done = subprocess.run(
            [sys.executable, "-c", script + end], env=environment, capture_output=True, text=True, timeout=60
        )
        return Path(done.stdout.strip())

    assert not run("").exists()
    left = run("os.kill(os.getpid(), signal.SIGKILL)")
    assert left.is_dir()
    assert left.parent.stat().st_mode & 0o777 == 0o700
    assert not run("").exists()
    assert not left.exists()


def test_a_study_s_folder_finds_its_storage_in_another_process(tmp_path: Path) -> None:
    folder = StudyFolder.at(f"file://{tmp_path}/there", "small")
    assert folder.remote is remote_at(f"file://{tmp_path}/there")
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder
    assert folder.display_uri == f"file://{tmp_path}/there/small"
    assert study_command(folder, "resume") == f"ipgl study resume small --storage file://{tmp_path}/there"
    folder.path.mkdir(exist_ok=True)
    folder.write_state({"phase": "search"})
    assert json.loads((tmp_path / "there/small/study.json").read_text()) == {"phase": "search"}
    assert [study.name for study in studies_at(f"file://{tmp_path}/there")] == ["small"]
    shutil.rmtree(tmp_path / "there")
    assert folder.read_state() is None


def test_an_unknown_scheme_names_the_cure() -> None:
    with pytest.raises(StudyStateError, match=r"storage nope://user: this URI .* install the package"):
        _ = Remote("nope://user").system


def test_credentials_are_not_shown() -> None:
    remote = Remote("sftp://me:hunter22@host/runs")
    assert "hunter22" not in remote.display_uri
    assert "hunter22" not in study_command(StudyFolder(Path("x"), remote), "resume")


def test_a_local_database_cannot_lie_at_a_uri(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(STUDY)
    done = ipgl("study", "run", "small.yaml", "--storage", f"file://{tmp_path}/there", cwd=tmp_path)
    assert done.returncode == 2
    assert "set `tracking.uri` in small.yaml" in done.stderr


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_study_whose_process_was_killed_goes_on_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(STUDY + "tracking: {name: none}\n")
    done = ipgl("study", "run", "small.yaml", "--storage", "undisturbed", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    storage = f"file://{tmp_path}/there"
    there = StudyFolder(tmp_path / "there/small")
    process = begin("study", "run", "small.yaml", "--storage", storage, cwd=tmp_path)
    until(lambda: under_way(there, 2, 5), process)
    process.kill()
    process.communicate(timeout=60)
    kept = {run.trial: run.finished_at for run in results(there).values()}
    assert len(kept) >= 2
    elsewhere = tmp_path / "elsewhere"  # with nothing but the URI
    elsewhere.mkdir()
    resumed = ipgl("study", "resume", "small", "--storage", storage, cwd=elsewhere)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert kept.items() <= {run.trial: run.finished_at for run in results(there).values()}.items()
    assert_as_undisturbed(there, StudyFolder(tmp_path / "undisturbed/small"))
    assert (there.path / "report.html").exists()
    assert not (there.path / "ray").exists()
    assert not list(elsewhere.iterdir())

    shown = ipgl("study", "show", "small", "--storage", storage, cwd=elsewhere)
    assert (shown.returncode, "ipg" in shown.stdout) == (0, True), shown.stderr
    listed = ipgl("study", "list", "--storage", storage, cwd=elsewhere)
    assert re.search(r"small .*finished", listed.stdout), listed.stdout + listed.stderr
    report = ipgl("report", "small", "--storage", storage, cwd=elsewhere)
    assert report.returncode == 0, report.stderr
    assert (elsewhere / "small/report.html").exists()
