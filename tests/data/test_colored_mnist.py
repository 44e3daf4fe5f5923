from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from narrowing import as_tensor

from ipgl.core.errors import DataError
from ipgl.data import Dataset, Split, colored_mnist
from ipgl.data.colored_mnist import ColoredMnistSettings, fade, paint, turn_hue
from ipgl.data.digits import Digits, sklearn_digits

if TYPE_CHECKING:
    from tests.data.conftest import Origin


def splits(dataset: Dataset) -> tuple[Split, Split, Split]:
    return dataset.train, dataset.validation, dataset.test


def tensors(dataset: Dataset) -> list[torch.Tensor]:
    parts = (*splits(dataset), dataset.pairs, dataset.held_out_pairs)
    return [getattr(part, field.name) for part in parts for field in dataclasses.fields(part)]


def assert_rate(events: torch.Tensor, probability: float) -> None:
    """The share of true `events` lies within four standard deviations of a binomial with this probability."""
    tolerance = 4 * math.sqrt(probability * (1 - probability) / len(events))
    assert tolerance < 0.09, "too few events to tell the rates that the tests use apart"
    assert abs(events.float().mean().item() - probability) <= tolerance


class Contract:
    """What holds in either convention, whatever the digits' source."""

    SHAPE: tuple[int, int, int]
    SIZES: tuple[int, int, int]

    @pytest.fixture
    def dataset(self) -> Dataset:
        raise NotImplementedError

    @pytest.fixture
    def origin(self) -> Origin:
        raise NotImplementedError

    def test_shapes_and_types(self, dataset: Dataset) -> None:
        assert dataset.input_shape == self.SHAPE
        assert tuple(len(split) for split in splits(dataset)) == self.SIZES
        for split in splits(dataset):
            assert split.x.shape == (len(split), *self.SHAPE)
            assert as_tensor(split.x).dtype == torch.float32
            for labels in (split.y, split.attribute, split.environment):
                assert labels.shape == (len(split),)
                assert labels.dtype == torch.int64
        assert (dataset.num_classes, dataset.num_attributes) == (2, 2)

    def test_pixels_fill_the_unit_interval(self, dataset: Dataset) -> None:
        for split in splits(dataset):
            assert as_tensor(split.x).min() == 0.0
            assert as_tensor(split.x).max() == 1.0

    def test_exactly_the_colours_channel_has_ink(self, dataset: Dataset) -> None:
        for split in splits(dataset):
            ink = as_tensor(split.x).flatten(2).sum(dim=2) > 0
            assert (ink.sum(dim=1) == 1).all()
            assert torch.equal(ink[:, 1].long(), split.attribute)

    def test_no_digit_is_in_two_splits_or_twice_in_one(self, dataset: Dataset, origin: Origin) -> None:
        positions = torch.cat([origin.of(split.x) for split in splits(dataset)])
        assert len(positions) == sum(self.SIZES)
        assert len(positions.unique()) == len(positions)

    def test_a_quarter_of_the_labels_is_flipped(self, dataset: Dataset, origin: Origin) -> None:
        flipped = [split.y != origin.is_small[origin.of(split.x)] for split in splits(dataset)]
        assert_rate(torch.cat(flipped), 0.25)

    @pytest.mark.parametrize(("environment", "agreement"), [(0, 0.8), (1, 0.9)])
    def test_colour_agrees_with_the_label_as_the_environment_says(
        self, dataset: Dataset, environment: int, agreement: float
    ) -> None:
        agrees = [(s.y == s.attribute)[s.environment == environment] for s in splits(dataset)]
        assert len(agrees[2]) == 0
        assert_rate(torch.cat(agrees), agreement)

    def test_colour_agrees_with_the_label_half_of_the_time_in_the_test_split(self, dataset: Dataset) -> None:
        assert (dataset.test.environment == 2).all()
        assert_rate(dataset.test.y == dataset.test.attribute, 0.5)

    def test_training_environments_are_equally_large_in_train_and_validation(self, dataset: Dataset) -> None:
        for split in (dataset.train, dataset.validation):
            counts = split.environment.bincount()
            assert len(counts) == 2
            assert abs(counts[0] - counts[1]) <= 1

    def test_a_pair_is_one_digit_of_the_training_split_in_both_colours(
        self, dataset: Dataset, origin: Origin
    ) -> None:
        for pairs in (dataset.pairs, dataset.held_out_pairs):
            assert len(pairs) > 0
            assert (as_tensor(pairs.a)[:, 1] == 0).all()
            assert (as_tensor(pairs.b)[:, 0] == 0).all()
            assert torch.equal(as_tensor(pairs.a)[:, 0], as_tensor(pairs.b)[:, 1])
            assert torch.equal(origin.of(pairs.a), origin.of(dataset.train.x[pairs.source]))
            assert torch.equal(pairs.y, dataset.train.y[pairs.source])

    def test_one_member_of_each_pair_is_the_training_image_itself(self, dataset: Dataset) -> None:
        pairs = dataset.pairs
        image, colour = dataset.train.x[pairs.source], dataset.train.attribute[pairs.source]
        assert torch.equal(
            torch.where((colour == 0)[:, None, None, None], as_tensor(pairs.a), as_tensor(pairs.b)), image
        )

    def test_no_digit_makes_two_pairs(self, dataset: Dataset) -> None:
        sources = torch.cat([dataset.pairs.source, dataset.held_out_pairs.source])
        assert len(sources.unique()) == len(dataset.pairs) + len(dataset.held_out_pairs)


