"""The batch, the pairs and the image crops of each training step, as functions of seed and step."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ipgl.data import Batch, Dataset, Images, Inputs, PairBatch, ShuffledOrder, derive_seed
from ipgl.training.collective import Collective


class StepBatches:
    """Batches and pairs by step. Nothing is remembered between steps, so that a resumed run sees the same."""

    def __init__(
        self,
        dataset: Dataset,
        order: ShuffledOrder,
        pair_order: ShuffledOrder | None,
        seed: int,
        collective: Collective,
    ) -> None:
        self._dataset, self._seed = dataset, seed
        self.order, self.pair_order = order, pair_order
        self._rank, self._workers = collective.rank, collective.workers

    def __call__(self, step: int) -> tuple[Batch, PairBatch | None]:
        """This worker's share of step `step` (0-based), where the data set keeps its inputs."""
        train, pairs = self._dataset.train, self._dataset.pairs
        batch = train.batch(self.order(step), self._boxes("augment", train.x, self.order, step))
        if self.pair_order is None:
            return batch, None
        boxes = self._boxes("augment pairs", pairs.a, self.pair_order, step)
        return batch, pairs.batch(self.pair_order(step), boxes)

    def _boxes(self, purpose: str, x: Inputs, order: ShuffledOrder, step: int) -> Tensor | None:
        augment = self._dataset.augment
        if augment is None or not isinstance(x, Images):
            return None
        rng = np.random.default_rng(derive_seed(self._seed, purpose, step))
        # For the whole step, as the order is, so that an image is cut alike however many workers there are.
        boxes = augment.draw(order.batch_size, *x.stored_size, rng)
        return boxes[self._rank :: self._workers]
