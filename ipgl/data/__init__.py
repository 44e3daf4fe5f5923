"""Data sets, groups, and invariance pairs."""

from ipgl.data.groups import aligned_attribute, group_counts, group_index
from ipgl.data.order import ShuffledOrder, derive_seed
from ipgl.data.pictures import as_pictures
from ipgl.data.registry import DATASETS, DatasetEntry
from ipgl.data.types import Batch, Dataset, PairBatch, PairSet, Split

__all__ = [
    "DATASETS",
    "Batch",
    "Dataset",
    "DatasetEntry",
    "PairBatch",
    "PairSet",
    "ShuffledOrder",
    "Split",
    "aligned_attribute",
    "as_pictures",
    "derive_seed",
    "group_counts",
    "group_index",
]
