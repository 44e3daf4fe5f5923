"""Deep feature reweighting: what is held out, and the last layer against scikit-learn's own fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from narrowing import known
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import cross_entropy

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.core.errors import DataError
from ipgl.data import Batch, Dataset, PairBatch, PairSet, Split
from ipgl.methods import MethodContext, StepReport
from ipgl.methods.dfr import Dfr, DfrSettings, balanced_subset, logistic_regression
from ipgl.models import Classifier
from ipgl.training import SilentReporter, train

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


SIZE, FEATURES = 240, 4


def make_model(classes: int = 2) -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(3, FEATURES), nn.Tanh()), FEATURES, classes)


def make_dataset(size: int = SIZE, classes: int = 2) -> Dataset:
    """Four fifths of the examples carry their class's attribute."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(size) % classes
    attribute = torch.where(torch.rand(size, generator=generator) < 0.8, y % 2, 1 - y % 2)
    x = torch.randn(size, 3, generator=generator)
    x[:, 0] += y
    x[:, 1] += 2.0 * attribute
    split = Split(x, y, attribute, torch.zeros_like(y))
    pairs = PairSet(x[:1], x[:1], y[:1], torch.tensor([-1]))
    names = tuple(str(label) for label in range(classes))
    return Dataset(split, split, split, pairs, pairs, names, ("red", "green"), "by hand")


def held_out(method: Dfr, size: int = SIZE) -> list[int]:
    """Everything that no step may draw."""
    return sorted(set(range(size)) - set(known(method.train_index).tolist()))


def test_the_split(toys: type[Toys]) -> None:
    method = Dfr(DfrSettings(held_out_share=0.3), toys.context(make_model(), dataset=make_dataset()))
    index = known(method.train_index).tolist()
    assert len(index) == len(set(index)) == 168
    assert len(held_out(method)) == 72
    again = Dfr(DfrSettings(held_out_share=0.3), toys.context(make_model(), dataset=make_dataset()))
    assert torch.equal(
        known(method.train_index), known(again.train_index)
    )  # a resumed run must hold out the same


class Recording(Dfr):
    """Keeps which examples its steps saw."""

    def __init__(self, settings: DfrSettings, context: MethodContext) -> None:
        super().__init__(settings, context)
        self.seen: list[torch.Tensor] = []

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        self.seen.append(batch.index.clone())
        return super().step(model, batch, pairs)


def run(dataset: Dataset, model: Classifier, epochs: int = 12, **settings: object) -> Recording:
    methods: list[Recording] = []

    def build(context: MethodContext) -> Recording:
        methods.append(Recording(DfrSettings(**settings), context))
        return methods[0]

    train(
        model,
        build,
        dataset,
        TrainingSettings(
            epochs=epochs,
            batch_size=40,
            optimiser=OptimiserSettings(name="sgd", lr=0.1, momentum=0.0),
            evaluations=1,
            device="cpu",
        ),
        seed=0,
        evaluate=lambda model: {},
        reporter=SilentReporter(),
    )
    return methods[0]


def test_held_out_examples_are_never_drawn_and_all_others_are() -> None:
    method = run(make_dataset(), make_model())
    assert len(method.seen) == 72  # six steps an epoch, as with any other method
    seen = set(torch.cat(method.seen).tolist())
    assert seen == set(known(method.train_index).tolist())  # 2,880 draws of 192 examples
    assert not seen & set(held_out(method))


def reference_regression(penalty: str, classes: int, c: float) -> LogisticRegression:
    """The paper's code: liblinear with an L1 penalty; for the other cases what scikit-learn offers."""
    if penalty == "l2":
        return LogisticRegression(C=c, max_iter=1000)
    return LogisticRegression(
        l1_ratio=1, C=c, solver="liblinear" if classes == 2 else "saga", max_iter=1000, random_state=0
    )


def reference_fit(
    dataset: Dataset, model: Classifier, method: Recording, classes: int, penalty: str
) -> tuple[LogisticRegression, NDArray[np.float64], NDArray[np.float64]]:
    """The head by scikit-learn on standardised features of the same subset, and all features, standardised."""
    # The order in which the method holds them is its own, and the subset counts in it.
    index = method._held_out
    with torch.no_grad():
        z = model.features(dataset.train.x[index]).double().numpy()
    scaled = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    group = dataset.train.y[index] * 2 + dataset.train.attribute[index]
    seed = first_subset_seed()
    chosen = balanced_subset(group, seed).numpy()
    assert np.bincount(group[chosen], minlength=2 * classes).tolist() == [len(chosen) // (2 * classes)] * (
        2 * classes
    )
    fitted = reference_regression(penalty, classes, 0.07)
    fitted.fit(scaled[chosen], dataset.train.y[index].numpy()[chosen])
    return fitted, z, scaled


def first_subset_seed() -> int:
    from ipgl.data import derive_seed

    return derive_seed(0, "dfr subset")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_the_last_layer_is_a_logistic_regression_on_a_balanced_subset(classes: int, penalty: str) -> None:
    dataset, model = make_dataset(SIZE * 2, classes), make_model(classes)
    settings = {"penalty": penalty, "inverse_regularisation": 0.07}
    method = run(dataset, model, epochs=2, subsets=1, held_out_share=0.4, **settings)
    fitted, z, scaled = reference_fit(dataset, model, method, classes, penalty)
    with torch.no_grad():
        logits = model.head(torch.from_numpy(z).float()).double().numpy()
    assert (logits.argmax(axis=1) == fitted.predict(scaled)).all()
    decision = fitted.decision_function(scaled)
    if classes == 2:
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], decision, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_allclose(logits - logits[:, :1], decision - decision[:, :1], rtol=1e-4, atol=1e-4)
    probability = torch.from_numpy(logits).softmax(dim=1).numpy()
    np.testing.assert_allclose(probability, fitted.predict_proba(scaled), rtol=1e-3, atol=1e-4)


