"""IPGL: image classifiers that ignore spurious correlations, by invariance pair-guided learning.

The public functions are loaded when they are first used, so that `import ipgl` takes no time:

- `run_study`, `load_study`: a whole study, as `ipgl study run` runs it, and its results as data frames;
- `train`: one model by one method, without a cluster;
- `evaluate`: metrics and robustness curves of any PyTorch model;
- `register_dataset`, `register_model`, `register_method`: components of one's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipgl.core.version import __version__

if TYPE_CHECKING:
    from ipgl.api import (
        Evaluation,
        Study,
        Trained,
        evaluate,
        load_study,
        register_dataset,
        register_method,
        register_model,
        run_study,
        train,
    )

__all__ = [
    "Evaluation",
    "Study",
    "Trained",
    "__version__",
    "evaluate",
    "load_study",
    "register_dataset",
    "register_method",
    "register_model",
    "run_study",
    "train",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        import ipgl.api

        return getattr(ipgl.api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
