"""Data sets, groups, and invariance pairs."""

from ipgl.data.alignment import Alignment, find_alignment, resolve_alignment
from ipgl.data.batch_order import ShuffledOrder, derive_seed
from ipgl.data.groups import group_counts, group_index
from ipgl.data.images import Images
from ipgl.data.input_images import rgb_images
from ipgl.data.registry import DATASETS, DatasetEntry
from ipgl.data.split_inputs import Inputs, Readable, parts
from ipgl.data.types import Batch, Dataset, PairBatch, PairSet, Split

__all__ = [
    "DATASETS",
    "Alignment",
    "Batch",
    "Dataset",
    "DatasetEntry",
    "Images",
    "Inputs",
    "PairBatch",
    "PairSet",
    "Readable",
    "ShuffledOrder",
    "Split",
    "derive_seed",
    "find_alignment",
    "group_counts",
    "group_index",
    "parts",
    "resolve_alignment",
    "rgb_images",
]
