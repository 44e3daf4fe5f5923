from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ipgl.cli.main import main
from ipgl.core.version import __version__
from ipgl.methods import METHODS

QUICKSTART = Path(__file__).parents[2] / "studies" / "quickstart.yaml"

STUDY = """\
name: s
dataset: {name: colored_mnist, source: digits, pairs: {train: 20, held_out: 20}}
model: {name: mlp, width: 8}
methods:
  erm: {}
  ipg: {strength: {log_uniform: [1, 100]}}
training: {epochs: 1}
tracking: {name: none}
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may start Ray: importing it fails."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ipgl.execution.engine", None)


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """MLflow's switches are environment variables; none outlives its test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def ipgl(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IPGL_DATA", raising=False)

    def ipgl(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ipgl", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        plain = [re.sub(r"\x1b\[[0-9;]*m", "", text) for text in captured]  # some environments force colours
        return Outcome(int(end.value.code or 0), *plain)

    return ipgl


@pytest.fixture
def refusal(ipgl: Callable[..., Outcome]) -> Callable[..., str]:
    """The one paragraph that a command is refused with."""

    def refusal(*arguments: str | Path) -> str:
        code, out, err = ipgl(*arguments)
        assert code == 2
        assert out == ""
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert "\n\n" not in err
        assert "Traceback" not in err
        return err.removeprefix("error: ").rstrip("\n")

    return refusal


def study(*changes: tuple[str, str], extra: str = "") -> Path:
    """Write `study.yaml` into the working folder."""
    text = STUDY
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = Path("study.yaml")
    path.write_text(text + extra)
    return path


def begun(name: str, phase: str, storage: str = "runs") -> Path:
    """A study's folder as it stands after it has begun."""
    folder = Path(storage) / name
    folder.mkdir(parents=True)
    state = {"phase": phase, "config_hash": "x", "seconds": 1.0, "created_at": 0.0, "sessions": 1}
    (folder / "study.json").write_text(json.dumps(state))
    (folder / "study.yaml").write_text(STUDY.replace("name: s\n", f"name: {name}\n"))
    return folder


class TestHelp:
    def test_version(self, ipgl: Callable[..., Outcome]) -> None:
        assert ipgl("--version") == (0, f"ipgl {__version__}\n", "")

    @pytest.mark.parametrize("arguments", [("--help",), ("study", "--help")])
    def test_names_the_verbs(self, ipgl: Callable[..., Outcome], arguments: tuple[str, ...]) -> None:
        code, out, err = ipgl(*arguments)
        assert (code, err) == (0, "")
        verbs = (
            ("run", "resume", "validate", "schema", "list", "show")
            if "study" in arguments
            else ("study", "ui")
        )
        assert all(f" {verb} " in out for verb in verbs)

    @pytest.mark.parametrize(
        "arguments", [("study", "start"), ("study", "run"), ("study", "run", "f", "--nope")]
    )
    def test_a_wrong_command_line_exits_with_2_and_points_at_the_help(
        self, ipgl: Callable[..., Outcome], arguments: tuple[str, ...]
    ) -> None:
        code, out, err = ipgl(*arguments)
        assert (code, out) == (2, "")
        assert "--help" in err
        assert "Traceback" not in err


class TestValidate:
    def test_the_quick_start(self, ipgl: Callable[..., Outcome]) -> None:
        code, out, err = ipgl("study", "validate", QUICKSTART)
        assert (code, err) == (0, "")
        assert out.startswith(f"{QUICKSTART}: valid; ")

    def test_counts_what_would_run(self, ipgl: Callable[..., Outcome]) -> None:
        file = study(extra="search: {trials: 5, final_seeds: 4}")
        # One search trial of erm, which has no range, and five of ipg; each winner on four seeds.
        assert ipgl("study", "validate", file) == (
            0,
            "study.yaml: valid; 2 methods, at most 6 search trials and 8 final runs\n",
            "",
        )

    def test_leaves_nothing_behind(self, ipgl: Callable[..., Outcome], tmp_path: Path) -> None:
        ipgl("study", "validate", study())
        assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize("verb", ["validate", "run"])
class TestBadFiles:
    """Either verb refuses them, and neither leaves a study behind."""

    @pytest.fixture(autouse=True)
    def nothing_begun(self, tmp_path: Path) -> Iterator[None]:
        yield
        assert not (tmp_path / "runs").exists()

    def test_missing(self, refusal: Callable[..., str], verb: str) -> None:
        assert refusal("study", verb, "absent.yaml") == (
            "absent.yaml: cannot read the study file: No such file or directory"
        )

    def test_not_yaml(self, refusal: Callable[..., str], verb: str) -> None:
        assert refusal("study", verb, study(extra="x: [")).startswith("study.yaml:9: not valid YAML: ")

    def test_unknown_key(self, refusal: Callable[..., str], verb: str) -> None:
        message = refusal("study", verb, study(("training:", "trainings:")))
        assert message.startswith(
            "study.yaml:7: trainings: unknown key 'trainings': did you mean 'training'? Choices: dataset, "
        )

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("colored_mnist", "colored_mnits", "study.yaml:2: dataset.name: unknown dataset 'colored_mnits': did you"),
            ("mlp", "mpl", "study.yaml:3: model.name: unknown model 'mpl': did you mean 'mlp'? Choices: "),
            ("  ipg:", "  ipgg:", "study.yaml:6: methods.ipgg: unknown method 'ipgg': did you mean 'ipg'? Choices: "),
            ("name: none", "name: nona", "study.yaml:8: tracking.name: unknown tracker 'nona': did you mean 'none'?"),
        ],
    )  # fmt: skip
    def test_unknown_name(
        self, refusal: Callable[..., str], verb: str, old: str, new: str, message: str
    ) -> None:
        assert refusal("study", verb, study((old, new))).startswith(message)

    def test_range_upside_down(self, refusal: Callable[..., str], verb: str) -> None:
        assert refusal("study", verb, study(("[1, 100]", "[100, 1]"))) == (
            "study.yaml:6: methods.ipg.strength.log_uniform: `low <= high` must hold, but got (low=100, high=1); "
            "swap the two"
        )

    def test_severity_beyond_one(self, refusal: Callable[..., str], verb: str) -> None:
        assert refusal("study", verb, study(extra="evaluation: {severities: [0.5, 90]}")) == (
            "study.yaml:9: evaluation.severities[1]: a severity is a share in [0, 1] (0.9 means 90% "
            "bias-conflicting), but got 90.0"
        )

    def test_zero_trials(self, refusal: Callable[..., str], verb: str) -> None:
        assert refusal("study", verb, study(extra="search: {trials: 0}")) == (
            "study.yaml:9: search.trials: input should be greater than or equal to 1, but got 0"
        )

    def test_every_mistake_at_once(self, refusal: Callable[..., str], verb: str) -> None:
        message = refusal("study", verb, study(("epochs: 1", "epochs: 0"), extra="search: {trials: 0}"))
        assert [line.split(": ")[1] for line in message.splitlines()] == ["training.epochs", "search.trials"]

    def test_a_name_that_leads_elsewhere(
        self, refusal: Callable[..., str], verb: str, tmp_path: Path
    ) -> None:
        message = refusal("study", verb, study(("name: s\n", "name: ../s\n")))
        assert message.startswith("study.yaml:1: name: a name is 1 to 64 of a-z")
        assert not (tmp_path.parent / "s").exists()

    def test_more_pairs_than_digits(self, refusal: Callable[..., str], verb: str) -> None:
        message = refusal("study", verb, study(("train: 20", "train: 990")))
        assert "`pairs.train + pairs.held_out <= training digits` must hold" in message
        assert "(train=990, held_out=20, digits=1000); lower one of the two counts" in message

    def test_a_method_of_pairs_without_pairs(self, refusal: Callable[..., str], verb: str) -> None:
        assert refusal("study", verb, study(("train: 20", "train: 0"))) == (
            "study.yaml:6: methods.ipg: ipg needs invariance pairs, but dataset.pairs gives none for training; "
            "set dataset.pairs.train to 2 or more"
        )

    def test_erm_needs_no_pairs(self, ipgl: Callable[..., Outcome], verb: str) -> None:
        if verb == "validate":
            file = study(("train: 20", "train: 0"), ("  ipg: {strength: {log_uniform: [1, 100]}}\n", ""))
            assert ipgl("study", verb, file).code == 0

    def test_a_model_that_the_inputs_do_not_fit(self, refusal: Callable[..., str], verb: str) -> None:
        file = study(("{name: mlp, width: 8}", "{name: resnet18, weights: imagenet}"))
        assert refusal("study", verb, file) == (
            "study.yaml:3: model: ImageNet weights take 3 channels, but got inputs of shape (2, 8, 8)"
        )

    def test_a_corrupt_mnist_file(
        self, refusal: Callable[..., str], verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw = tmp_path / "elsewhere" / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte.gz").write_bytes(b"not an archive")
        monkeypatch.setenv("IPGL_DATA", "elsewhere")
        message = refusal("study", verb, study(("digits", "mnist")))
        assert message.startswith(
            "study.yaml:2: dataset: elsewhere/MNIST/raw/train-images-idx3-ubyte.gz: cannot be read ("
        )
        assert message.endswith("); remove it so that it is downloaded again")


class TestRun:
    @pytest.mark.parametrize(
        ("phase", "words"),
        [
            ("search", "'s' is begun; go on with it by `ipgl study resume s"),
            ("finished", "'s' is finished; see it with `ipgl study show s"),
        ],
    )
    def test_a_name_in_use(self, refusal: Callable[..., str], tmp_path: Path, phase: str, words: str) -> None:
        file = study()
        before = (begun("s", phase) / "study.json").read_bytes()
        message = refusal("study", "run", file)
        assert message.startswith(
            f"{tmp_path / 'runs' / 's'}: a study's name may be used once in a storage folder"
        )
        assert words in message
        assert message.endswith("change `name` in study.yaml, or remove the folder")
        assert (tmp_path / "runs" / "s" / "study.json").read_bytes() == before

    def test_storage_that_cannot_be_made(self, refusal: Callable[..., str], tmp_path: Path) -> None:
        (tmp_path / "somefile").write_text("")
        message = refusal("study", "run", study(extra="storage: somefile/x"))
        assert message.startswith(f"{tmp_path / 'somefile' / 'x' / 's'}")
        assert (
            "the storage folder cannot be written (Not a directory); set `storage` to a folder that can"
            in message
        )

    def test_a_tracking_server_that_does_not_answer(
        self, refusal: Callable[..., str], tmp_path: Path
    ) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        file = study(("{name: none}", f"{{uri: 'http://user:secret@127.0.0.1:{port}'}}"))
        started = time.monotonic()
        message = refusal("study", "run", file)
        assert time.monotonic() - started < 20
        assert message.startswith(f"MLflow at http://***@127.0.0.1:{port}: cannot ")
        assert "Check that the server runs and that `tracking.uri` is right" in message
        assert "secret" not in message
        assert not list(tmp_path.glob("runs/s/trials/*"))

    def test_ctrl_c_says_how_to_go_on(
        self, ipgl: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("ipgl.study.runner.start_study", interrupted)
        code, out, err = ipgl("study", "run", study(extra="storage: elsewhere"))
        assert (code, err) == (130, "")
        assert out == (
            "\nStopped. Nothing finished is lost; go on with: "
            f"ipgl study resume s --storage {tmp_path / 'elsewhere'}\n"
        )


class TestStored:
    @pytest.mark.parametrize("verb", ["show", "resume"])
    def test_an_unknown_study_lists_the_known_ones(
        self, refusal: Callable[..., str], tmp_path: Path, verb: str
    ) -> None:
        begun("b", "finished")
        begun("a", "search")
        (tmp_path / "runs" / "no-study").mkdir()
        assert (
            refusal("study", verb, "c")
            == f"{tmp_path / 'runs' / 'c'}: no study of this name; studies there: a, b"
        )

    @pytest.mark.parametrize("verb", ["show", "resume"])
    def test_where_there_is_none_it_says_how_to_begin(
        self, refusal: Callable[..., str], tmp_path: Path, verb: str
    ) -> None:
        assert refusal("study", verb, "c", "--storage", "elsewhere") == (
            f"{tmp_path / 'elsewhere' / 'c'}: no study of this name; there is no study yet: `ipgl study run FILE`"
        )

    def test_resuming_a_changed_study(self, refusal: Callable[..., str], tmp_path: Path) -> None:
        begun("s", "search")  # whose hash is "x"
        message = refusal("study", "resume", "s")
        assert message.startswith(
            f"{tmp_path / 'runs' / 's' / 'study.yaml'}: the file was changed after the study"
        )

    def test_an_unfinished_study_is_shown_with_how_to_go_on(
        self, ipgl: Callable[..., Outcome], tmp_path: Path
    ) -> None:
        begun("s", "search", storage="elsewhere")
        code, out, err = ipgl("study", "show", "s", "--storage", "elsewhere")
        assert (code, err) == (0, "")
        assert out.endswith(
            f"The study has not finished; go on with it by: ipgl study resume s --storage {tmp_path / 'elsewhere'}\n"
        )
        assert all(label in out for label in ("erm", "ipg"))

    def test_json_of_a_study_without_final_runs(self, refusal: Callable[..., str], tmp_path: Path) -> None:
        begun("s", "search")
        assert refusal("study", "show", "s", "--format", "json").startswith(
            f"{tmp_path / 'runs' / 's'}: no final run has been completed yet; `ipgl study resume s"
        )

    def test_list(self, ipgl: Callable[..., Outcome]) -> None:
        begun("first", "finished")
        begun("second", "search")
        code, out, err = ipgl("study", "list")
        assert (code, err) == (0, "")
        rows = [line.split("│")[1:3] for line in out.splitlines() if "│" in line]
        assert [[cell.strip() for cell in row] for row in rows] == [
            ["first", "finished"],
            ["second", "search"],
        ]

    def test_list_of_nothing(self, ipgl: Callable[..., Outcome]) -> None:
        code, out, _ = ipgl("study", "list", "--storage", "elsewhere")
        assert code == 0
        assert "no studies here yet" in out


def test_schema_is_json_for_every_method(ipgl: Callable[..., Outcome]) -> None:
    code, out, err = ipgl("study", "schema")
    assert (code, err) == (0, "")
    assert json.loads(out)["properties"]["methods"]["properties"].keys() == METHODS.keys()


class TestCrash:
    """An error in ipgl itself, which is no `IpglError`."""

    def test_exits_with_3_after_the_traceback(
        self, ipgl: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash() -> None:
            raise ZeroDivisionError("planted")

        monkeypatch.setattr("ipgl.plan.json_schema.study_schema", crash)
        done = ipgl("study", "schema")
        assert (done.code, done.out) == (3, "")
        assert done.err.startswith("Traceback (most recent call last):\n")
        assert "ZeroDivisionError: planted\n" in done.err
        assert done.err.endswith("error: this is a fault of ipgl itself; nothing on storage is lost by it\n")

    @pytest.mark.parametrize("error", ["IpglError", "DataError", "StudyStateError", "TrackingError"])
    def test_a_user_s_error_is_none(
        self, ipgl: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, error: str
    ) -> None:
        from ipgl.core import errors

        def refuse() -> None:
            raise getattr(errors, error)("planted")

        monkeypatch.setattr("ipgl.plan.json_schema.study_schema", refuse)
        assert ipgl("study", "schema") == (2, "", "error: planted\n")

    def test_a_reader_that_has_gone_is_none(
        self, ipgl: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken() -> None:
            raise BrokenPipeError

        monkeypatch.setattr("ipgl.plan.json_schema.study_schema", broken)
        assert ipgl("study", "schema") == (0, "", "")


class TestProcesses:
    """The same through the two ways in which a shell starts it."""

    def test_the_module_refuses_with_exit_code_2(self, tmp_path: Path) -> None:
        file = tmp_path / "study.yaml"
        file.write_text(STUDY.replace("  ipg:", "  ipgg:"))
        code = (
            "import atexit, runpy, sys\n"
            "atexit.register(lambda: print('ray' in sys.modules))\n"
            "sys.argv = ['ipgl', 'study', 'run', sys.argv[1]]\n"
            "runpy.run_module('ipgl', run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(file)], capture_output=True, text=True, cwd=tmp_path, timeout=60
        )
        assert (done.returncode, done.stdout) == (2, "False\n")
        assert done.stderr.startswith(f"error: {file}:6: methods.ipgg: unknown method 'ipgg'")
        assert len(done.stderr.splitlines()) == 1

    def test_a_crash_exits_with_3(self, tmp_path: Path) -> None:
        program = (
            "import sys\n"
            "import ipgl.plan.json_schema as module\n"
            "from ipgl.cli.main import main\n"
            "module.study_schema = lambda: 1 / 0\n"
            "sys.argv = ['ipgl', 'study', 'schema']\n"
            "main()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert (done.returncode, done.stdout) == (3, "")
        assert "ZeroDivisionError" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: this is a fault of ipgl itself")

    def test_the_console_script(self, tmp_path: Path) -> None:
        script = Path(sys.executable).with_name("ipgl")
        if not script.exists():
            pytest.skip(f"there is no {script}: the package is not installed in this environment")
        done = subprocess.run(
            [script, "study", "validate", "absent.yaml"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: absent.yaml: cannot read the study file: No such file or directory\n"
