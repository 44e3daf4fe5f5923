"""Pair source `matched`: nearest training images of the same label and different attribute.

Meant for data without a recipe for counterfactuals, CelebA above all: its forty attributes less the label and the
spurious one measure how similar two faces are. The pairs are as good as those columns: what no column records (pose,
light, background) differs freely between members, and the correction makes the model ignore that as well.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ipgl.core.errors import DataError
from ipgl.core.registry import suggestion
from ipgl.data.batch_order import derive_seed
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources.candidates import Candidates
from ipgl.data.pair_sources.settings import ImagePairSettings
from ipgl.data.table import TRAIN, ImageTable

_NEIGHBOURS = 32


def matched_pairs(settings: ImagePairSettings, request: PairRequest) -> Candidates:
    """Match nearest images greedily; every image is in one pair at most.

    Distance is Euclidean over the columns, each scaled to [0, 1]: for binary columns its square is the number of
    columns in which members differ. With `features` it is that of the vectors, each scaled to length 1.

    Raises:
        DataError: No column to match by, an unknown one, or no two images to match.
    """
    table = request.table
    rows = table.rows_of(TRAIN)
    if settings.features is None:
        names, features = _columns(settings, table, rows)
    else:
        names, features = [], _given_features(settings.features, table, len(rows))
    wanted = None if settings.train is None else settings.train + settings.held_out
    rng = np.random.default_rng(derive_seed(settings.seed, "matched"))
    label, attribute = table.label[rows], table.attribute[rows]
    found: list[tuple[float, int, int]] = []
    for y in range(len(table.class_names)):
        free = label == y
        for values in combinations(range(len(table.attribute_names)), 2):
            sides = [rng.permutation(np.flatnonzero(free & (attribute == value))) for value in values]
            few, many = sorted(sides, key=len)
            if not len(few):
                continue
            matches = _one_to_one(features, few[:wanted], many)
            free[[i for _, *pair in matches for i in pair]] = False
            found += matches
    if settings.max_difference is not None:
        found = [match for match in found if match[0] ** 2 <= settings.max_difference + 1e-9]
    if not found:
        limit = (
            ""
            if settings.max_difference is None
            else f" within pairs.max_difference={settings.max_difference}"
        )
        raise DataError(
            f"{table.file}: matched pairs need training images of one label with different attributes{limit}, "
            "but there are none; use another source of pairs"
        )
    # The attribute's lower value first, so that members' roles are the same in every pair.
    pairs = np.array([sorted((i, j), key=lambda k: attribute[k]) for _, i, j in found], dtype=np.int64)
    difference = float(np.mean([distance**2 for distance, _, _ in found]))
    note = (
        f"matched pairs differ in {difference:.2f} of {len(names)} other columns on average "
        if names
        else f"members of matched pairs have features of cosine {1 - difference / 2:.3f} on average "
    ) + f"({len(found)} pairs to choose from)"
    first, second = rows[pairs[:, 0]], rows[pairs[:, 1]]
    return Candidates(
        first,
        second,
        label[pairs[:, 0]],
        pairs[:, 0],
        np.arange(len(pairs)),
        tuple(f"{table.paths[i]} {table.paths[j]}" for i, j in zip(first, second, strict=True)),
        (note,),
    )


def _given_features(name: str, table: ImageTable, count: int) -> NDArray[np.float32]:
    """Vectors of length 1, float32 `[N, d]`, from the file that the user names."""
    path = table.root / name
    try:
        features = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: pairs.features cannot be read ({error}); `ipgl data features` writes such a file"
        ) from None
    if features.ndim != 2 or len(features) != count or not np.isfinite(features).all():
        raise DataError(
            f"{path}: pairs.features must hold one vector of finite numbers for each of the {count} training images, "
            f"but has shape {list(features.shape)}; write it again with `ipgl data features`"
        )
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def _columns(
    settings: ImagePairSettings, table: ImageTable, rows: NDArray[np.int64]
) -> tuple[list[str], NDArray[np.float32]]:
    """The columns to agree in, scaled to [0, 1]; those that are the label or the attribute itself are left out."""
    for name in settings.columns or ():
        if name not in table.extra:
            raise DataError(
                f"{table.file}: unknown column {name!r} in pairs.columns: {suggestion(name, table.extra)}"
            )
    names, columns = [], []
    for name in settings.columns or table.extra:
        text = table.extra[name][rows]
        if not settings.columns and len(np.unique(text)) != 2:
            continue
        try:
            values = text.astype(np.float64)
        except ValueError:
            if settings.columns:
                raise DataError(f"{table.file}: column {name!r} in pairs.columns must hold numbers") from None
            continue
        low, high = values.min(), values.max()
        same = any(_renames(values, known[rows]) for known in (table.label, table.attribute))
        if np.isfinite(values).all() and low < high and not same:
            names.append(name)
            columns.append((values - low) / (high - low))
    if not columns:
        raise DataError(
            f"{table.file}: matched pairs need columns of numbers beside label and attribute, but there are none; "
            f"columns found: {', '.join(table.extra) or 'none'}; name columns in pairs.columns"
        )
    return names, np.stack(columns, axis=1).astype(np.float32)


def _renames(values: NDArray[np.float64], known: NDArray[np.int64]) -> bool:
    """Whether two columns say the same in other numbers (CelebA's -1 and 1 for 0 and 1)."""
    together = len(np.unique(np.stack([values, known], axis=1), axis=0))
    return together == len(np.unique(values)) == len(np.unique(known))


def _one_to_one(
    features: NDArray[np.float32], few: NDArray[np.int64], many: NDArray[np.int64]
) -> list[tuple[float, int, int]]:
    """(distance, of `few`, of `many`): nearest candidates first, each image once.

    Greedy among each image's nearest 32, and again for those that others' matches left without one: an exact
    assignment needs a dense matrix, 35 GB for CelebA's larger class.
    """
    from sklearn.neighbors import NearestNeighbors  # slow to import: not for every data set's sake

    matches: list[tuple[float, int, int]] = []
    while len(few) and len(many):
        search = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, len(many))).fit(features[many])
        distances, neighbours = search.kneighbors(features[few])
        taken_few, taken_many = np.zeros(len(few), dtype=bool), np.zeros(len(many), dtype=bool)
        for edge in np.argsort(distances, axis=None, kind="stable"):
            i, k = divmod(int(edge), distances.shape[1])
            j = int(neighbours[i, k])
            if not taken_few[i] and not taken_many[j]:
                taken_few[i] = taken_many[j] = True
                matches.append((float(distances[i, k]), int(few[i]), int(many[j])))
        few, many = few[~taken_few], many[~taken_many]
    return matches
