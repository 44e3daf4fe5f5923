"""From search ranges to Optuna."""

from ipgl.search.importance import importances
from ipgl.search.space import distributions, make_sampler

__all__ = ["distributions", "importances", "make_sampler"]
