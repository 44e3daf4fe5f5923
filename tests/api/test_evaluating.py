"""Any PyTorch model against the numbers that can be worked out by hand, and against those of a study's run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ipgl
from ipgl.core.errors import DataError
from ipgl.data import DATASETS
from ipgl.evaluation import wilson_interval


class FollowsAttribute(nn.Module):
    """Predicts the sign of the second input, whatever the first says; no parameters, no head."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.training
        return torch.stack([-x[:, 1], x[:, 1]], dim=1)


def examples() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """80 examples agree (label = attribute), 20 do not; 10 of the agreeing ones carry a misleading second input."""
    y = torch.tensor([0] * 50 + [1] * 50)
    attribute = torch.tensor([0] * 40 + [1] * 10 + [1] * 40 + [0] * 10)
    second = attribute * 2.0 - 1
    second[:10] *= -1
    return torch.stack([y * 2.0 - 1, second], dim=1), y, attribute


def test_by_hand() -> None:
    x, y, attribute = examples()
    model = FollowsAttribute().train()
    found = ipgl.evaluate(model, (x, y, attribute), alignment=[0, 1], training_counts=[[90, 10], [10, 90]])
    assert model.training
    assert found.metrics["average"] == pytest.approx(0.7)
    assert found.metrics["worst_group"] == 0.0
    # Where the attribute agrees 10% of the time: 10% of (30 / 40 + 1) / 2, and 0 of the rest.
    assert found.metrics["shifted_accuracy"] == pytest.approx(0.1 * 0.875)
    groups = found.groups()
    assert list(groups["accuracy"]) == [0.75, 0.0, 0.0, 1.0]
    low, high = wilson_interval(30, 40, 0.95)
    assert list(groups.iloc[0][["low", "high"]]) == [low, high]
    mixture = found.curves().query("curve == 'mixture'")
    np.testing.assert_allclose(mixture["accuracy"], 0.875 * (1 - mixture["severity"]), atol=1e-12)
    assert np.isnan(found.metrics["rho"])
    assert found.figure("mixture").data[1].y[0] == pytest.approx(87.5)
    with pytest.raises(KeyError, match="no curve 'x'; choose one of mixture"):
        found.figure("x")


def test_a_loader_gives_what_whole_arrays_give() -> None:
    x, y, attribute = examples()
    pairs = (x[:20], x[:20] * torch.tensor([1.0, -1.0]))
    whole = ipgl.evaluate(FollowsAttribute(), (x, y, attribute), pairs=pairs, batch_size=7)
    loader = DataLoader(TensorDataset(x, y, attribute), batch_size=13)
    batches = ipgl.evaluate(FollowsAttribute(), loader, pairs=pairs)
    arrays = ipgl.evaluate(FollowsAttribute(), (x.numpy(), y.numpy(), attribute.numpy()), pairs=pairs)
    for other in (batches, arrays):
        assert other.metrics == pytest.approx(whole.metrics, abs=0, nan_ok=True)
    assert whole.metrics["flip_rate"] == 1.0
    assert list(whole.curves()["curve"].unique()) == ["worst_case_kl", "worst_case_tv", "interpolation"]


def test_without_training_counts_no_alignment_is_made_up() -> None:
    found = ipgl.evaluate(FollowsAttribute(), examples())
    assert "mixture" not in set(found.curves()["curve"])


def test_a_data_set_s_test_split() -> None:
    entry = DATASETS["colored_mnist"]
    data = entry.build(entry.settings.model_validate({"source": "digits"}))
    trained = ipgl.train(
        data, {"name": "mlp", "width": 16}, training={"epochs": 2, "evaluations": 1}, progress=False
    )
    again = ipgl.evaluate(trained.model, data, batch_size=64)
    assert again.metrics == pytest.approx(trained.metrics, abs=1e-6)
    wrapped = nn.Sequential(trained.model)  # without a head of its own
    assert ipgl.evaluate(wrapped, data).metrics["worst_group"] == trained.metrics["worst_group"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, a: (x, y[:-1], a), "equally many, but got 100, 99 and 100"),
        (lambda x, y, a: (x, y + 1, a), "labels must be integers of 0 to 1, one for each"),
        (
            lambda x, y, a: (x, y, a - 1),
            "attribute values must be integers of 0 or more, but they go from -1",
        ),
        (lambda x, y, a: (x[:0], y[:0], a[:0]), "no test examples"),
    ],
)
def test_data_that_do_not_fit_are_refused(change: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ipgl.evaluate(FollowsAttribute(), change(*examples()))  # type: ignore[operator]


def test_names_and_pairs_are_checked() -> None:
    x, y, attribute = examples()
    with pytest.raises(DataError, match="2 class values, but 1 names were given: a"):
        ipgl.evaluate(FollowsAttribute(), (x, y, attribute), class_names=["a"])
    with pytest.raises(DataError, match=r"of one shape, but got \(3, 2\) and \(2, 2\)"):
        ipgl.evaluate(FollowsAttribute(), (x, y, attribute), pairs=(x[:3], x[:2]))
