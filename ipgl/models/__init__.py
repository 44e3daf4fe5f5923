"""Backbones as `features -> linear head`."""

from ipgl.models.classifier import Classifier
from ipgl.models.registry import MODELS, ModelEntry

__all__ = ["MODELS", "Classifier", "ModelEntry"]
