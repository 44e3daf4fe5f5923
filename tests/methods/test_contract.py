"""What every method promises to the trainer; a new registry line is held to it without a new test."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pytest
import torch
from narrowing import Keywords
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import cross_entropy

from ipgl.data import Batch, Dataset, Split
from ipgl.methods import METHODS, Method, MethodEntry, Needs, StepReport
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


STEPS = 60

Part = TypeVar("Part", Batch, Split)


def toy_model() -> Classifier:
    torch.manual_seed(11)
    layer = nn.Linear(3, 6)
    return Classifier(nn.Sequential(layer, nn.ReLU()), 6, 2, hidden=[layer])


def scrambled(values: torch.Tensor) -> torch.Tensor:
    return (torch.rand(len(values), generator=torch.Generator().manual_seed(9)) < 0.5).long()


@pytest.fixture(params=sorted(METHODS))
def entry(request: pytest.FixtureRequest) -> MethodEntry:
    return METHODS[request.param]


class TestContract:
    """Every method, with the settings that a study file gets if it says nothing."""

    def build(
        self, entry: MethodEntry, toys: type[Toys], model: Classifier, dataset: Dataset | None = None
    ) -> Method:
        # A full weight on the penalty is what the two are searched for; at weight 1 the task is seen as well.
        gentle = {"strength": 1.0} if entry.needs.environments else {}
        dataset = dataset or toys.dataset(size=64)  # of which dfr holds out a fifth, with every group in it
        context = toys.context(model, lr=0.1, dataset=dataset, total_steps=STEPS)
        return entry.build(entry.settings(**gentle), context)

    def steps(
        self,
        entry: MethodEntry,
        toys: type[Toys],
        method: Method,
        model: Classifier,
        number: int,
        first: int = 0,
        change: Callable[[Batch], Batch] = lambda batch: batch,
    ) -> list[StepReport]:
        reports = []
        for step in range(first, first + number):
            torch.manual_seed(step)  # the trainer keeps the generator's state in its checkpoint
            batch, pairs = toys.data(32, step)
            reports.append(method.step(model, change(batch), pairs if entry.needs.pairs else None))
        return reports

    def test_settings_refuse_an_unknown_key(self, entry: MethodEntry) -> None:
        with pytest.raises(ValidationError, match="no_such_setting"):
            entry.settings.model_validate({"no_such_setting": 1})

    def test_settings_cannot_change(self, entry: MethodEntry) -> None:
        settings = entry.settings()
        for name in type(settings).model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(settings, name, getattr(settings, name))

    def test_recommended_ranges_are_of_settings_that_exist_and_take_them(self, entry: MethodEntry) -> None:
        for key, found in entry.search_space.items():
            for probe in found.probes:
                assert getattr(entry.settings.model_validate({key: probe}), key) == probe

    def test_it_says_where_it_comes_from(self, entry: MethodEntry) -> None:
        assert any(character.isdigit() for character in entry.source)

    def test_needs_are_declared_and_agree_with_what_it_asks_for(
        self, entry: MethodEntry, toys: type[Toys]
    ) -> None:
        assert isinstance(entry.needs, Needs)
        method = self.build(entry, toys, toy_model())
        if method.pairs_per_step:
            assert entry.needs.pairs
        if method.sampling_weights is not None:
            assert method.sampling_weights.shape == (64,)
            assert (method.sampling_weights >= 0).all()
        if method.train_index is not None:
            index = method.train_index
            assert len(index.unique()) == len(index) < 64
            assert 0 <= index.min() <= index.max() < 64

    def test_it_reads_no_labels_that_it_does_not_need(self, entry: MethodEntry, toys: type[Toys]) -> None:
        """Other attributes or environments, in the batch or the data set, change nothing without the need."""
        fields = ["attribute"] * (not entry.needs.groups) + ["environment"] * (not entry.needs.environments)
        assert fields
        ends = []
        for changed in (False, True):

            def change(part: Part, changed: bool = changed) -> Part:
                values: Keywords = {name: scrambled(getattr(part, name)) for name in fields}
                return replace(part, **values) if changed else part

            model, dataset = toy_model(), toys.dataset(size=64)
            dataset = replace(dataset, train=change(dataset.train))
            method = self.build(entry, toys, model, dataset)
            self.steps(entry, toys, method, model, 15, change=change)
            ends.append([p.detach().clone() for p in model.parameters()])
        assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))

    def test_it_reads_no_test_data(self, entry: MethodEntry, toys: type[Toys]) -> None:
        ends = []
        for test_labels in (0, 1):
            model, dataset = toy_model(), toys.dataset(size=64)
            labels = torch.full_like(dataset.test.y, test_labels)
            dataset = replace(
                dataset, test=replace(dataset.test, y=labels), validation=replace(dataset.test, y=labels)
            )
            self.steps(entry, toys, self.build(entry, toys, model, dataset), model, STEPS)
            ends.append([p.detach().clone() for p in model.parameters()])
        assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))

    def test_steps_lower_the_loss(self, entry: MethodEntry, toys: type[Toys]) -> None:
        # Seen on plain examples: what mixes or weighs its batch reports a loss with another floor.
        model = toy_model()
        batch, _ = toys.data(32, 100)
        before = cross_entropy(model(batch.x), batch.y).item()
        self.steps(entry, toys, self.build(entry, toys, model), model, STEPS)
        assert cross_entropy(model(batch.x), batch.y).item() < 0.5 * before
        assert (model(batch.x).argmax(dim=1) == batch.y).all()

    def test_reports_are_finite_detached_scalars(self, entry: MethodEntry, toys: type[Toys]) -> None:
        model = toy_model()
        method = self.build(entry, toys, model)
        for report in self.steps(entry, toys, method, model, STEPS):
            assert isinstance(report, StepReport)
            assert "loss" in report.scalars
            for value in report.scalars.values():
                assert value.shape == ()
                assert value.isfinite()
                assert not value.requires_grad
        batch, pairs = toys.data(32, 0)
        for value in method.diagnose(model, batch, pairs if entry.needs.pairs else None).values():
            assert value.shape == ()
            assert value.isfinite()
            assert not value.requires_grad

    def test_it_steps_in_mixed_precision(self, entry: MethodEntry, toys: type[Toys]) -> None:
        # Fewer steps than a method with two phases takes for its first would not show the second.
        model = toy_model()
        method = self.build(entry, toys, model)
        batch, _ = toys.data(32, 100)
        before = cross_entropy(model(batch.x), batch.y).item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            reports = self.steps(entry, toys, method, model, STEPS)
        assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())
        assert all(value.isfinite() for report in reports for value in report.scalars.values())
        assert cross_entropy(model(batch.x), batch.y).item() < 0.6 * before

    def test_a_step_leaves_its_data_alone(self, entry: MethodEntry, toys: type[Toys]) -> None:
        model, (batch, pairs) = toy_model(), toys.data()
        kept_batch, kept_pairs = toys.data()
        self.build(entry, toys, model).step(model, batch, pairs if entry.needs.pairs else None)
        assert batch.boxes is kept_batch.boxes is None  # these are no images
        names = vars(batch).keys() - {"boxes"}
        assert all(torch.equal(getattr(batch, n), getattr(kept_batch, n)) for n in names)
        assert all(torch.equal(getattr(pairs, n), getattr(kept_pairs, n)) for n in vars(pairs))

    @pytest.mark.parametrize("interrupted", [3, 20])
    def test_state_survives_the_disk(self, entry: MethodEntry, toys: type[Toys], interrupted: int) -> None:
        """With its state restored, an interrupted run goes on with the same bits to its end."""
        model = toy_model()
        method = self.build(entry, toys, model)
        self.steps(entry, toys, method, model, interrupted)
        file = io.BytesIO()
        torch.save(method.state_dict(), file)
        file.seek(0)
        copy = toy_model()
        resumed = self.build(entry, toys, copy)
        copy.load_state_dict(model.state_dict())
        resumed.load_state_dict(torch.load(file, weights_only=True))

        # Plain descent has no state of its own, so that only the method's counts here.
        rest = STEPS - interrupted
        self.steps(entry, toys, method, model, rest, first=interrupted)
        self.steps(entry, toys, resumed, copy, rest, first=interrupted)
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), copy.parameters(), strict=True))
