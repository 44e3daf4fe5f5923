"""Forward passes without gradients over a whole split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ipgl.data import PairSet, Readable, parts
from ipgl.models import Classifier


@torch.inference_mode()
def predict_logits(model: Classifier, x: Readable, batch_size: int) -> Tensor:
    """Logits `[N, K]` (float32, on the model's device) of inputs `[N, ...]`; `model` is in evaluation mode."""
    device = next(model.parameters()).device
    logits, done = torch.empty(len(x), model.head.out_features, device=device), 0
    for part in parts(x, batch_size, device):
        # Written in place: separate small results would fragment the large blocks that the next part could reuse.
        logits[done : done + len(part)] = model(part.to(device, non_blocking=True))
        done += len(part)
    return logits


@torch.inference_mode()
def predict_between(model: Classifier, pairs: PairSet, points: Sequence[float], batch_size: int) -> Tensor:
    """Predicted classes, int64 `[T, P]`, on the straight ways from pairs' first members (0) to their second (1)."""
    device = next(model.parameters()).device
    found = [torch.zeros(len(points), 0, dtype=torch.int64, device=device)]
    if points and len(pairs):
        for members in zip(
            parts(pairs.a, batch_size, device), parts(pairs.b, batch_size, device), strict=True
        ):
            a, b = (x.to(device, non_blocking=True) for x in members)
            found.append(torch.stack([model(a.lerp(b, t)).argmax(dim=1) for t in points]))
    return torch.cat(found, dim=1)
