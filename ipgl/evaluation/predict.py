"""Forward passes without gradients over a whole split."""

from __future__ import annotations

import torch
from torch import Tensor

from ipgl.models import Classifier


@torch.inference_mode()
def predict_logits(model: Classifier, x: Tensor, batch_size: int) -> Tensor:
    """Logits `[N, K]` (float32, on the model's device) of inputs `[N, ...]`; `model` is in evaluation mode."""
    device = next(model.parameters()).device
    return torch.cat(
        [model(part.to(device, non_blocking=True)).float() for part in torch.split(x, batch_size)]
    )
