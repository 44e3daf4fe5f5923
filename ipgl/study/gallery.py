"""Images for the report: invariance pairs, and misclassified examples of each method's worst group."""

from __future__ import annotations

import math

import numpy as np
import torch

from ipgl.config import TrialConfig
from ipgl.core.errors import IpglError
from ipgl.data import Dataset, rgb_images
from ipgl.evaluation import MethodSummary, StudyResults, Tested
from ipgl.plan.study_plan import StudyPlan
from ipgl.report import Gallery, Mistake, PicturePair
from ipgl.storage.study_dir import StudyFolder
from ipgl.study.results import read_ended_runs
from ipgl.trial.datasets import cached_dataset

_PAIRS = 8
_MISTAKES = 6
# Most data sets that are built; methods with further data sets of their own get no images.
_DATASETS = 3


def make_gallery(plan: StudyPlan, folder: StudyFolder, results: StudyResults) -> Gallery:
    """Build the data sets and choose the images; if a data set cannot be built, the gallery states the reason."""
    shown = [method for method in results.summary.methods if method.final_runs]
    tested = read_ended_runs(folder, [method.label for method in shown]).tested
    pairs: tuple[PicturePair, ...] = ()
    mistakes: dict[str, tuple[Mistake, ...]] = {}
    known: set[str] = set()
    for method in shown:
        runs = tested[method.label]
        if not runs:
            continue
        config = TrialConfig.model_validate(runs[0].run.config).dataset.model_dump_json()
        if config not in known and len(known) == _DATASETS:
            continue
        known.add(config)
        try:
            dataset = cached_dataset(config)
        except (IpglError, OSError) as error:
            return Gallery(pairs, mistakes, f"The data set cannot be built here: {error}")
        if len(dataset.input_shape) != 3:
            return Gallery(missing="The data set's inputs are no pictures.")
        pairs = pairs or _pairs(dataset)
        mistakes[method.label] = _mistakes(method, runs, dataset)
    return Gallery(pairs, mistakes)


def _pairs(dataset: Dataset) -> tuple[PicturePair, ...]:
    found = dataset.held_out_pairs
    index = torch.arange(min(_PAIRS, len(found)))
    first, second = (rgb_images(x, index, dataset) for x in (found.a, found.b))
    names = [dataset.class_names[label] for label in found.y[: len(index)].tolist()]
    return tuple(PicturePair(*shown) for shown in zip(first, second, names, strict=True))


def _mistakes(method: MethodSummary, runs: list[Tested], dataset: Dataset) -> tuple[Mistake, ...]:
    """The examples of the worst group that most final runs misclassify; ties go to the earlier example.

    Runs on other test examples than those of the first run are ignored.
    """
    measured = [group for group in method.groups if not math.isnan(group.accuracy.mean)]
    if not measured:
        return ()
    worst = min(measured, key=lambda group: group.accuracy.mean)
    first = runs[0].predictions
    runs = [run for run in runs if run.examples == runs[0].examples]
    members = np.flatnonzero((first.label == worst.label) & (first.attribute == worst.attribute))
    answers = np.stack([run.predictions.prediction[members] for run in runs])
    wrong = (answers != worst.label).sum(axis=0)
    chosen = np.argsort(-wrong, kind="stable")[:_MISTAKES]
    chosen = chosen[wrong[chosen] > 0]
    if not len(chosen):
        return ()
    index = torch.from_numpy(members[chosen])
    shown = rgb_images(dataset.test.x, index, dataset)
    what = f"{dataset.class_names[worst.label]}, {dataset.attribute_names[worst.attribute]}"
    mistakes = []
    for picture, column in zip(shown, chosen, strict=True):
        taken = answers[:, column][answers[:, column] != worst.label]
        name = dataset.class_names[int(np.bincount(taken).argmax())]
        mistakes.append(
            Mistake(picture, f"{what}: taken for {name} by {int(wrong[column])} of {len(runs)} seeds")
        )
    return tuple(mistakes)
