"""Private interfaces of other packages that no public one replaces, each behind one function.

`tests/core/test_private_apis.py` tests each function against the installed version, so that a change in a new version
of a package is found there. The packages are imported inside the functions, which keeps this module cheap to import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch._ops import OpOverload

LOOPBACK_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def autoscaler_limits() -> dict[str, float]:
    """The largest amount of each resource that the connected Ray cluster can scale to; empty without an autoscaler.

    The public `ray.cluster_resources()` gives only the resources of the nodes that are running.
    """
    from ray._private.state import state

    limits: dict[str, float] = state.get_max_resources_from_cluster_config() or {}
    return {name: float(limit) for name, limit in limits.items()}


def set_ray_loopback(loopback: bool) -> None:
    """Choose the interface of the next `ray.init` in this process.

    Ray reads the switch from an environment variable: once when it is imported, into a module constant, and again in
    each process that it starts. Both places are set.

    Args:
        loopback: True for 127.0.0.1 only, False for the address of this machine.
    """
    import os

    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = not loopback
    if loopback:
        os.environ[LOOPBACK_SWITCH] = "0"
    else:
        os.environ.pop(LOOPBACK_SWITCH, None)


def largest_ray_package() -> int:
    """Ray's limit on the size of a job's working folder, in bytes."""
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    return int(GCS_STORAGE_MAX_SIZE)


def files_in_ray_package(folder: Path, excludes: tuple[str, ...]) -> list[Path]:
    """The files that Ray's job client would send with a working folder, as absolute paths.

    Args:
        folder: The working folder, absolute; its .gitignore and .rayignore files apply.
        excludes: Further patterns, as in a .gitignore.
    """
    import os

    from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    class Silent:
        """A logger that drops Ray's message about each ignore file."""

        def info(self, *_: object) -> None:
            pass

        error = info

    found: list[Path] = []
    gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    patterns = [_get_excludes(folder, list(excludes))]
    _dir_travel(folder, patterns, found.append, include_gitignore=gitignore, logger=Silent())
    return [path for path in found if path.is_file()]


def watch_operations(
    seen: Callable[[OpOverload, tuple[object, ...], dict[str, object], object], None],
) -> AbstractContextManager[object]:
    """Have every tensor operation inside told to `seen`: below autograd, `vmap` and autocast, as kernels run.

    Modes of torch's dispatcher are documented, but live in a private module; and they load torch's compiler (135 MB) on
    their first operation unless told otherwise, which only a private class method does.

    Args:
        seen: Given an operation (`OpOverload`), its positional and keyword arguments, and what it returned.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False

        def __torch_dispatch__(
            self,
            operation: OpOverload,
            types: Sequence[type],
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            kwargs = kwargs or {}
            result = operation(*args, **kwargs)
            seen(operation, args, kwargs, result)
            return result

    return Watch()  # type: ignore[no-untyped-call]


def fused_adam(tensors: Sequence[list[Tensor]], decoupled: bool, **settings: Any) -> None:
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


def fused_sgd(tensors: Sequence[list[Tensor]], **settings: Any) -> None:
    """The kernel of `torch.optim.SGD(fused=True)`, likewise.

    Args:
        tensors: Lists of parameters, gradients and momenta (empty without momentum); all but the gradients are changed.
        settings: `lr`, `weight_decay`, `momentum`, `dampening`, `nesterov`, `maximize`.
    """
    import torch

    parameters, gradients, momenta = tensors
    torch._fused_sgd_(parameters, gradients, momenta, is_first_step=False, **settings)
