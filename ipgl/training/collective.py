"""Averages and sums over the workers of one trial; with one worker every operation returns its input.

Gradients are averaged here rather than by `DistributedDataParallel`, because a method has two of them a step,
may decide that one is not needed, and may combine them before the optimiser sees either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Collective:
    """The workers of one trial; without an initialised process group there is one."""

    def __init__(self) -> None:
        joined = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if joined else 0
        self.workers = dist.get_world_size() if joined else 1

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a detached tensor over workers, the same on each."""
        if self.workers > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace each gradient by its mean over workers.

        A parameter has a gradient on all workers or on none: they run the same computation on other data.
        """
        self.average([p.grad for p in parameters if p.grad is not None])

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over workers, in one all-reduce of one flat buffer."""
        if self.workers == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.workers
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [p.view_as(t) for p, t in zip(pieces, tensors, strict=True)])

    def share_buffers(self, buffers: Iterable[Tensor]) -> None:
        """Give every worker rank 0's buffers (running statistics differ, since each saw its own share)."""
        if self.workers > 1:
            for buffer in buffers:
                dist.broadcast(buffer, src=0)