class TestDigitsIrm(Contract):
    SHAPE = (2, 8, 8)
    SIZES = (1000, 297, 500)

    @pytest.fixture
    def dataset(self, irm: Dataset) -> Dataset:
        return irm

    @pytest.fixture
    def origin(self, digits_origin: Origin) -> Origin:
        return digits_origin


class TestDigitsDomainbed(Contract):
    # 1797 / 3 = 599 in each environment; a fifth (119) of each training environment validates.
    SHAPE = (2, 8, 8)
    SIZES = (960, 238, 599)

    @pytest.fixture
    def dataset(self, domainbed: Dataset) -> Dataset:
        return domainbed

    @pytest.fixture
    def origin(self, digits_origin: Origin) -> Origin:
        return digits_origin


@pytest.fixture(scope="module")
def mnist_irm(real_mnist: Digits, build: Callable[..., Dataset]) -> Dataset:
    return build(source="mnist")


@pytest.mark.mnist
class TestMnistIrm(Contract):
    SHAPE = (2, 14, 14)
    SIZES = (50_000, 10_000, 10_000)

    @pytest.fixture
    def dataset(self, mnist_irm: Dataset) -> Dataset:
        return mnist_irm

    @pytest.fixture
    def origin(self, mnist_origin: Origin) -> Origin:
        return mnist_origin

    def test_the_conventions_development_and_test_digits_are_kept_apart(
        self, dataset: Dataset, origin: Origin
    ) -> None:
        assert origin.of(dataset.train.x).max() < 50_000
        assert torch.equal(origin.of(dataset.validation.x), torch.arange(50_000, 60_000))
        assert torch.equal(origin.of(dataset.test.x), torch.arange(60_000, 70_000))


@pytest.fixture(scope="module")
def mnist_original(real_mnist: Digits, build: Callable[..., Dataset]) -> Dataset:
    return build(source="mnist", split="original", test_agreement=0.1)


@pytest.mark.mnist
class TestMnistOriginal(Contract):
    """The original's digits for training and test; those that it does not touch validate."""

    SHAPE = (2, 14, 14)
    SIZES = (50_000, 10_000, 10_000)

    @pytest.fixture
    def dataset(self, mnist_original: Dataset) -> Dataset:
        return mnist_original

    @pytest.fixture
    def origin(self, mnist_origin: Origin) -> Origin:
        return mnist_origin

    def test_colour_agrees_with_the_label_half_of_the_time_in_the_test_split(self, dataset: Dataset) -> None:
        assert (dataset.test.environment == 2).all()
        assert_rate(dataset.test.y == dataset.test.attribute, 0.1)  # as was asked for

    def test_digits_are_the_original_s(self, dataset: Dataset, origin: Origin) -> None:
        assert torch.equal(origin.of(dataset.train.x).sort().values, torch.arange(50_000))
        assert torch.equal(origin.of(dataset.test.x), torch.arange(50_000, 60_000))
        assert torch.equal(origin.of(dataset.validation.x), torch.arange(60_000, 70_000))

    def test_training_digits_and_their_order_are_those_of_the_other_split(
        self, dataset: Dataset, mnist_irm: Dataset
    ) -> None:
        assert torch.equal(dataset.train.y, mnist_irm.train.y)
        assert dataset.fingerprint != mnist_irm.fingerprint


