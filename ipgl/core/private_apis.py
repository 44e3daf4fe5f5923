"""Private interfaces of other packages that no public one replaces, each behind one function.

`tests/core/test_private_apis.py` holds each to what is expected of it, so that a new version of a package that changes
one fails there and nowhere else. The packages are imported inside the functions: this module costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def autoscaler_limits() -> dict[str, float]:
    """What the connected Ray cluster may grow to, by resource, if an autoscaler has declared it; else empty.

    `ray.cluster_resources()`, the public function, tells only what there is now.
    """
    from ray._private.state import state

    limits: dict[str, Any] = state.get_max_resources_from_cluster_config() or {}
    return {name: float(limit) for name, limit in limits.items()}


def set_ray_loopback(loopback: bool) -> None:
    """Make the coming `ray.init` of this process listen on 127.0.0.1 alone, or on the machine's own address.

    Ray has one switch for both, meant for desktops whose firewall would ask. It is an environment variable, which Ray
    reads when it is imported, and its processes when they start; so it is set in both places.
    """
    import os

    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = not loopback
    if loopback:
        os.environ[LOOPBACK_SWITCH] = "0"
    else:
        os.environ.pop(LOOPBACK_SWITCH, None)


def largest_ray_package() -> int:
    """The most bytes that Ray takes of a job's working folder."""
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    return int(GCS_STORAGE_MAX_SIZE)


def files_in_ray_package(folder: Path, excludes: tuple[str, ...]) -> list[Path]:
    """The files of a working folder, absolute, that Ray's job client would pack: Ray's own walk and pattern reader.

    Args:
        folder: The working folder, absolute; its .gitignore and .rayignore files count.
        excludes: Further patterns, as in a .gitignore.
    """
    import os

    from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    class Silent:
        """Ray's walk announces every ignore file that it reads."""

        def info(self, *_: object) -> None:
            pass

        error = info

    found: list[Path] = []
    gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    patterns = [_get_excludes(folder, list(excludes))]
    _dir_travel(folder, patterns, found.append, include_gitignore=gitignore, logger=Silent())
    return [path for path in found if path.is_file()]


def watch_operations(seen: Callable[[Any, Any, Any, Any], None]) -> AbstractContextManager[Any]:
    """Have every tensor operation inside told to `seen`: below autograd, `vmap` and autocast, as kernels run.

    Modes of torch's dispatcher are documented, but live in a private module; and they load torch's compiler (135 MB) on
    their first operation unless told otherwise, which only a private class method does.

    Args:
        seen: Given an operation (`OpOverload`), its positional and keyword arguments, and what it returned.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False

        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            result = operation(*args, **kwargs)
            seen(operation, args, kwargs, result)
            return result

    return Watch()  # type: ignore[no-untyped-call]


def fused_adam(tensors: tuple[Any, ...], decoupled: bool, **settings: Any) -> None:
    """Adam's kernel for many parameters at once: what `torch.optim.Adam(fused=True)` calls, without its overhead.

    Args:
        tensors: Lists of parameters, gradients, means, squares and step counters; all but the gradients are changed.
        decoupled: Whether the weight decay is AdamW's.
        settings: `lr`, `beta1`, `beta2`, `weight_decay`, `eps`, `maximize`.
    """
    import torch

    kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
    parameters, gradients, means, squares, steps = tensors
    kernel(parameters, gradients, means, squares, [], steps, amsgrad=False, **settings)


def fused_sgd(tensors: tuple[Any, ...], **settings: Any) -> None:
    """The kernel of `torch.optim.SGD(fused=True)`, likewise.

    Args:
        tensors: Lists of parameters, gradients and momenta (empty without momentum); all but the gradients are changed.
        settings: `lr`, `weight_decay`, `momentum`, `dampening`, `nesterov`, `maximize`.
    """
    import torch

    torch._fused_sgd_(*tensors, is_first_step=False, **settings)
