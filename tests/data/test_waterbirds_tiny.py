from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from narrowing import as_images

from ipgl.data import DATASETS, Dataset, Split, group_counts
from ipgl.data.pair_audit import audit_pairs

SMALL = {"birds": 60, "test_birds": 40, "side": 32, "input_size": 16, "pairs": {"held_out": 10}}


def build(folder: Path, **settings: object) -> Dataset:
    entry = DATASETS["waterbirds_tiny"]
    return entry.build(entry.settings.model_validate({**SMALL, "cache": str(folder)} | settings))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tiny(cache: Path) -> Dataset:
    return build(cache)


def counts(split: Split) -> list[list[int]]:
    return group_counts(split.y, split.attribute, 2, 2).tolist()


def test_it_is_waterbirds_in_small(tiny: Dataset) -> None:
    assert (tiny.class_names, tiny.attribute_names) == (("landbird", "waterbird"), ("land", "water"))
    assert tiny.input_shape == (3, 16, 16)
    (land, none), (neither, water) = counts(tiny.train)
    assert (land + water, none, neither) == (48, 0, 0)
    assert sum(sum(row) for row in counts(tiny.validation)) == 12
    assert counts(tiny.test) == [[10, 10], [10, 10]]
    assert (len(tiny.pairs), len(tiny.held_out_pairs)) == (38, 10)


def test_its_pairs_are_sound(tiny: Dataset) -> None:
    audit = audit_pairs(tiny)
    assert audit.faults == audit.warnings == []


def test_the_first_member_is_the_training_image_but_for_jpeg(tiny: Dataset) -> None:
    index = torch.arange(len(tiny.pairs))
    own = as_images(tiny.train.x).pixels(tiny.pairs.source).float()
    assert (as_images(tiny.pairs.a).pixels(index).float() - own).abs().mean() < 4
    assert (as_images(tiny.pairs.b).pixels(index).float() - own).abs().mean() > 20


def test_a_second_build_draws_nothing(tiny: Dataset, cache: Path) -> None:
    made = {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.suffix != ".lock"}
    again = build(cache)
    assert again.fingerprint == tiny.fingerprint
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_the_fingerprint_is_the_same_in_another_folder(tiny: Dataset, tmp_path: Path) -> None:
    assert build(tmp_path / "elsewhere").fingerprint == tiny.fingerprint


def test_settings_that_change_pictures_change_the_fingerprint(tiny: Dataset, cache: Path) -> None:
    others = [
        build(cache, seed=1),
        build(cache, strength=0.9),
        build(cache, pairs={"held_out": 10, "seed": 1}),
    ]
    assert len({tiny.fingerprint, *(other.fingerprint for other in others)}) == 4
    (land, minority), _ = counts(others[1].train)
    assert minority == round(0.1 * (land + minority))


CODE = """
from ipgl.data import DATASETS
entry = DATASETS["waterbirds_tiny"]
print(entry.build(entry.settings.model_validate({settings!r})).fingerprint)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    code = textwrap.dedent(CODE).format(settings={**SMALL, "cache": str(folder)})
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_trials_that_start_at_once_share_what_the_first_draws(tiny: Dataset, tmp_path: Path) -> None:
    processes = [start(tmp_path) for _ in range(3)]
    answers = {process.communicate(timeout=240)[0].strip() for process in processes}
    assert answers == {tiny.fingerprint}
    assert len([path for path in (tmp_path / "waterbirds_tiny").iterdir() if path.is_dir()]) == 1


def test_a_killed_process_leaves_nothing_half_drawn(tiny: Dataset, tmp_path: Path) -> None:
    home = tmp_path / "waterbirds_tiny"
    with start(tmp_path) as process:
        deadline = time.monotonic() + 60
        while not list(home.glob("*.partial/CUB_200_2011/images/*/*.jpg")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    assert not [path for path in home.iterdir() if path.is_dir() and path.suffix != ".partial"]
    assert build(tmp_path).fingerprint == tiny.fingerprint
    assert not list(home.glob("*.partial"))
    shutil.rmtree(home)
