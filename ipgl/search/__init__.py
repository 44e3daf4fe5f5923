"""Hyperparameter search with Optuna; the only package that imports optuna."""

from ipgl.search.importance import importances
from ipgl.search.optuna_study import SearchStudy
from ipgl.search.space import distributions, make_sampler

__all__ = ["SearchStudy", "distributions", "importances", "make_sampler"]
