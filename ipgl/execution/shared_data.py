"""Data sets in Ray's object store: one copy on each node, which all trials there map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import ray
from ray.exceptions import ObjectStoreFullError, RayError

from ipgl.config import TrialConfig
from ipgl.trial.dataset_buffers import from_buffers, to_buffers
from ipgl.trial.datasets import cached_dataset, dataset_facts, forget_datasets, is_shared, share_dataset

# Smaller ones are built as fast as they are fetched.
LEAST_BYTES = 16 * 2**20
_MOST_SETS = 4
_STORE_SHARE = 0.5  # of the object store, for one data set


def put_datasets(configs: Iterable[TrialConfig], known: Mapping[str, object]) -> dict[str, object]:
    """Put what these trials read into the object store, as far as that is worth it.

    This process forgets its own copies.

    Args:
        configs: The trials.
        known: What an earlier call gave; it is not put again.

    Returns:
        Component as JSON -> reference.
    """
    components = list(dict.fromkeys(config.dataset.model_dump_json() for config in configs))
    if len(components) > _MOST_SETS:
        return {}
    store = float(ray.cluster_resources().get("object_store_memory", 0))
    found = {component: known[component] for component in components if component in known}
    for component in components:
        if component in found:
            continue
        parts = to_buffers(cached_dataset(component))
        if parts is None or not LEAST_BYTES <= sum(part.nbytes for part in parts) <= _STORE_SHARE * store:
            continue
        try:
            found[component] = ray.put(parts)
        except ObjectStoreFullError:
            continue
        dataset_facts(component)  # remembered, so that a later question does not build it again
    if found.keys() - known.keys():
        forget_datasets()
    return found


def take_datasets(references: Mapping[str, object]) -> None:
    """Let trials of this process read from the object store what is there."""
    for component, reference in references.items():
        if not is_shared(component):
            try:
                share_dataset(component, from_buffers(ray.get(reference)))
            except RayError:  # its node is gone: then every trial builds its own
                continue
