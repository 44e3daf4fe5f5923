"""Choice of how many trials of one process train together, from the floating-point operations of one pass.

Measured on one core (`pytest -m bench -s tests/benchmarks/test_packing.py`): eight multi-layer perceptrons of one shape
train together 2.3 to 2.6 times as fast as one after the other if a pass takes 4 million floating-point operations, 1.6
to 2.2 times at 8 to 12 million, 1.4 times at 20 million, and no faster at 50 million, where arithmetic is all there is.
Linear heads on 512 features (half a million operations at batch 128) train 4.2 times as fast in packs of 8, 7.4 times
in packs of 64 and 8.9 times in packs of 256 with `erm`; with `ipg` (`additive`) 4.9, 11 and 13 times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ipgl.config import TrialConfig
from ipgl.training import SilentReporter
from ipgl.training.loop import TrainingRun
from ipgl.training.stack import stack_key
from ipgl.trial.build import build_method, build_model
from ipgl.trial.datasets import trial_dataset

MOST_FLOPS = 24e6  # of one pass of one trial, on a CPU
MOST_TOGETHER = 8
# A linear head on the features of a frozen backbone is far below this. What remains of its step in a pack is the
# optimiser's own, and a share of what the pack starts once, so that larger packs pay.
TINY_FLOPS, MOST_TINY_TOGETHER = 1e6, 64
# A GPU starts kernels at the same pace whatever they hold; this much work hides that pace. Not measured yet.
MOST_FLOPS_GPU, MOST_TOGETHER_GPU = 2e9, 64
# Tune starts new processes for each label's search and for the final runs, which takes 4 to 6 seconds each time; those
# of packs stay for the whole study. Where all trials of a phase train for less than this, packs of two save that time.
SHORT_PHASE_SECONDS = 60.0
_FLOPS_PER_SECOND = 2e10  # of one core, on products of this size
# A sampler that models needs rounds in which to learn.
_ROUNDS = 3


@dataclass(frozen=True)
class Workload:
    """What one trial asks of its process.

    Attributes:
        stackable: Whether it can be trained together with others at all.
        flops: Floating-point operations of the matrix products of one pass, forward and backward: the mean of the
            batch's and the pairs', each of which has its own overhead.
        gpu: Whether it trains on a GPU.
        seconds: What its training takes on one core, at least.
    """

    stackable: bool
    flops: float
    gpu: bool
    seconds: float = math.inf


def workload(config: TrialConfig) -> Workload:
    """Look at a trial by building it; nothing is trained."""
    dataset = trial_dataset(config)
    with torch.random.fork_rng(devices=[]):
        model = build_model(config.model, dataset, config.seed)
        run = TrainingRun(
            model,
            lambda context: build_method(config.method, context),
            dataset,
            config.training,
            seed=config.seed,
            evaluate=lambda model: {},
            reporter=SilentReporter(),
        )
        if stack_key(run) is None or config.resources.workers > 1:
            return Workload(False, math.inf, False)
        batch, pairs = run.batches(0)
        with FlopCounterMode(display=False) as counter:
            model(batch.x).sum().backward()
    examples = (len(batch.y) + 2 * len(pairs.y)) / 2 if pairs else len(batch.y)
    flops = counter.get_total_flops() * examples / len(batch.y)
    passes = 2 if pairs else 1
    return Workload(True, flops, config.resources.gpus > 0, run.total * flops * passes / _FLOPS_PER_SECOND)


def pack_size(asked: int | str, load: Workload, trials: int, slots: int, rounds: bool) -> int:
    """Trials that a process should train together; 1 for none.

    Args:
        asked: The study file's `search.pack`.
        load: What one trial takes.
        trials: How many there are to run.
        slots: How many the cluster runs at once, each on its own.
        rounds: Whether later trials learn from earlier ones.
    """
    share = math.ceil(trials / slots)
    if not load.stackable or share < 2:
        return 1
    if isinstance(asked, int):
        return min(asked, share)
    limit, together = (MOST_FLOPS_GPU, MOST_TOGETHER_GPU) if load.gpu else (MOST_FLOPS, MOST_TOGETHER)
    if load.flops > limit:
        if load.gpu or load.seconds * share > SHORT_PHASE_SECONDS:
            return 1
        together = 2
    elif load.flops < TINY_FLOPS:
        together = MOST_TINY_TOGETHER
    return min(together, max(1, share // _ROUNDS) if rounds else share)