def test_several_subsets_are_averaged() -> None:
    """The mean of the heads that each subset alone would give, in the same standardisation."""
    dataset, model = make_dataset(), make_model()
    method = run(dataset, model, epochs=1, subsets=3, held_out_share=0.4)
    from ipgl.data import derive_seed

    index = method._held_out
    with torch.no_grad():
        z = model.features(dataset.train.x[index]).double().numpy()
    scaled = (z - z.mean(axis=0)) / z.std(axis=0, ddof=1)
    y = dataset.train.y[index].numpy()
    group = torch.from_numpy(y) * 2 + dataset.train.attribute[index]
    decisions = []
    for number in range(3):
        chosen = balanced_subset(group, derive_seed(number, "dfr subset")).numpy()
        fitted = reference_regression("l1", 2, 1.0).fit(scaled[chosen], y[chosen])
        decisions.append(fitted.decision_function(scaled))
    assert np.abs(decisions[0] - decisions[1]).max() > 0.01  # the subsets differ
    with torch.no_grad():
        logits = model.head(torch.from_numpy(z).float()).double().numpy()
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], np.mean(decisions, axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_l1_is_the_default_and_leaves_features_out(classes: int) -> None:
    """By the objective itself: `||w||_1 + C * summed loss` is lower at L1's weights than at L2's, some of them 0."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 8))
    y = np.digitize(x[:, 0] + 0.5 * generator.normal(size=300), [0.0, 0.6][: classes - 1])
    c = 0.05
    fits = {
        penalty: logistic_regression(DfrSettings(penalty=penalty, inverse_regularisation=c), classes).fit(
            x, y
        )
        for penalty in ("l1", "l2")
    }
    default = logistic_regression(DfrSettings(inverse_regularisation=c), classes).fit(x, y)
    np.testing.assert_array_equal(default.coef_, fits["l1"].coef_)
    assert (fits["l1"].coef_ == 0).sum() >= 3 > (fits["l2"].coef_ == 0).sum()

    def objective(fitted: LogisticRegression) -> float:
        loss = -np.log(fitted.predict_proba(x)[np.arange(300), y]).sum()
        return float(np.abs(fitted.coef_).sum() + c * loss)

    assert objective(fits["l1"]) < objective(fits["l2"])


def test_until_the_last_step_it_is_erm(toys: type[Toys]) -> None:
    """One step written out, and the features stay as the last descent left them."""
    dataset, model = make_dataset(), make_model()
    method = Dfr(DfrSettings(), toys.context(model, lr=0.1, dataset=dataset, total_steps=2))
    for last in (False, True):
        batch = dataset.train.batch(known(method.train_index)[:8])
        loss = cross_entropy(model(batch.x), batch.y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        expected = [(p - 0.1 * g).detach() for p, g in zip(model.parameters(), gradients, strict=True)]
        report = method.step(model, batch, None)
        assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-6)
        found = [p.detach() for p in model.parameters()]
        same = [torch.allclose(p, q, rtol=1e-5, atol=1e-6) for p, q in zip(found, expected, strict=True)]
        assert same == [True, True, not last, not last]
    assert model.training


def test_the_count_of_steps_is_its_state(toys: type[Toys]) -> None:
    dataset, model = make_dataset(), make_model()
    context = toys.context(model, dataset=dataset, total_steps=2)
    method = Dfr(DfrSettings(), context)
    batch = dataset.train.batch(known(method.train_index)[:8])
    method.step(model, batch, None)
    resumed = Dfr(DfrSettings(), context)
    resumed.load_state_dict(method.state_dict())
    before = model.head.weight.detach().clone()
    resumed.step(model, batch, None)
    assert (model.head.weight.detach() - before).abs().max().item() > 0.1  # the new head, not a descent


def test_balanced_subset() -> None:
    group = torch.tensor([0] * 7 + [1] * 3 + [3] * 5)
    chosen = balanced_subset(group, seed=1)
    assert len(set(chosen.tolist())) == 9
    assert group[chosen].bincount().tolist() == [3, 3, 0, 3]
    assert torch.equal(chosen, balanced_subset(group, seed=1))
    assert not torch.equal(chosen, balanced_subset(group, seed=2))


@pytest.mark.parametrize("share", [0.02, 0.001])
def test_a_group_with_too_few_held_out(toys: type[Toys], share: float) -> None:
    with pytest.raises(DataError, match=r"at least 2 held-out .* of every group.*raise held_out_share"):
        Dfr(DfrSettings(held_out_share=share), toys.context(make_model(), dataset=make_dataset()))


def test_a_group_that_training_lacks(toys: type[Toys]) -> None:
    dataset = make_dataset()
    there = ~((dataset.train.y == 1) & (dataset.train.attribute == 0))
    split = Split(*(value[there] for value in vars(dataset.train).values()))
    lacking = Dataset(split, split, split, dataset.pairs, dataset.pairs, ("0", "1"), ("0", "1"), "by hand")
    with pytest.raises(DataError, match="leave dfr out"):
        Dfr(DfrSettings(held_out_share=0.5), toys.context(make_model(), dataset=lacking))