@pytest.mark.parametrize(
    ("source", "convention"), [("digits", "irm"), ("digits", "domainbed"), ("mnist", "domainbed")]
)
def test_only_irm_on_mnist_has_an_original_split(source: str, convention: str) -> None:
    with pytest.raises(ValueError, match="split: original names MNIST's digits") as caught:
        ColoredMnistSettings(source=source, convention=convention, split="original")
    assert (
        f"but got source={source}, convention={convention}; leave split out, or set source: mnist and "
        "convention: irm" in str(caught.value)
    )


@pytest.mark.mnist
def test_mnist_domainbed(real_mnist: Digits, build: Callable[..., Dataset]) -> None:
    dataset = build(source="mnist", convention="domainbed", test_agreement=0.1)
    assert dataset.input_shape == (2, 28, 28)
    # 70000 // 3 = 23333 in each environment; 23333 // 5 = 4666 of each training environment validate.
    assert [len(split) for split in splits(dataset)] == [37_334, 9_332, 23_333]
    assert_rate(dataset.test.y == dataset.test.attribute, 0.1)
    # Pooled: a seventh of the 70,000 comes from the source's own test digits, which come last in it.
    ours = {image.tobytes() for image in (as_tensor(dataset.test.x).sum(dim=1) * 255).round().byte().numpy()}
    theirs = sum(image.tobytes() in ours for image in real_mnist.images[60_000:])
    assert abs(theirs / 23_333 - 1 / 7) < 5 * math.sqrt(1 / 7 * 6 / 7 / 23_333)


class TestRates:
    """Probabilities of 0 and 1 leave nothing to chance."""

    def test_without_noise_the_label_is_the_digit(
        self, build: Callable[..., Dataset], digits_origin: Origin
    ) -> None:
        for split in splits(build(label_noise=0)):
            assert torch.equal(split.y, digits_origin.is_small[digits_origin.of(split.x)])

    def test_with_full_noise_it_is_the_other_one(
        self, build: Callable[..., Dataset], digits_origin: Origin
    ) -> None:
        for split in splits(build(label_noise=1)):
            assert torch.equal(split.y, 1 - digits_origin.is_small[digits_origin.of(split.x)])

    def test_each_environment_has_its_own_agreement(self, build: Callable[..., Dataset]) -> None:
        dataset = build(train_agreements=[1, 0], test_agreement=1)
        for split in (dataset.train, dataset.validation):
            assert torch.equal((split.y == split.attribute).long(), 1 - split.environment)
        assert torch.equal(dataset.test.y, dataset.test.attribute)

    def test_no_agreement_in_the_test_split(self, build: Callable[..., Dataset]) -> None:
        test = build(test_agreement=0).test
        assert torch.equal(test.y, 1 - test.attribute)


class TestPairCounts:
    def test_as_many_as_asked_for(self, build: Callable[..., Dataset]) -> None:
        dataset = build(pairs={"train": 7, "held_out": 3})
        assert (len(dataset.pairs), len(dataset.held_out_pairs)) == (7, 3)

    def test_fewer_pairs_are_some_of_the_more(self, build: Callable[..., Dataset]) -> None:
        few, more = (build(pairs={"train": count, "held_out": 3}).pairs.source for count in (7, 20))
        assert torch.equal(few, more[:7])

    def test_none_for_training(self, build: Callable[..., Dataset]) -> None:
        assert len(build(pairs={"train": 0, "held_out": 3}).pairs) == 0

    def test_all_training_digits(self, build: Callable[..., Dataset]) -> None:
        dataset = build(pairs={"train": 999, "held_out": 1})
        sources = torch.cat([dataset.pairs.source, dataset.held_out_pairs.source])
        assert torch.equal(sources.sort().values, torch.arange(1000))

    def test_one_more_is_refused(self, build: Callable[..., Dataset]) -> None:
        with pytest.raises(DataError) as caught:
            build(pairs={"train": 999, "held_out": 2})
        assert str(caught.value) == (
            "`pairs.train + pairs.held_out <= training digits` must hold, but got (train=999, held_out=2, "
            "digits=1000); lower one of the two counts"
        )

    def test_the_pairs_seed_changes_pairs_and_nothing_else(
        self, irm: Dataset, build: Callable[..., Dataset]
    ) -> None:
        other = build(pairs={"seed": 1})
        assert not torch.equal(other.pairs.source, irm.pairs.source)
        for ours, theirs in zip(splits(other), splits(irm), strict=True):
            for field in dataclasses.fields(Split):
                assert torch.equal(getattr(ours, field.name), getattr(theirs, field.name))

    def test_the_data_seed_changes_labels_colours_and_split(
        self, irm: Dataset, build: Callable[..., Dataset]
    ) -> None:
        other = build(seed=1)
        for name in ("x", "y", "attribute"):
            assert not torch.equal(getattr(other.train, name), getattr(irm.train, name))


