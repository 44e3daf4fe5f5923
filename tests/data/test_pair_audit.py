from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from narrowing import as_tensor, known, of_kind

from ipgl.data import Dataset, PairSet, Split
from ipgl.data.pair_audit import audit_pairs

SIZE = 16


def noise(count: int, seed: int) -> torch.Tensor:
    """Pictures in whole grey levels, so that sums of 255 are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 200, (count, 3, SIZE, SIZE), generator=generator) / 255


def pair_set(a: torch.Tensor, b: torch.Tensor, y: None = None, source: list[int] | None = None) -> PairSet:
    count = len(a)
    return PairSet(
        a,
        b,
        torch.zeros(count, dtype=torch.int64) if y is None else torch.tensor(y),
        torch.arange(count) if source is None else torch.tensor(source),
    )


@pytest.fixture
def sound() -> Dataset:
    """10 training pairs and 4 held-out pairs; members differ by 10 and by 20 grey levels."""
    zeros = torch.zeros(20, dtype=torch.int64)

    def split(count: int, seed: int) -> Split:
        return Split(noise(count, seed), zeros[:count], zeros[:count], zeros[:count])

    train = split(20, 0)
    a, b = train.x[:10], train.x[:10] + 10 / 255
    c, d = train.x[10:14], train.x[10:14] + 20 / 255
    held_out = pair_set(c, d, source=[10, 11, 12, 13])
    return Dataset(
        train, split(8, 1), split(6, 2), pair_set(a, b), held_out, ("cat", "dog"), ("left", "right"), "f"
    )


def test_sound_pairs_have_no_findings(sound: Dataset) -> None:
    audit = audit_pairs(sound)
    assert audit.faults == audit.warnings == []
    assert [(s.name, s.count, s.per_label) for s in audit.sets] == [
        ("training", 10, {"cat": 10, "dog": 0}),
        ("held-out", 4, {"cat": 4, "dog": 0}),
    ]
    assert set(audit.copies.values()) == {0}
    for found, level in zip(audit.sets, (10, 20), strict=True):
        d = known(found.difference)
        assert (d.mean, d.least, d.median, d.largest) == (level,) * 4


@pytest.mark.parametrize(("split", "member"), [("validation", "a"), ("test", "b")])
def test_an_image_of_another_split_is_a_fault(sound: Dataset, split: str, member: str) -> None:
    values = getattr(sound.held_out_pairs, member).clone()
    # Saved again: a grey level more or less here and there.
    values[2] = getattr(sound, split).x[5] + torch.randint(-1, 2, (3, SIZE, SIZE)) / 255
    audit = audit_pairs(replace(sound, held_out_pairs=replace(sound.held_out_pairs, **{member: values})))
    assert audit.copies == {
        ("training", "validation"): 0,
        ("held-out", "validation"): int(split == "validation"),
        ("training", "test"): 0,
        ("held-out", "test"): int(split == "test"),
    }
    assert f"1 held-out pairs hold an image of the {split} split" in audit.faults


@pytest.mark.parametrize("member", ["a", "b"])
def test_equal_pixels_are_counted_apart(sound: Dataset, member: str) -> None:
    values = getattr(sound.pairs, member).clone()
    values[2] = as_tensor(sound.test.x)[5]
    values[3] = as_tensor(sound.test.x)[1] + 1 / 255
    audit = audit_pairs(replace(sound, pairs=replace(sound.pairs, **{member: values})))
    assert audit.copies["training", "test"] == 2
    assert audit.identical == {
        ("training", "validation"): 0,
        ("held-out", "validation"): 0,
        ("training", "test"): 1,
        ("held-out", "test"): 0,
    }


def test_copies_across_splits_are_warnings(sound: Dataset) -> None:
    x, y = as_tensor(sound.validation.x).clone(), sound.validation.y.clone()
    x[0], x[1] = as_tensor(sound.test.x)[3], as_tensor(sound.train.x)[19]
    x[2], y[2] = x[3], 1
    audit = audit_pairs(replace(sound, validation=replace(sound.validation, x=x, y=y)))
    assert audit.faults == []
    assert audit.warnings == [
        "1 training images that are also in validation or test",
        "1 validation images that are also in test",
        "1 images that stand in their split with another label, too",
    ]
    assert list(of_kind(audit.as_json()["repeated"], dict).values()) == [1, 1, 1]


def test_a_pair_with_two_such_members_counts_once(sound: Dataset) -> None:
    pairs = pair_set(sound.test.x[:2], sound.test.x[2:4])
    assert audit_pairs(replace(sound, pairs=pairs)).copies["training", "test"] == 2


def test_labels_are_compared_with_their_sources(sound: Dataset) -> None:
    pairs = replace(
        sound.pairs, y=torch.tensor([0, 1, 1] + [0] * 7), source=torch.tensor([0, 1, -1, *range(3, 10)])
    )
    audit = audit_pairs(replace(sound, pairs=pairs))
    assert (audit.sets[0].wrong_label, audit.sets[0].without_source) == (1, 1)
    assert audit.faults == ["1 training pairs have another label than their source"]


def test_pictures_and_sources_on_both_sides_are_faults(sound: Dataset) -> None:
    held_out = replace(
        sound.held_out_pairs,
        a=torch.cat([sound.pairs.b[:1], sound.held_out_pairs.a[1:]]),
        source=torch.tensor([3, 11, 12, 13]),
    )
    audit = audit_pairs(replace(sound, held_out_pairs=held_out))
    assert (audit.shared_sources, audit.shared_pictures) == (1, 1)
    assert audit.faults == [
        "1 training examples made both training and held-out pairs",
        "1 held-out pairs show a picture that stands in a training pair",
    ]


def test_repeated_and_nearly_identical_pairs_are_warnings(sound: Dataset) -> None:
    a, b = as_tensor(sound.pairs.a).clone(), as_tensor(sound.pairs.b).clone()
    a[1], b[1] = b[0], a[0]  # the first pair, turned round
    b[2] = a[2]
    b[3] = a[3]
    b[3, 0, 0, 0] += 10 / 255
    audit = audit_pairs(replace(sound, pairs=replace(sound.pairs, a=a, b=b)))
    assert (audit.sets[0].duplicates, audit.sets[0].near_identical) == (1, 2)
    assert audit.faults == []
    assert audit.warnings == [
        "2 training pairs have members that are nearly identical",
        "1 training pairs repeat another",
    ]
    assert known(audit.sets[0].difference).least == 0


def test_no_pairs_at_all(sound: Dataset) -> None:
    empty = pair_set(sound.train.x[:0], sound.train.x[:0])
    audit = audit_pairs(replace(sound, pairs=empty, held_out_pairs=empty))
    assert audit.sets[0].difference is None
    assert audit.warnings == ["there are no training pairs", "there are no held-out pairs"]
    assert audit.faults == []


def test_the_answer_for_programs_is_json(sound: Dataset) -> None:
    data = json.loads(json.dumps(audit_pairs(sound).as_json()))
    assert data["sets"][0]["difference"]["median"] == 10
    assert data["copies"][0] == {"pairs": "training", "split": "validation", "count": 0, "identical": 0}
    assert data["faults"] == []
