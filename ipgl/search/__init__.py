"""From search ranges to Optuna."""

from ipgl.search.space import distributions, make_sampler

__all__ = ["distributions", "make_sampler"]
