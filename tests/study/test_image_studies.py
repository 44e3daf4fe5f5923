"""Studies on images: corruptions, frozen features, damaged files, and requirements on pairs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import write_waterbirds
from small_study import finished_study

from ipgl.cli.data_views import write_features
from ipgl.config import Document, parse_document
from ipgl.core.errors import DataError, IpglError
from ipgl.data import DATASETS
from ipgl.plan.preflight import check_by_building
from ipgl.plan.study_plan import load_plan, make_plan, skipping_bad
from ipgl.study.gallery import make_gallery
from ipgl.study.results import summarise
from ipgl.study.runner import stored_plan
from ipgl.trial import datasets as trial_data
from ipgl.trial.build import load_model
from ipgl.trial.datasets import trial_dataset

TINY = """\
name: birds
question: Do composite pairs help?
dataset:
  {{name: waterbirds_tiny, birds: 60, test_birds: 40, side: 32, input_size: 16, cache: {cache},
   pairs: {{held_out: 10}}}}
model: {model}
methods:
  erm: {{}}
  ipg: {{update: additive, discrepancy: logit, adaptivity: "off", strength: 1, pairs_per_step: 8}}
training: {{epochs: 2, batch_size: 12, evaluations: 2, optimiser: {{name: adam, lr: 1e-3}}, device: cpu}}
search: {{trials: 1, final_seeds: 1}}
evaluation: {{permutations: 100, corruption_levels: [0, 1]}}
tracking: {{name: none}}
storage: {storage}
"""

FOLDER = """\
name: folder
dataset: {{name: waterbirds, root: {root}, input_size: 16, cache: {cache}}}
model: {{name: cnn, width: 8}}
methods: {{erm: {{}}}}
training: {{epochs: 1, batch_size: 4}}
search: {{selection: average}}
tracking: {{name: none}}
"""


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    yield
    trial_data.forget_datasets()
    trial_data._cached_features.cache_clear()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_a_study_on_images_from_end_to_end(tmp_path: Path, cache: Path) -> None:
    storage = tmp_path / "runs"
    plan, folder = finished_study(
        storage, TINY.format(cache=cache, model="{name: cnn, width: 8}", storage=storage)
    )
    results = summarise(plan, folder)
    summary = results.summary
    assert [p.severity for p in summary.methods[0].curves["corruption_background"]] == [0, 1]
    for method in summary.methods:
        assert method.curves.keys() >= {"mixture", "worst_case_kl", "interpolation"}
        assert [group.training_count == 0 for group in method.groups] == [False, True, True, False]
    assert any("no training example of landbird with water" in remark for remark in summary.remarks)
    gallery = make_gallery(plan, folder, results)
    assert gallery.pairs[0].a.shape == (18, 18, 3)
    # The training mix of a data set without conflicting examples: the KL ball cannot leave it, the TV ball can.
    erm = summary.methods[0]
    aligned = [group.accuracy.mean for group in erm.groups if group.training_count]
    assert erm.curves["worst_case_kl"][-1].accuracy >= min(aligned) - 1e-9
    assert erm.curves["worst_case_tv"][-1].accuracy == pytest.approx(erm.estimates["worst_group"].mean)


def test_a_frozen_backbone_trains_a_head(tmp_path: Path, cache: Path) -> None:
    storage = tmp_path / "runs"
    text = TINY.format(cache=cache, model="{name: resnet18, frozen: true}", storage=storage)
    plan, folder = finished_study(storage, text)
    summary = summarise(plan, folder).summary
    config = plan.trial("ipg", {}, "final", plan.final_seeds()[0])
    features = trial_dataset(config)
    assert features.train.x.shape == (48, 512)
    assert len(list(cache.glob("features-*.npy"))) == 1
    assert any(remark.startswith("features of a frozen resnet18") for remark in summary.remarks), (
        summary.remarks
    )
    model = load_model(folder.trial(summary.methods[1].final_runs[0]).path)
    assert sum(p.numel() for p in model.parameters()) == 2 * 512 + 2
    stored = folder.trial(summary.methods[1].final_runs[0]).artifacts.read_predictions()
    with torch.no_grad():
        again = model(features.test.x).argmax(dim=1)
    assert again.tolist() == stored.prediction.tolist()


def test_features_are_written_for_matching(tmp_path: Path, cache: Path) -> None:
    text = TINY.format(cache=cache, model="{name: resnet18, frozen: true}", storage=tmp_path / "runs")
    study = tmp_path / "s.yaml"
    # The pairs may need the very file, so that they are left out.
    root = write_waterbirds(tmp_path / "w")
    data = f"{{name: waterbirds, root: {root}, folder: ., input_size: 32, cache: {cache}, "
    start, end = text.index("  {name: waterbirds_tiny"), text.index("model:")
    text = f"{text[:start]}  {data}pairs: {{source: matched, features: f.npy, held_out: 2}}}}\n{text[end:]}"
    study.write_text(text)
    write_features(study, None, root / "f.npy", skip_bad=False)
    features = np.load(root / "f.npy")
    assert features.shape == (8, 512)
    checked = check_by_building(load_plan(study))
    assert any("features of cosine" in note for note in checked.notes)
    study.write_text(text.replace(", frozen: true", ""))
    with pytest.raises(
        IpglError, match=r"features come from a frozen backbone; set model: {name: resnet18, frozen: true}"
    ):
        write_features(study, None, root / "f.npy", skip_bad=False)


@pytest.fixture
def waterbirds(tmp_path: Path) -> tuple[Path, Path]:
    root = write_waterbirds(tmp_path / "waterbird_complete95_forest2water2")
    study = tmp_path / "s.yaml"
    study.write_text(FOLDER.format(root=root, cache=tmp_path / "cache"))
    return root, study


def test_bad_images_are_refused_or_skipped_and_recorded(waterbirds: tuple[Path, Path]) -> None:
    root, study = waterbirds
    victim = root / "001.Bird" / "Bird_0_0.jpg"
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(DataError, match=r"s.yaml:2: dataset: 1 of 24 images cannot be read(.|\n)*--skip-bad"):
        check_by_building(load_plan(study))
    checked = check_by_building(load_plan(study, skip_bad=True))
    assert any(note.startswith("image left out: ") and "Bird_0_0.jpg" in note for note in checked.notes)


def test_the_check_counts_images_that_stand_in_two_splits(waterbirds: tuple[Path, Path]) -> None:
    root, study = waterbirds
    shutil.copy(root / "001.Bird" / "Bird_2_0.jpg", root / "001.Bird" / "Bird_0_0.jpg")
    checked = check_by_building(load_plan(study))
    assert any(
        "1 of 8 training images have the pixels of a validation or test image" in n for n in checked.notes
    )


def test_skipping_survives_a_resume(tmp_path: Path, waterbirds: tuple[Path, Path]) -> None:
    _, study = waterbirds
    plan = load_plan(study, skip_bad=True)
    assert plan.config.dataset.settings["skip_bad"] is True
    assert load_plan(study).hash != plan.hash
    folder = tmp_path / "runs" / "folder"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(study.read_text())
    for skip_bad in (True, False):
        (folder / "study.json").write_text(json.dumps({"phase": "search", "skip_bad": skip_bad}))
        from ipgl.storage.study_dir import StudyFolder

        assert bool(stored_plan(StudyFolder(folder)).config.dataset.settings.get("skip_bad")) is skip_bad


def test_a_data_set_that_knows_no_skipping_says_so(tmp_path: Path) -> None:
    document = parse_document(
        "name: s\ndataset: {name: colored_mnist}\nmodel: {name: mlp}\nmethods: {erm: {}}\n", "s.yaml"
    )
    assert isinstance(skipping_bad(document), Document)
    with pytest.raises(IpglError, match="unknown key 'skip_bad'"):
        make_plan(skipping_bad(document))


def test_a_rule_that_reads_pairs_needs_some(waterbirds: tuple[Path, Path]) -> None:
    _, study = waterbirds
    study.write_text(study.read_text().replace("selection: average", "selection: pair_robust"))
    with pytest.raises(
        IpglError, match=r"s.yaml:6: search.selection: pair_robust needs held-out pairs, but the data set"
    ):
        check_by_building(load_plan(study))


def test_without_pairs_a_study_still_runs(tmp_path: Path, waterbirds: tuple[Path, Path]) -> None:
    root, _ = waterbirds
    storage = tmp_path / "runs"
    text = FOLDER.format(root=root, cache=tmp_path / "cache") + f"storage: {storage}\n"
    text = text.replace("average}", "average, final_seeds: 1}")
    plan, folder = finished_study(storage, text)
    (method,) = summarise(plan, folder).summary.methods
    assert "interpolation" not in method.curves
    assert "flip_rate" not in method.estimates
    assert method.estimates["worst_group"].mean == method.estimates["worst_group"].mean


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "studies").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_study_file_keeps_the_schema(path: Path) -> None:
    plan = load_plan(path)
    assert plan.config.dataset.name in DATASETS
