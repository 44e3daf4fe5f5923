"""Data sets of trials: built once per process, or shared from another process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from ipgl.config import Component, EvaluationSettings, TrialConfig
from ipgl.core.registry import lookup
from ipgl.data import DATASETS, Alignment, Dataset, group_counts, resolve_alignment
from ipgl.data.image_dataset import cache_folder
from ipgl.models import is_frozen, with_frozen_features


def build_dataset(component: Component) -> Dataset:
    """Build the data set that a component names, from its complete settings."""
    entry = lookup("dataset", DATASETS, component.name)
    return entry.build(entry.settings.model_validate(component.settings))


def trial_dataset(config: TrialConfig) -> Dataset:
    """The data that a trial trains on: the data set, or its features if the model is frozen. Cached."""
    dataset = cached_dataset(config.dataset.model_dump_json())
    if not is_frozen(config.model):
        return dataset
    return _cached_features(config.dataset.model_dump_json(), config.model.model_dump_json())


def training_counts(dataset: Dataset) -> Tensor:
    """Training examples per group, int64 `[num_classes, num_attributes]`, on the CPU."""
    train = dataset.train
    return group_counts(train.y, train.attribute, dataset.num_classes, dataset.num_attributes).cpu()


def trial_alignment(settings: EvaluationSettings, dataset: Dataset) -> Alignment:
    """The alignment that the study file states, or else the one inferred from the training counts.

    Raises:
        DataError: The stated alignment does not fit the data set.
    """
    return resolve_alignment(
        settings.alignment, training_counts(dataset), dataset.class_names, dataset.attribute_names
    )


_shared: dict[str, Dataset] = {}


def cached_dataset(component: str) -> Dataset:
    """`build_dataset` of a component given as JSON, cached: a process runs many trials on one data set."""
    return _shared[component] if component in _shared else _built_dataset(component)


@lru_cache(maxsize=2)
def _built_dataset(component: str) -> Dataset:
    return build_dataset(Component.model_validate_json(component))


@dataclass(frozen=True)
class DatasetFacts:
    """Properties of a data set without its data; the fields are those of `Dataset`."""

    fingerprint: str
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]


@lru_cache(maxsize=16)
def dataset_facts(component: str) -> DatasetFacts:
    """Properties of the data set of a component given as JSON; cached longer than the data set itself."""
    data = cached_dataset(component)
    return DatasetFacts(data.fingerprint, data.input_shape, data.class_names, data.attribute_names)


def is_shared(component: str) -> bool:
    """Whether `share_dataset` has supplied the data set of a component given as JSON."""
    return component in _shared


def share_dataset(component: str, dataset: Dataset) -> None:
    """Supply a data set that another process has built to the trials of this one; its tensors may be read-only."""
    _shared[component] = dataset


def forget_datasets() -> None:
    """Clear the cache of `cached_dataset`; shared data sets stay."""
    _built_dataset.cache_clear()


@lru_cache(maxsize=2)
def _cached_features(dataset: str, model: str) -> Dataset:
    data = Component.model_validate_json(dataset)
    cache = data.settings.get("cache")
    folder = cache_folder(None if cache is None else str(cache))
    return with_frozen_features(cached_dataset(dataset), Component.model_validate_json(model), folder)
