"""Checkpoints: what is written comes back, and what cannot be used is refused in words."""

from __future__ import annotations

import random
import resource
import signal
from pathlib import Path

import pytest
import torch

from ipgl.core.errors import StudyStateError
from ipgl.training import Checkpoint, load_checkpoint, save_checkpoint
from ipgl.training.checkpoint import random_state, restore_random_state


def checkpoint(config_hash: str = "abc") -> Checkpoint:
    return Checkpoint(
        step=7,
        model={"w": torch.tensor([1.0, 2.0])},
        method={"multiplier": torch.tensor(0.5), "count": 3},
        optimisers={
            "task": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
        },
        rng=random_state(),
        history=[{"step": 7.0, "train/loss": 0.25}],
        seconds=1.5,
        config_hash=config_hash,
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    saved = checkpoint()
    save_checkpoint(path, saved)
    found = load_checkpoint(path, "abc")
    assert found is not None
    assert (found.step, found.history, found.seconds, found.config_hash) == (
        7,
        saved.history,
        1.5,
        "abc",
    )
    assert torch.equal(found.model["w"], saved.model["w"])
    assert found.method["multiplier"].item() == 0.5
    assert found.method["count"] == 3
    assert torch.equal(found.optimisers["task"]["state"][0]["momentum_buffer"], torch.ones(2))
    assert torch.equal(found.rng["cpu"], saved.rng["cpu"])


def test_none_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "checkpoint.pt", "abc") is None


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint("a" * 64))
    with pytest.raises(StudyStateError) as caught:
        load_checkpoint(path, "b" * 64)
    assert str(caught.value) == (
        f"{path}: the checkpoint belongs to another configuration (aaaaaaaaaa, but this run is bbbbbbbbbb); "
        "remove it or use another folder"
    )


def assert_refused(path: Path) -> None:
    with pytest.raises(StudyStateError) as caught:
        load_checkpoint(path, "abc")
    message = str(caught.value)
    assert message.startswith(f"{path}: the checkpoint cannot be read (")
    assert message.endswith("; remove it so that the run starts from its beginning")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"not a checkpoint",
        b".",  # the unpickler's stack is empty
        b"j\x86=\xf0\xae",  # a reference to nothing
        b"J",  # half a number
        b"X\x04\x00\x00\x00\xff\xff\xff\xff.",  # text that is none
        b"PK\x03\x04",
        b"{}",
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert_refused(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_noise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    noise = random.Random(0)
    for _ in range(300):
        path.write_bytes(noise.randbytes(noise.randint(1, 40)))
        assert_refused(path)


def test_a_file_of_other_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for content in ({"w": torch.ones(2)}, [1, 2], torch.ones(3)):
        torch.save(content, path)
        assert_refused(path)


def test_a_directory_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        load_checkpoint(tmp_path, "abc")


def test_random_state_comes_back() -> None:
    torch.manual_seed(4)
    state = random_state()
    first = torch.rand(3)
    torch.rand(10)
    restore_random_state(state)
    assert torch.equal(torch.rand(3), first)


def test_a_full_disk_is_an_os_error_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint())
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that the write itself fails
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(path, checkpoint("other"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == ["checkpoint.pt"]
