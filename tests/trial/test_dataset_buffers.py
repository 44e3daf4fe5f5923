"""Serialisation of data sets into shared buffers."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faults import ipgl
from narrowing import known
from numpy.typing import NDArray

from ipgl.config import Component
from ipgl.data.pixel_file import PixelFile
from ipgl.execution import shared_data as ray_share
from ipgl.trial import datasets as trial_data
from ipgl.trial.dataset_buffers import from_buffers, to_buffers
from ipgl.trial.datasets import build_dataset, cached_dataset, dataset_facts, forget_datasets, share_dataset

DIGITS = Component(name="colored_mnist", source="digits", pairs={"train": 60, "held_out": 40})


@pytest.fixture(autouse=True)
def _nothing_lent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trial_data, "_shared", {})
    yield
    forget_datasets()


def read_only(parts: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """As they come from an object store."""
    copies = [part.copy() for part in parts]
    for copy in copies:
        copy.flags.writeable = False
    return copies


def test_a_restored_data_set_is_equal_and_uses_the_memory_of_its_buffers() -> None:
    dataset = build_dataset(DIGITS)
    parts = read_only(known(to_buffers(dataset)))
    found = from_buffers(parts)
    assert found.fingerprint == dataset.fingerprint
    for name in ("train", "validation", "test"):
        split, other = getattr(found, name), getattr(dataset, name)
        assert torch.equal(split.x[:], other.x[:])
        assert torch.equal(split.y, other.y)
        assert torch.equal(split.attribute, other.attribute)
    assert torch.equal(found.held_out_pairs.a[:], dataset.held_out_pairs.a[:])
    assert list(found.corruptions) == list(dataset.corruptions)
    for name, corrupt in dataset.corruptions.items():
        assert torch.equal(corrupt(1.0)[:], found.corruptions[name](1.0)[:])
    where = found.train.x[:].data_ptr()
    assert any(part.ctypes.data <= where < part.ctypes.data + part.nbytes for part in parts), (
        "the images were copied"
    )


def test_only_what_every_process_can_map_is_serialised(tmp_path: Path) -> None:
    dataset = build_dataset(DIGITS)
    nameless = {"own": lambda strength: dataset.test.x}
    assert to_buffers(replace(dataset, corruptions=nameless)) is None
    np.save(tmp_path / "pixels.npy", np.zeros((1, 2, 2, 3), np.uint8))
    mapped = PixelFile(tmp_path / "pixels.npy")
    of_files: Any = {"own": mapped}
    assert to_buffers(replace(dataset, corruptions=of_files)) is None
    assert pickle.loads(pickle.dumps(mapped)).path == mapped.path


def test_a_lent_data_set_is_used_and_a_forgotten_one_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    name = DIGITS.model_dump_json()
    first = cached_dataset(name)
    facts = dataset_facts(name)
    assert cached_dataset(name) is first
    forget_datasets()
    monkeypatch.setattr(trial_data, "build_dataset", lambda component: pytest.fail("built"))
    assert dataset_facts(name) == facts
    assert facts.fingerprint == first.fingerprint
    share_dataset(name, first)
    assert cached_dataset(name) is first
    monkeypatch.undo()


STUDY = """
name: shared
imports: [counted.py]
dataset: {name: counted, source: digits, pairs: {train: 100, held_out: 100}}
model: {name: mlp, width: 32}
methods: {erm: {}, ipg: {update: additive, discrepancy: logit, strength: 10}}
training: {epochs: 1, batch_size: 64, device: cpu}
search: {sampler: random, trials: 1, final_seeds: 4}
resources: {cpus_per_worker: 1}
tracking: {name: none}
"""
# Counts who builds it.
COUNTED = """
import os
from dataclasses import dataclass, replace

import torch

from ipgl.data import DATASETS, DatasetEntry

digits = DATASETS["colored_mnist"]


@dataclass
class Heavy:
    corrupt: object
    weight: torch.Tensor

    def __call__(self, strength):
        return self.corrupt(strength)


def build(settings):
    with open(os.environ["BUILT"], "a") as file:
        file.write(f"{os.getpid()}\\n")
    dataset, weight = digits.build(settings), torch.zeros(BYTES, dtype=torch.uint8)
    return replace(dataset, corruptions={name: Heavy(c, weight) for name, c in dataset.corruptions.items()})


DATASETS["counted"] = DatasetEntry(digits.settings, build)
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("size", "shared"), [(ray_share.LEAST_BYTES, True), (0, False)])
def test_a_study_s_processes_share_what_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, shared: bool
) -> None:
    for file, text in (("counted.py", COUNTED.replace("BYTES", str(size))), ("shared.yaml", STUDY)):
        (tmp_path / file).write_text(text)
    monkeypatch.setenv("BUILT", str(tmp_path / "built"))
    done = ipgl("study", "run", "shared.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (len(set((tmp_path / "built").read_text().split())) == 1) is shared
