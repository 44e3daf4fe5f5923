"""Every model here is `features -> linear head`, because the method needs both parts."""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """A feature extractor `z = g(x)` and a linear head `f = W z + b`.

    Attributes:
        features: Maps inputs `[B, ...]` to features `[B, d]`.
        head: Maps features `[B, d]` to logits `[B, K]`.
    """

    def __init__(self, features: nn.Module, feature_size: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(feature_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, K]` of inputs `[B, ...]`."""
        logits: Tensor = self.head(self.features(x))
        return logits
