"""Which device a trial uses, and in which precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from image_rows import image_dataset

from ipgl.config import TrainingSettings
from ipgl.core.errors import ResourceError
from ipgl.data import Dataset
from ipgl.training import choose_device, place
from ipgl.training.device import autocast

if TYPE_CHECKING:
    from tests.training.conftest import Toys


@pytest.mark.parametrize(
    ("setting", "available", "expected"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda"), ("cpu", True, "cpu")],
)
def test_device(monkeypatch: pytest.MonkeyPatch, setting: str, available: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device(TrainingSettings(device=setting)).type == expected


def test_a_missing_gpu_is_an_error_that_names_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError) as caught:
        choose_device(TrainingSettings(device="cuda"))
    assert str(caught.value) == (
        "training.device is cuda, but this process sees no GPU; set resources.use_gpu: true so that "
        "trials are given one, or training.device: auto"
    )


def test_on_the_cpu_data_stay_where_they_are(toys: type[Toys]) -> None:
    dataset = toys.dataset()
    assert place(dataset, torch.device("cpu")) is dataset


def watch(monkeypatch: pytest.MonkeyPatch, name: str) -> list[torch.device]:
    """The devices that a data set's method of this name is called with; it does nothing else."""
    moved: list[torch.device] = []

    def move(self: Dataset, device: torch.device) -> Dataset:
        moved.append(device)
        return self

    monkeypatch.setattr(Dataset, name, move)
    return moved


@pytest.mark.parametrize(("free", "moves"), [(10**9, True), (100, False)])
def test_data_move_to_a_gpu_with_room_for_them(
    monkeypatch: pytest.MonkeyPatch, toys: type[Toys], free: int, moves: bool
) -> None:
    dataset, moved = toys.dataset(), watch(monkeypatch, "to")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**10))
    place(dataset, torch.device("cuda"))
    assert moved == ([torch.device("cuda")] if moves else [])


def test_data_may_take_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch, toys: type[Toys]) -> None:
    # float32 inputs of 4 and three int64 per example in 50 + 20 + 20 of them: 16 + 24 bytes; 20 + 10 pairs of
    # two inputs and two int64: 48 bytes. In all 90 * 40 + 30 * 48 = 5,040 bytes.
    dataset, moved = toys.dataset(), watch(monkeypatch, "to")
    for free in (10_079, 10_080):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**10))
        place(dataset, torch.device("cuda"))
        assert len(moved) == (free == 10_080)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision(precision: str, dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(2, 2)
    with autocast(TrainingSettings(precision=precision), torch.device("cpu")):
        assert layer(torch.ones(1, 2)).dtype == dtype
    assert layer(torch.ones(1, 2)).dtype == torch.float32


def test_images_stay_on_disk_and_become_inputs_on_the_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset, moved = image_dataset(tmp_path, None), watch(monkeypatch, "inputs_on")
    monkeypatch.setattr(Dataset, "to", None)
    assert place(dataset, torch.device("cuda")) is dataset
    assert moved == [torch.device("cuda")]
