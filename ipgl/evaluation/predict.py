"""Forward passes without gradients over a whole split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ipgl.data import PairSet
from ipgl.models import Classifier


@torch.inference_mode()
def predict_logits(model: Classifier, x: Tensor, batch_size: int) -> Tensor:
    """Logits `[N, K]` (float32, on the model's device) of inputs `[N, ...]`; `model` is in evaluation mode."""
    device = next(model.parameters()).device
    return torch.cat(
        [model(part.to(device, non_blocking=True)).float() for part in torch.split(x, batch_size)]
    )


@torch.inference_mode()
def predict_between(model: Classifier, pairs: PairSet, points: Sequence[float], batch_size: int) -> Tensor:
    """Predicted classes, int64 `[T, P]`, on the straight ways from pairs' first members (0) to their second (1)."""
    device = next(model.parameters()).device
    parts = [torch.zeros(len(points), 0, dtype=torch.int64, device=device)]
    for start in range(0, len(pairs) if points else 0, batch_size):
        a, b = (x[start : start + batch_size].to(device, non_blocking=True) for x in (pairs.a, pairs.b))
        parts.append(torch.stack([model(a.lerp(b, t)).argmax(dim=1) for t in points]))
    return torch.cat(parts, dim=1)
