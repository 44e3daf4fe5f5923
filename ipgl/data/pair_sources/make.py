"""Make a data set's invariance pairs: find candidates, select, decode."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ipgl.data.fault_list import DataFaults
from ipgl.data.images import Images
from ipgl.data.pair_request import MadePairs, PairRequest
from ipgl.data.pair_sources.candidates import Candidates, Side, choose
from ipgl.data.pair_sources.composite import composite_pairs
from ipgl.data.pair_sources.function import function_pairs
from ipgl.data.pair_sources.manifest import manifest_pairs
from ipgl.data.pair_sources.matched import matched_pairs
from ipgl.data.pair_sources.recolour import recolour_pairs
from ipgl.data.pair_sources.same_pictures import (
    joined_units,
    note_evaluation_images,
    without_evaluation_images,
)
from ipgl.data.pair_sources.settings import ImagePairSettings
from ipgl.data.types import PairSet

PAIR_SOURCES: dict[str, Callable[[ImagePairSettings, PairRequest], Candidates]] = {
    "manifest": manifest_pairs,
    "composite": composite_pairs,
    "matched": matched_pairs,
    "recolour": recolour_pairs,
    "function": function_pairs,
}


def make_pairs(settings: ImagePairSettings, request: PairRequest) -> MadePairs:
    """The pairs that `settings` ask for; equal settings on equal data give equal pairs.

    Members are never pictures of the validation or test split, whatever their files are called, and no training
    picture is both in a training pair and in a held-out one.

    Raises:
        DataError: The source's files are missing or break a rule, a member has the pixels of a validation or test
            picture, or there are too few pairs.
    """
    if settings.source == "none":
        empty = np.empty(0, dtype=np.int64)
        no_candidates = Candidates(empty, empty, empty, empty, empty, ())
        no_pairs = _pair_set(no_candidates, empty, request, DataFaults(""))[0]
        return MadePairs(no_pairs, no_pairs)
    found = without_evaluation_images(PAIR_SOURCES[settings.source](settings, request), request)
    candidates = joined_units(found, request)
    training, held_out = choose(candidates, settings)
    faults = DataFaults(f"{request.table.file}: some pairs show pictures of validation or test")
    pairs, lost = _pair_set(candidates, training, request, faults)
    measured, lost_too = _pair_set(candidates, held_out, request, faults)
    if not request.skip_bad:
        faults.check("Take these pictures out of the pairs, or leave the pairs out with --skip-bad.")
    refused = tuple(f"pair skipped: {where}: {what}" for where, what in faults.found)
    names = hashlib.sha256()
    for position in (*training, -1, *held_out):
        names.update((candidates.names[position] if position >= 0 else "held out").encode() + b"\n")
    return MadePairs(pairs, measured, (*candidates.notes, *lost, *lost_too, *refused), names.hexdigest())


def _pair_set(
    candidates: Candidates, chosen: NDArray[np.int64], request: PairRequest, faults: DataFaults
) -> tuple[PairSet, tuple[str, ...]]:
    """The chosen pairs with their pixels, but for those that cannot be read (notes say which), or must not be."""
    a, b = (_images(side, chosen, request) for side in (candidates.a, candidates.b))
    refused = [
        note_evaluation_images(side, chosen, images, request, faults)
        for side, images in ((candidates.a, a), (candidates.b, b))
    ]
    good = np.setdiff1d(np.intersect1d(a.good.numpy(), b.good.numpy()), np.concatenate(refused))
    # Unreadable images of the table were reported when the table was read.
    decoded = [side for side, of in ((a, candidates.a), (b, candidates.b)) if not isinstance(of, np.ndarray)]
    notes = tuple(f"pair skipped: {bad.where}: {bad.reason}" for side in decoded for bad in side.skipped)
    if len(good) < len(chosen):
        a, b = (side.take(torch.from_numpy(good)) for side in (a, b))
        chosen = chosen[good]
    label, source = (torch.from_numpy(values[chosen]) for values in (candidates.label, candidates.source))
    return PairSet(a, b, label, source), notes


def _images(side: Side, chosen: NDArray[np.int64], request: PairRequest) -> Images:
    if isinstance(side, np.ndarray):
        return request.images.take(torch.from_numpy(side[chosen]))
    return request.store([side[i] for i in chosen])
