"""Backbones as `features -> linear head`."""

from ipgl.models.classifier import Classifier, Head, Network
from ipgl.models.frozen import is_frozen, with_frozen_features
from ipgl.models.registry import MODELS, ModelEntry
from ipgl.models.stacked import StackedClassifier, joined, shared, stackable

__all__ = [
    "MODELS",
    "Classifier",
    "Head",
    "ModelEntry",
    "Network",
    "StackedClassifier",
    "is_frozen",
    "joined",
    "shared",
    "stackable",
    "with_frozen_features",
]
