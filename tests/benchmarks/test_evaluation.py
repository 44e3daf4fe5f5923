"""Forward passes over a split on a CPU: in parts that its cache holds, against parts of 2,048."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ipgl.evaluation.predict import predict_logits
from ipgl.models import MODELS

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

CASES = {
    "mlp, 2 x 28 x 28": ("mlp", {"width": 256}, (2, 28, 28), 8192),
    "cnn, 2 x 28 x 28": ("cnn", {"width": 16}, (2, 28, 28), 4096),
    "resnet18, 3 x 64 x 64": ("resnet18", {}, (3, 64, 64), 512),
}


@pytest.mark.parametrize("case", CASES)
def test_parts(
    case: str, timed: Callable[..., dict[str, float]], keep: Callable[[dict[str, float]], None]
) -> None:
    name, settings, shape, examples = CASES[case]
    entry = MODELS[name]
    model = entry.build(entry.settings(**settings), shape, 2).eval()
    x = torch.rand(examples, *shape)

    def large() -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([model(part) for part in x.split(2048)])

    actions: dict[str, Callable[[], torch.Tensor]] = {
        "2,048 at a time": large,
        "as evaluation does": lambda: predict_logits(model, x, 2048),
    }
    torch.testing.assert_close(actions["as evaluation does"](), large())
    seconds = timed(actions, rounds=5, repeats=1)
    keep(
        {"speed-up": seconds["2,048 at a time"] / seconds["as evaluation does"]}
        | {f"{each} (ms)": 1000 * value for each, value in seconds.items()}
    )
