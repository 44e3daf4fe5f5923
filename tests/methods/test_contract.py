"""What every method promises to the trainer; a new registry line is held to it without a new test."""

from __future__ import annotations

import io

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ipgl.data import Batch, PairBatch
from ipgl.methods import METHODS, Needs, StepReport
from ipgl.models import Classifier


def toy_model():
    torch.manual_seed(11)
    return Classifier(nn.Sequential(nn.Linear(3, 6), nn.ReLU()), 6, 2)


def toy_data(seed=0):
    """Classes apart by their first input; the second is the attribute, which a pair's members differ in."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(32) % 2
    attribute = (torch.arange(32) // 2) % 2
    noise = 0.2 * torch.randn(32, generator=generator)
    x = torch.stack([2.0 * y - 1, 2.0 * attribute - 1, noise], dim=1)
    a, b = x[:16].clone(), x[:16].clone()
    a[:, 1], b[:, 1] = -1.0, 1.0
    batch = Batch(x, y, attribute, torch.arange(32) % 2, torch.arange(32))
    return batch, PairBatch(a, b, y[:16])


@pytest.fixture(params=sorted(METHODS))
def entry(request):
    return METHODS[request.param]


class TestContract:
    """Every method, with the settings that a study file gets if it says nothing."""

    def build(self, entry, toys, model):
        # A full weight on the penalty is what the two are searched for; at weight 1 the task is seen as well.
        gentle = {"strength": 1.0} if entry.needs.environments else {}
        dataset = toys.dataset(size=64)  # of which dfr holds out a fifth, with every group in it
        return entry.build(entry.settings(**gentle), toys.toolbox(model, lr=0.1, dataset=dataset))

    def steps(self, entry, method, model, number, first=0):
        reports = []
        for step in range(first, first + number):
            torch.manual_seed(step)  # the trainer keeps the generator's state in its checkpoint
            batch, pairs = toy_data(step)
            reports.append(method.step(model, batch, pairs if entry.needs.pairs else None))
        return reports

    def test_settings_refuse_an_unknown_key(self, entry):
        with pytest.raises(ValidationError, match="no_such_setting"):
            entry.settings.model_validate({"no_such_setting": 1})

    def test_settings_cannot_change(self, entry):
        settings = entry.settings()
        for name in type(settings).model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(settings, name, getattr(settings, name))

    def test_needs_are_declared_and_agree_with_what_it_asks_for(self, entry, toys):
        assert isinstance(entry.needs, Needs)
        if self.build(entry, toys, toy_model()).pairs_per_step:
            assert entry.needs.pairs

    def test_steps_lower_the_loss(self, entry, toys):
        model = toy_model()
        reports = self.steps(entry, self.build(entry, toys, model), model, 60)
        first, last = reports[0].scalars["loss"].item(), reports[-1].scalars["loss"].item()
        # What mixes inputs has a higher floor; that it learned is seen on plain examples.
        assert last < (0.9 if entry in (METHODS["mixup"], METHODS["lisa"]) else 0.5) * first
        batch, _ = toy_data(100)
        assert (model(batch.x).argmax(dim=1) == batch.y).all()

    def test_reports_are_finite_detached_scalars(self, entry, toys):
        model = toy_model()
        for report in self.steps(entry, self.build(entry, toys, model), model, 3):
            assert isinstance(report, StepReport)
            assert "loss" in report.scalars
            for value in report.scalars.values():
                assert value.shape == ()
                assert value.isfinite()
                assert not value.requires_grad

    def test_a_step_leaves_its_data_alone(self, entry, toys):
        model, (batch, pairs) = toy_model(), toy_data()
        kept_batch, kept_pairs = toy_data()
        self.build(entry, toys, model).step(model, batch, pairs if entry.needs.pairs else None)
        assert all(torch.equal(getattr(batch, n), getattr(kept_batch, n)) for n in vars(batch))
        assert all(torch.equal(getattr(pairs, n), getattr(kept_pairs, n)) for n in vars(pairs))

    def test_state_survives_the_disk(self, entry, toys):
        """Interrupted after three steps, a run with its state restored goes on with the same bits."""
        model = toy_model()
        method = self.build(entry, toys, model)
        self.steps(entry, method, model, 3)
        file = io.BytesIO()
        torch.save(method.state_dict(), file)
        file.seek(0)
        copy = toy_model()
        copy.load_state_dict(model.state_dict())
        resumed = self.build(entry, toys, copy)
        resumed.load_state_dict(torch.load(file, weights_only=True))

        # Plain descent has no state of its own, so that only the method's counts here.
        self.steps(entry, method, model, 3, first=3)
        self.steps(entry, resumed, copy, 3, first=3)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), copy.parameters(), strict=True))
