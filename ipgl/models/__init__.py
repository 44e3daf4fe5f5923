"""Backbones as `features -> linear head`."""

from ipgl.models.classifier import Classifier, Head, StateDict
from ipgl.models.frozen import is_frozen, with_frozen_features
from ipgl.models.registry import MODELS, ModelEntry

__all__ = [
    "MODELS",
    "Classifier",
    "Head",
    "ModelEntry",
    "StateDict",
    "is_frozen",
    "with_frozen_features",
]
