"""What a step sees of images: the same in a resumed run, for both members of a pair, and over all workers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from image_rows import image_dataset
from narrowing import Keywords, known

from ipgl.data import Dataset, PairBatch, ShuffledOrder
from ipgl.data.augment import RandomResizedCrop
from ipgl.methods import METHODS
from ipgl.methods.ipg.augment import adversarial
from ipgl.models import MODELS, Classifier
from ipgl.training import Collective, TrainingOutcome, train
from ipgl.training.step_batches import StepBatches

if TYPE_CHECKING:
    from tests.training.conftest import Toys


After = Callable[[dict[str, float]], object]  # what a reporter does with each row

AUGMENT = RandomResizedCrop(scale=(0.3, 1.0))


class Share(Collective):
    """A worker's place among others, without a process group."""

    def __init__(self, rank: int, workers: int) -> None:
        self.rank, self.workers = rank, workers


def batches(
    dataset: Dataset, seed: int = 3, rank: int = 0, workers: int = 1, pairs: bool = True
) -> StepBatches:
    place = (None, rank, workers)
    order = ShuffledOrder(len(dataset.train), 16, 1, *place)
    pair_order = ShuffledOrder(len(dataset.pairs), 8, 2, *place) if pairs else None
    return StepBatches(dataset, order, pair_order, seed, Share(rank, workers))


def test_without_augmentation_training_sees_what_evaluation_does(tmp_path: Path) -> None:
    dataset = image_dataset(tmp_path, None)
    batch, pairs = batches(dataset)(4)
    assert torch.equal(batch.x, dataset.train.x[batch.index])
    assert torch.equal(batch.y, dataset.train.y[batch.index])
    at = ShuffledOrder(12, 8, 2)(4)
    assert torch.equal(known(pairs).a, dataset.pairs.a[at])
    assert torch.equal(known(pairs).b, dataset.pairs.b[at])


def test_a_method_without_pairs_gets_none(tmp_path: Path) -> None:
    assert batches(image_dataset(tmp_path, AUGMENT), pairs=False)(0)[1] is None


def test_tensors_pass_as_they_are(toys: type[Toys]) -> None:
    dataset = toys.dataset()
    batch, pairs = batches(dataset)(2)
    assert torch.equal(batch.x, dataset.train.x[batch.index])
    assert torch.equal(known(pairs).b, dataset.pairs.b[ShuffledOrder(20, 8, 2)(2)])


def test_augmentation_is_a_function_of_seed_and_step(tmp_path: Path) -> None:
    dataset = image_dataset(tmp_path, AUGMENT)
    run = batches(dataset)
    seen = [run(step) for step in range(5)]
    again = batches(dataset)(3)
    assert torch.equal(again[0].x, seen[3][0].x)
    assert torch.equal(known(again[1]).a, known(seen[3][1]).a)
    assert not torch.equal(batches(dataset, seed=4)(3)[0].x, seen[3][0].x)
    assert not torch.equal(seen[3][0].x, dataset.train.x[seen[3][0].index])


def test_both_members_of_a_pair_are_cut_alike(tmp_path: Path) -> None:
    dataset = image_dataset(tmp_path, AUGMENT)
    pairs = known(batches(dataset)(1)[1])
    plain_a, plain_b = (x[ShuffledOrder(12, 8, 2)(1)] for x in (dataset.pairs.a, dataset.pairs.b))
    assert not torch.equal(pairs.a, plain_a)
    # Members differ in green alone, before and after.
    assert torch.equal(pairs.a[:, [0, 2]], pairs.b[:, [0, 2]])
    assert not torch.equal(pairs.a[:, 1], pairs.b[:, 1])
    assert not torch.equal(plain_b[:, 0], pairs.b[:, 0])
    boxes = [
        run._boxes(name, dataset.train.x, ShuffledOrder(50, 8, 0), 1)
        for run in [batches(dataset)]
        for name in "ab"
    ]
    assert not torch.equal(known(boxes[0]), known(boxes[1]))


def test_workers_together_see_what_one_would(tmp_path: Path) -> None:
    dataset = image_dataset(tmp_path, AUGMENT)
    whole, pairs = batches(dataset)(5)
    for rank in range(2):
        share, pair_share = batches(dataset, rank=rank, workers=2)(5)
        assert torch.equal(share.index, whole.index[rank::2])
        assert torch.equal(share.x, whole.x[rank::2])
        assert torch.equal(known(pair_share).a, known(pairs).a[rank::2])


class TestRuns:
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> Dataset:
        return image_dataset(tmp_path, AUGMENT)

    def fit(
        self,
        toys: type[Toys],
        dataset: Dataset,
        name: str,
        path: Path | None = None,
        after: After = lambda row: None,
        **settings: object,
    ) -> tuple[Classifier, TrainingOutcome]:
        torch.manual_seed(1)
        model = MODELS["cnn"].build(
            MODELS["cnn"].settings.model_validate({"width": 8}), dataset.input_shape, 2
        )

        def evaluate(model: Classifier) -> dict[str, float]:
            with torch.inference_mode():
                hit = model(dataset.validation.x[:]).argmax(dim=1) == dataset.validation.y
            return {"validation/accuracy": hit.double().mean().item()}

        reporter = toys.Rows(after=after)
        outcome = train(
            model,
            toys.method(name, **settings),
            dataset,
            toys.settings(),
            seed=0,
            evaluate=evaluate,
            reporter=reporter,
            checkpoint_path=path,
        )
        return model, outcome

    @pytest.mark.parametrize("name", sorted(METHODS))
    def test_every_method_trains_on_images(self, toys: type[Toys], dataset: Dataset, name: str) -> None:
        settings: Keywords = {"held_out_share": 0.5} if name == "dfr" else {}
        model, outcome = self.fit(toys, dataset, name, **settings)
        assert outcome.steps == 12
        assert all(p.isfinite().all() for p in model.parameters())

    def test_adversarial_pairs_stay_within_black_and_white_of_each_channel(
        self, toys: type[Toys], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[tuple[PairBatch, PairBatch]] = []

        def watched(pairs: PairBatch, *rest: Any) -> PairBatch:
            seen.append((pairs, adversarial(pairs, *rest)))
            return seen[-1][1]

        monkeypatch.setattr("ipgl.methods.ipg.method.adversarial", watched)
        self.fit(toys, dataset, "ipg", adversarial={"steps": 2, "epsilon": 0.1})
        low, high = dataset.input_range
        for before, after in seen:
            assert (after.a >= low - 1e-6).all()
            assert (after.a <= high + 1e-6).all()
            # A tenth of the pixel range, which is wider in the channel whose deviation is smaller.
            assert ((after.a - before.a).abs() <= 0.1 * (high - low) + 1e-5).all()
        assert len(seen) == 12

    @pytest.mark.parametrize("name", ["erm", "ipg", "clp"])
    def test_a_resumed_run_ends_in_the_same_bits(
        self, toys: type[Toys], dataset: Dataset, tmp_path: Path, name: str
    ) -> None:
        path = tmp_path / "checkpoint.pt"

        def keep(row: dict[str, float]) -> None:
            shutil.copy(path, tmp_path / f"{int(row['evaluation'])}.pt")

        model, _ = self.fit(toys, dataset, name, path, after=keep)
        resumed, _ = self.fit(toys, dataset, name, tmp_path / "2.pt")
        for expected, found in zip(model.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(expected, found)
