"""Decorators that register data sets, models and methods under a name, by which study files and `train` find them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ipgl.config import Settings, Source
from ipgl.config.study import LABEL_PATTERN
from ipgl.core.errors import IpglError
from ipgl.data import DATASETS, Dataset
from ipgl.data.registry import DatasetEntry
from ipgl.methods import METHODS, Method, MethodContext, method_entry
from ipgl.models import MODELS, Classifier
from ipgl.models.registry import ModelEntry
from ipgl.trial.user_code import module_name

_D = TypeVar("_D", bound=Callable[[Any], Dataset])
_M = TypeVar("_M", bound=Callable[[Any, tuple[int, ...], int], Classifier])
_T = TypeVar("_T", bound=Callable[[Any, MethodContext], Method])


def register_dataset(
    name: str, settings: type[Settings], seeds: Mapping[Source, str] | None = None
) -> Callable[[_D], _D]:
    """Register the decorated function as the data set `name`.

    Args:
        name: What `dataset.name` says in a study file.
        settings: Class of its settings, whose fields stand beside the name.
        seeds: Source of `search.vary` -> dotted setting that seeds it; None if nothing of it is drawn.

    Returns:
        A decorator for a function that takes settings and returns a `Dataset`; it returns the function itself.

    Raises:
        IpglError: The name is taken by another function, or is no name.

    Examples:
        >>> import ipgl
        >>> from ipgl.config import Settings
        >>> class DotsSettings(Settings):
        ...     seed: int = 0
        >>> @ipgl.register_dataset("dots", DotsSettings, seeds={"data": "seed"})
        ... def build_dots(settings):
        ...     ...
        >>> ipgl.data.DATASETS["dots"].settings is DotsSettings
        True
        >>> del ipgl.data.DATASETS["dots"]
    """

    def register(build: _D) -> _D:
        _require_free("data set", name, DATASETS, build)
        DATASETS[name] = DatasetEntry(settings, build, dict(seeds or {}))
        return build

    return register


def register_model(name: str, settings: type[Settings]) -> Callable[[_M], _M]:
    """Register the decorated function as the model `name`.

    Args:
        name: What `model.name` says in a study file.
        settings: Class of its settings.

    Returns:
        A decorator for a function of settings, shape of one input and number of classes, which returns a `Classifier`.

    Raises:
        IpglError: The name is taken by another function, or is no name.

    Examples:
        >>> import ipgl, torch
        >>> from ipgl.config import Settings
        >>> from ipgl.models import Classifier
        >>> class LinearSettings(Settings):
        ...     pass
        >>> @ipgl.register_model("linear", LinearSettings)
        ... def build_linear(settings, input_shape, num_classes):
        ...     return Classifier(torch.nn.Flatten(), torch.Size(input_shape).numel(), num_classes)
        >>> build_linear(LinearSettings(), (2, 14, 14), 2).head
        Linear(in_features=392, out_features=2, bias=True)
        >>> del ipgl.models.MODELS["linear"]
    """

    def register(build: _M) -> _M:
        _require_free("model", name, MODELS, build)
        MODELS[name] = ModelEntry(settings, build)
        return build

    return register


def register_method(name: str, settings: type[Settings], source: str = "") -> Callable[[_T], _T]:
    """Register the decorated class as the training method `name`.

    Args:
        name: What a label under `methods` is, or says by its key `method`.
        settings: Class of its settings.
        source: Where the method is from, for tables: `Author 2026`.

    Returns:
        A decorator for a class that is made from settings and a `MethodContext`; see `ipgl.methods.MethodBase`.

    Raises:
        IpglError: The name is taken by another class, or is no name.

    Examples:
        >>> import ipgl
        >>> from torch.nn.functional import cross_entropy
        >>> from ipgl.config import Settings
        >>> from ipgl.methods import METHODS, MethodBase, StepReport
        >>> class PlainSettings(Settings):
        ...     pass
        >>> @ipgl.register_method("plain", PlainSettings, source="this example")
        ... class Plain(MethodBase):
        ...     def __init__(self, settings, context):
        ...         self.optimiser = context.optimiser
        ...     def step(self, model, batch, pairs):
        ...         loss = cross_entropy(model(batch.x), batch.y)
        ...         self.optimiser.minimise(loss)
        ...         return StepReport({"loss": loss.detach()})
        >>> METHODS["plain"].source
        'this example'
        >>> del METHODS["plain"]
    """

    def register(method: _T) -> _T:
        _require_free("method", name, METHODS, method)
        METHODS[name] = method_entry(method, settings, source)
        return method

    return register


def _require_free(kind: str, name: str, registry: Mapping[str, object], build: object) -> None:
    """Refuse a name that is no name, or that another component has; what is run again replaces its own."""
    import re

    if not re.fullmatch(LABEL_PATTERN, name):
        raise IpglError(
            f"a {kind}'s name is 1 to 64 of a-z, 0-9, `_`, `.` and `-` and begins with a letter or digit, but got "
            f"{name!r}; choose another one"
        )
    taken = getattr(registry.get(name), "build", None)
    if taken is not None and _origin(taken) != _origin(build):
        raise IpglError(
            f"the {kind} {name!r} is registered already, by {'.'.join(_origin(taken))}; choose another name"
        )


def _origin(build: object) -> tuple[str, str]:
    return module_name(getattr(build, "__module__", "")), getattr(build, "__qualname__", repr(build))