class TestFingerprint:
    def test_equal_settings_give_equal_tensors_and_fingerprints(
        self, irm: Dataset, build: Callable[..., Dataset]
    ) -> None:
        again = build(convention="irm")
        assert again.fingerprint == irm.fingerprint
        assert all(torch.equal(a, b) for a, b in zip(tensors(again), tensors(irm), strict=True))

    def test_global_random_state_is_neither_read_nor_moved(
        self, irm: Dataset, build: Callable[..., Dataset]
    ) -> None:
        torch.manual_seed(99)
        before = torch.get_rng_state()
        assert build().fingerprint == irm.fingerprint
        assert torch.equal(torch.get_rng_state(), before)

    def test_every_setting_changes_it(self, build: Callable[..., Dataset]) -> None:
        pairs = {"train": 400, "held_out": 300}  # so few that both conventions have enough digits
        changes: list[dict[str, object]] = [
            {"convention": "domainbed"},
            {"label_noise": 0.2},
            {"train_agreements": [0.8, 0.85]},
            {"train_agreements": [0.7, 0.9]},
            {"test_agreement": 0.1},
            {"greyscale": True},
            {"seed": 1},
            {"pairs": pairs | {"train": 399}},
            {"pairs": pairs | {"held_out": 299}},
            {"pairs": pairs | {"seed": 1}},
        ]
        elsewhere = {"source", "split"}
        assert {key for change in changes for key in change} == (
            ColoredMnistSettings.model_fields.keys() - elsewhere
        )
        fingerprints = [build(**{"pairs": pairs, **change}).fingerprint for change in ({}, *changes)]
        assert len(set(fingerprints)) == len(fingerprints)

    def test_the_digits_themselves_change_it(
        self, irm: Dataset, build: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        digits = sklearn_digits()
        images = digits.images.copy()
        images[0, 0, 0] ^= 1
        monkeypatch.setattr(
            colored_mnist, "sklearn_digits", lambda: dataclasses.replace(digits, images=images)
        )
        assert build().fingerprint != irm.fingerprint

    def test_the_source_changes_it(
        self, irm: Dataset, build: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The same digits under the other name: only the settings differ.
        monkeypatch.setattr(
            colored_mnist, "_split", lambda *_: tuple(torch.arange(1797).split([1000, 297, 500]))
        )
        ours = build().fingerprint
        monkeypatch.setattr(colored_mnist, "mnist", sklearn_digits)
        assert build(source="mnist").fingerprint != ours


def test_irm_takes_every_second_pixel_of_mnist_and_all_of_the_small_digits(
    build: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = sklearn_digits()
    assert build().input_shape == (2, 8, 8)
    monkeypatch.setattr(colored_mnist, "mnist", lambda: digits)
    monkeypatch.setattr(colored_mnist, "_split", lambda *_: tuple(torch.arange(1797).split([1000, 297, 500])))
    dataset = build(source="mnist")
    expected = torch.from_numpy(np.ascontiguousarray(digits.images[:1000, ::2, ::2])).float() / 16
    assert torch.equal(as_tensor(dataset.train.x).sum(dim=1), expected)
    assert build(source="mnist", convention="domainbed").input_shape == (2, 8, 8)


class TestGreyscale:
    """An oracle: the colour decides nothing, but labels and groups are those of the coloured data."""

    def test_both_channels_hold_the_digit(self, irm: Dataset, build: Callable[..., Dataset]) -> None:
        grey = build(greyscale=True)
        for ours, theirs in zip(splits(grey), splits(irm), strict=True):
            digit = as_tensor(theirs.x).sum(dim=1)
            assert torch.equal(as_tensor(ours.x), torch.stack([digit, digit], dim=1))
            for name in ("y", "attribute", "environment"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name))

    def test_members_of_a_pair_are_the_same(self, build: Callable[..., Dataset]) -> None:
        pairs = build(greyscale=True).pairs
        assert torch.equal(as_tensor(pairs.a), as_tensor(pairs.b))


def test_paint_by_hand() -> None:
    grey = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    painted = paint(grey, torch.tensor([1, 0]))
    assert painted.tolist() == [[[[0.0, 0.0]], [[1.0, 2.0]]], [[[3.0, 4.0]], [[0.0, 0.0]]]]


@pytest.mark.parametrize(
    "bad",
    [
        {"label_noise": 1.1},
        {"test_agreement": -0.1},
        {"train_agreements": [0.5]},
        {"train_agreements": [0.5, 0.6, 0.7]},
        {"source": "usps"},
        {"convention": "spuco"},
        {"seed": -1},
        {"pairs": {"train": -1}},
        {"pairs": {"held_out": 0}},
        {"pairs": {"test": 3}},
    ],
)
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    (key,) = bad
    with pytest.raises(ValueError, match=key):
        ColoredMnistSettings.model_validate(bad)


class TestCorruptions:
    """The test split in its order, with the colour turned or faded; worked out by hand on two pixels."""

    @pytest.mark.parametrize("name", ["hue", "saturation"])
    def test_at_0_it_is_the_test_split(self, irm: Dataset, name: str) -> None:
        assert torch.equal(irm.corruptions[name](0.0)[:], as_tensor(irm.test.x))

    def test_at_1_the_hue_is_the_other_colour(self, irm: Dataset) -> None:
        assert torch.equal(irm.corruptions["hue"](1.0)[:], as_tensor(irm.test.x).flip(1))
        other = Split(
            irm.corruptions["hue"](1.0)[:], irm.test.y, 1 - irm.test.attribute, irm.test.environment
        )
        ink = as_tensor(other.x).flatten(2).sum(dim=2) > 0
        assert torch.equal(ink[:, 1].long(), other.attribute)

    @pytest.mark.parametrize("strength", [0.1, 0.25, 0.5, 0.8])
    def test_turning_the_hue_keeps_the_brightness(self, irm: Dataset, strength: float) -> None:
        turned = irm.corruptions["hue"](strength)[:]
        torch.testing.assert_close(turned.norm(dim=1), as_tensor(irm.test.x).norm(dim=1))
        assert not torch.equal(turned, as_tensor(irm.test.x))

    def test_half_way_the_hue_is_no_colour(self, irm: Dataset) -> None:
        turned = irm.corruptions["hue"](0.5)[:]
        torch.testing.assert_close(turned[:, 0], turned[:, 1])

    def test_at_1_the_saturation_is_grey(self, irm: Dataset) -> None:
        faded = irm.corruptions["saturation"](1.0)[:]
        digit = as_tensor(irm.test.x).sum(dim=1)
        assert torch.equal(faded, torch.stack([digit, digit], dim=1))

    def test_fading_leaves_the_own_channel_alone(self, irm: Dataset) -> None:
        faded = irm.corruptions["saturation"](0.25)[:]
        own = irm.test.attribute[:, None, None]
        first, second = faded.unbind(dim=1)
        assert torch.equal(torch.where(own == 0, first, second), as_tensor(irm.test.x).sum(dim=1))
        assert torch.equal(torch.where(own == 0, second, first), 0.25 * as_tensor(irm.test.x).sum(dim=1))

    def test_by_hand(self) -> None:
        x = torch.tensor([[[[1.0]], [[0.0]]], [[[0.0]], [[0.5]]]])
        # A third of the way is 30 degrees: cosine sqrt(3) / 2, sine 1 / 2.
        third = [[math.sqrt(3) / 2, 0.5], [0.25, math.sqrt(3) / 4]]
        torch.testing.assert_close(turn_hue(x, 1 / 3).flatten(1), torch.tensor(third))
        assert fade(x, 0.5).flatten(1).tolist() == [[1.0, 0.5], [0.25, 0.5]]

    @pytest.mark.parametrize("name", ["hue", "saturation"])
    @pytest.mark.parametrize("strength", [0.0, 0.3, 0.5, 1.0])
    def test_pixels_stay_in_range_and_the_test_split_as_it_is(
        self, irm: Dataset, name: str, strength: float
    ) -> None:
        before = as_tensor(irm.test.x).clone()
        corrupted = irm.corruptions[name](strength)[:]
        low, high = irm.input_range
        assert corrupted.shape == irm.test.x.shape
        assert low <= corrupted.min()
        assert corrupted.max() <= high
        assert torch.equal(as_tensor(irm.test.x), before)

    def test_domainbed_has_them_too(self, domainbed: Dataset) -> None:
        assert list(domainbed.corruptions) == ["hue", "saturation"]
        assert torch.equal(domainbed.corruptions["hue"](1.0)[:], as_tensor(domainbed.test.x).flip(1))

    def test_without_colour_there_is_none_to_corrupt(self, build: Callable[..., Dataset]) -> None:
        assert build(greyscale=True).corruptions == {}
