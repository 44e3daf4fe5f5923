from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ipgl.data import ShuffledOrder, derive_seed


class TestSeeds:
    def test_by_hand(self) -> None:
        # The first 16 hexadecimal digits of `printf '7:order:1' | sha256sum`, halved.
        assert derive_seed(7, "order", 1) == 107444171252026790

    def test_purposes_do_not_share_seeds(self) -> None:
        names = [(), ("a",), ("b",), ("a", 0), ("a", 1), ("a", "b")]
        seeds = {derive_seed(seed, *name) for seed in range(5) for name in names}
        assert len(seeds) == 5 * len(names)
        assert all(0 <= seed < 2**63 for seed in seeds)


class TestOneWorker:
    @pytest.mark.parametrize(("size", "batch", "steps"), [(12, 4, 3), (12, 12, 1), (12, 1, 12), (12, 50, 1)])
    def test_each_pass_is_a_permutation(self, size: int, batch: int, steps: int) -> None:
        order = ShuffledOrder(size, batch, seed=0)
        assert order.steps_per_pass == steps
        for number in range(4):
            seen = torch.cat([order(number * steps + step) for step in range(steps)])
            assert seen.dtype == torch.int64
            assert torch.equal(seen.sort().values, torch.arange(size))

    def test_the_remainder_of_a_pass_is_left_out_and_differs_from_pass_to_pass(self) -> None:
        order = ShuffledOrder(11, 4, seed=0)
        assert (order.steps_per_pass, order.batch_size) == (2, 4)
        left_out = []
        for number in range(20):
            seen = torch.cat([order(2 * number), order(2 * number + 1)]).tolist()
            assert len(set(seen)) == 8
            left_out.append(frozenset(range(11)) - set(seen))
        assert len(set(left_out)) > 10

    def test_passes_and_seeds_shuffle_differently(self) -> None:
        order, other = (ShuffledOrder(100, 100, seed) for seed in (0, 1))
        orders = {tuple(o(step).tolist()) for o in (order, other) for step in range(3)}
        assert len(orders) == 6

    def test_it_is_shuffled(self) -> None:
        assert not torch.equal(ShuffledOrder(100, 100, 0)(0), torch.arange(100))

    def test_any_step_can_be_asked_for_first(self) -> None:
        sequential = ShuffledOrder(10, 3, seed=5)
        expected = [sequential(step).tolist() for step in range(12)]
        jumping = ShuffledOrder(10, 3, seed=5)
        for step in (11, 0, 7, 3, 3, 10, 1):
            assert jumping(step).tolist() == expected[step]
            assert ShuffledOrder(10, 3, seed=5)(step).tolist() == expected[step]

    def test_global_random_state_is_neither_read_nor_moved(self) -> None:
        torch.manual_seed(0)
        before, first = torch.get_rng_state(), ShuffledOrder(10, 10, seed=5)(0)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(1)
        assert torch.equal(ShuffledOrder(10, 10, seed=5)(0), first)

    def test_indices_come_on_the_device_asked_for(self) -> None:
        assert ShuffledOrder(4, 2, 0, torch.device("cpu"))(0).device == torch.device("cpu")


class TestSeveralWorkers:
    @settings(deadline=None)
    @given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 60), st.integers(0, 30))
    def test_they_share_each_batch_equally(
        self, workers: int, per_worker: int, spare: int, step: int
    ) -> None:
        batch = workers * per_worker
        size = batch + spare
        whole = ShuffledOrder(size, batch, seed=3)(step)
        shares = [ShuffledOrder(size, batch, 3, rank=rank, workers=workers)(step) for rank in range(workers)]
        assert [len(share) for share in shares] == [per_worker] * workers
        assert sorted(torch.cat(shares).tolist()) == sorted(whole.tolist())

    def test_by_hand(self) -> None:
        whole = ShuffledOrder(6, 6, seed=0)(0).tolist()
        assert ShuffledOrder(6, 6, 0, rank=0, workers=2)(0).tolist() == whole[0::2]
        assert ShuffledOrder(6, 6, 0, rank=1, workers=2)(0).tolist() == whole[1::2]

    @pytest.mark.parametrize(
        ("size", "batch", "workers", "expected"),
        [(10, 64, 3, 9), (100, 64, 3, 63), (100, 64, 4, 64), (7, 7, 2, 6), (3, 3, 3, 3)],
    )
    def test_a_batch_is_rounded_down_to_equal_shares(
        self, size: int, batch: int, workers: int, expected: int
    ) -> None:
        orders = [ShuffledOrder(size, batch, 0, rank=rank, workers=workers) for rank in range(workers)]
        assert {order.batch_size for order in orders} == {expected}
        assert {len(order(0)) for order in orders} == {expected // workers}


class TestWeights:
    WEIGHTS = torch.cat([torch.zeros(1000), torch.full((1000,), 0.5), torch.full((1000,), 1.5)])

    def test_items_are_drawn_in_proportion(self) -> None:
        drawn = ShuffledOrder(3000, 3000, seed=0, weights=self.WEIGHTS)(0)
        assert len(drawn) == 3000
        thirds = (drawn // 1000).bincount(minlength=3) / 3000
        tolerance = 4 * (0.25 * 0.75 / 3000) ** 0.5  # of a binomial with probability 1/4
        assert thirds[0] == 0
        assert thirds.tolist() == pytest.approx([0, 0.25, 0.75], abs=tolerance)

    def test_their_scale_does_not_matter(self) -> None:
        small, large = (ShuffledOrder(3000, 100, 0, weights=self.WEIGHTS * scale) for scale in (1, 64))
        assert torch.equal(small(3), large(3))

    def test_an_item_alone_is_always_drawn(self) -> None:
        for position in (0, 4, 9):
            weights = torch.zeros(10).index_fill(0, torch.tensor([position]), 2.0)
            assert ShuffledOrder(10, 10, 0, weights=weights)(0).tolist() == [position] * 10

    def test_any_step_can_be_asked_for_first_and_passes_differ(self) -> None:
        order = ShuffledOrder(3000, 1500, 0, weights=self.WEIGHTS)
        steps = [order(step).tolist() for step in range(6)]
        assert ShuffledOrder(3000, 1500, 0, weights=self.WEIGHTS)(5).tolist() == steps[5]
        assert len({tuple(step) for step in steps}) == 6

    def test_workers_share_the_draws(self) -> None:
        whole = ShuffledOrder(3000, 100, 0, weights=self.WEIGHTS)(1).tolist()
        shares = [ShuffledOrder(3000, 100, 0, None, r, 2, weights=self.WEIGHTS)(1).tolist() for r in (0, 1)]
        assert shares == [whole[0::2], whole[1::2]]


class TestErrors:
    @pytest.mark.parametrize("size", [0, -1])
    def test_nothing_to_order(self, size: int) -> None:
        with pytest.raises(ValueError, match=re.escape(f"`size >= 1` must hold, but got ({size=})")):
            ShuffledOrder(size, 4, 0)

    @pytest.mark.parametrize(("size", "batch_size", "workers"), [(3, 8, 4), (8, 3, 4), (8, 0, 1)])
    def test_a_worker_without_an_item(self, size: int, batch_size: int, workers: int) -> None:
        message = f"every worker needs at least one item a step, but got ({size=}, {batch_size=}, {workers=})"
        with pytest.raises(ValueError, match=re.escape(message)):
            ShuffledOrder(size, batch_size, 0, workers=workers)
