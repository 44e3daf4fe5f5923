"""Order of training batches as a pure function of seed and step, so that a run can resume at any step."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive an independent seed for one purpose (63 bits of SHA-256 over seed and names)."""
    text = ":".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class ShuffledOrder:
    """Shuffled passes over `size` items in steps of `batch_size`; the remainder of a pass is left out.

    With `weights` (`[size]`, any scale) a pass is `size` draws with replacement in their proportion.

    With several workers every worker draws the same global order and takes each `workers`-th item of a
    step, so that the union over workers is what a single worker would see. A step is at most the whole pass,
    and a multiple of `workers`, so that every worker has equally many items.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        device: torch.device | None = None,
        rank: int = 0,
        workers: int = 1,
        weights: Tensor | None = None,
    ) -> None:
        if size < 1:
            raise ValueError(f"`size >= 1` must hold, but got ({size=})")
        self.batch_size = min(batch_size, size) // workers * workers
        if self.batch_size < 1:
            raise ValueError(
                f"every worker needs at least one item a step, but got ({size=}, {batch_size=}, {workers=})"
            )
        self.steps_per_pass = size // self.batch_size
        self._size, self._seed, self._device = size, seed, device
        self._rank, self._workers = rank, workers
        self._weights = None if weights is None else weights.detach().cpu().double().cumsum(dim=0)
        self._pass = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> Tensor:
        """Indices of step `step` (0-based over all passes) for this worker, int64 `[batch_size / workers]`."""
        current, position = divmod(step, self.steps_per_pass)
        if current != self._pass:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, current))
            if self._weights is None:
                order = torch.randperm(self._size, generator=generator)
            else:
                # By the inverse distribution function: multinomial is limited to 2^24 items.
                points = torch.rand(self._size, generator=generator, dtype=torch.float64) * self._weights[-1]
                order = torch.searchsorted(self._weights, points, right=True).clamp_max(self._size - 1)
            self._order = order.to(self._device) if self._device is not None else order
            self._pass = current
        start = position * self.batch_size
        indices = self._order[start : start + self.batch_size]
        return indices[self._rank :: self._workers] if self._workers > 1 else indices
