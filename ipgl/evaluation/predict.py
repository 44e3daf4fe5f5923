"""Forward passes without gradients over a whole split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ipgl.data import PairSet, Readable, parts


@torch.inference_mode()
def predict_logits(model: nn.Module, x: Readable, batch_size: int) -> Tensor:
    """Logits `[N, K]` (float32, on the model's device) of inputs `[N, ...]`; `model` is in evaluation mode."""
    device = device_of(model)
    logits, done = torch.empty(0), 0
    for part in parts(x, batch_size, device):
        found = model(part.to(device, non_blocking=True))
        if not done:
            logits = torch.empty(len(x), found.shape[1], device=device)
        # Written in place: separate small results would fragment the large blocks that the next part could reuse.
        logits[done : done + len(part)] = found
        done += len(part)
    return logits


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are; the CPU for one without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


@torch.inference_mode()
def predict_between(model: nn.Module, pairs: PairSet, points: Sequence[float], batch_size: int) -> Tensor:
    """Predicted classes, int64 `[T, P]`, on the straight ways from pairs' first members (0) to their second (1)."""
    device = device_of(model)
    found = [torch.zeros(len(points), 0, dtype=torch.int64, device=device)]
    if points and len(pairs):
        for members in zip(
            parts(pairs.a, batch_size, device), parts(pairs.b, batch_size, device), strict=True
        ):
            a, b = (x.to(device, non_blocking=True) for x in members)
            found.append(torch.stack([model(a.lerp(b, t)).argmax(dim=1) for t in points]))
    return torch.cat(found, dim=1)
