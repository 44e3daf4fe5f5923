"""Changes of pairs, alike for both members, and the adversarial augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from ipg_reference import ipg_settings
from torch import nn

from ipgl.data import Batch, Dataset, PairBatch, PairSet, Split
from ipgl.methods import MethodContext, StepReport
from ipgl.methods.ipg import Ipg
from ipgl.methods.ipg.augment import adversarial, augmented
from ipgl.methods.ipg.settings import AdversarialSettings, AugmentSettings
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


def images(
    count: int = 40, height: int = 7, width: int = 7, seed: int = 0, channels: int = 2
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Nowhere 0, so that what came in from outside is told from what was there.
    return 0.1 + 0.9 * torch.rand(count, channels, height, width, generator=generator)


def pairs_of(a: torch.Tensor, b: None = None) -> PairBatch:
    return PairBatch(
        a, images(len(a), a.shape[2], a.shape[3], seed=1) if b is None else b, torch.arange(len(a))
    )


def rolled(image: torch.Tensor, down: int, across: int) -> torch.Tensor:
    """Moved by whole pixels; what comes in is 0."""
    height, width = image.shape[1:]
    moved = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - across < width:
                moved[:, row, column] = image[:, row - down, column - across]
    return moved


def test_nothing_asked_for_changes_nothing() -> None:
    pairs = pairs_of(images())
    assert augmented(pairs, AugmentSettings()) is pairs


@pytest.mark.parametrize(("height", "width"), [(7, 7), (6, 9), (28, 28)])
def test_a_shift_is_by_whole_pixels_the_same_for_both_members_and_its_own_for_each_pair(
    height: int, width: int
) -> None:
    count = 40 if height < 28 else 12
    pairs = pairs_of(images(count, height, width))
    torch.manual_seed(2)
    moved = augmented(pairs, AugmentSettings(shift_pixels=2))
    found = set()
    for i in range(count):
        fits = [
            (down, across)
            for down in range(-2, 3)
            for across in range(-2, 3)
            if torch.allclose(moved.a[i], rolled(pairs.a[i], down, across), rtol=0, atol=2e-5)
        ]
        assert len(fits) == 1
        torch.testing.assert_close(moved.b[i], rolled(pairs.b[i], *fits[0]), rtol=0, atol=2e-5)
        found.add(fits[0])
    assert len(found) > 6
    assert torch.equal(moved.y, pairs.y)


def test_every_shift_up_to_the_largest_comes_up_and_no_larger() -> None:
    one = torch.zeros(600, 1, 5, 5)
    one[:, 0, 2, 2] = 1.0
    torch.manual_seed(0)
    moved = augmented(PairBatch(one, one, torch.zeros(600)), AugmentSettings(shift_pixels=1))
    places = moved.a[:, 0].flatten(1).argmax(dim=1).bincount(minlength=25).view(5, 5)
    assert torch.equal(
        places > 0, torch.tensor([[0, 0, 0, 0, 0], *[[0, 1, 1, 1, 0]] * 3, [0, 0, 0, 0, 0]]) > 0
    )
    assert (places[1:4, 1:4] - 600 / 9).abs().max().item() < 4 * math.sqrt(600 / 9)


EACH = {
    "shift": AugmentSettings(shift_pixels=2),
    "rotate": AugmentSettings(rotate_degrees=40.0),
    "scale": AugmentSettings(scale=0.3),
    "flip": AugmentSettings(flip=True),
    "mix": AugmentSettings(mix=0.5),
    "all": AugmentSettings(shift_pixels=1, rotate_degrees=20.0, scale=0.2, flip=True, mix=1.0),
}


@pytest.mark.parametrize("settings", EACH.values(), ids=EACH)
def test_equal_members_stay_equal(settings: AugmentSettings) -> None:
    torch.manual_seed(1)
    a = images()
    pairs = augmented(PairBatch(a, a.clone(), torch.arange(len(a))), settings)
    assert torch.equal(pairs.a, pairs.b)
    assert pairs.a.shape == a.shape
    assert not torch.allclose(pairs.a, a, atol=0.05)
    assert torch.equal(a, images())  # the given pairs are left alone


def test_a_flip_mirrors_left_and_right_half_of_the_time() -> None:
    pairs = pairs_of(images(400))
    torch.manual_seed(0)
    moved = augmented(pairs, AugmentSettings(flip=True))
    flips = 0
    for i in range(400):
        flipped = torch.allclose(moved.a[i], pairs.a[i].flip(2), atol=2e-5)
        assert flipped != torch.allclose(moved.a[i], pairs.a[i], atol=2e-5)
        expected = pairs.b[i].flip(2) if flipped else pairs.b[i]
        torch.testing.assert_close(moved.b[i], expected, rtol=0, atol=2e-5)
        flips += flipped
    assert abs(flips - 200) < 40  # four standard deviations


def draw_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every uniform draw is its largest value."""
    monkeypatch.setattr(torch, "rand", lambda count, device=None: torch.ones(count))


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 8)])
def test_a_half_turn_mirrors_both_axes(monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    pairs = pairs_of(images(3, height, width))
    draw_the_limit(monkeypatch)
    moved = augmented(pairs, AugmentSettings(rotate_degrees=180.0))
    torch.testing.assert_close(moved.a, pairs.a.flip(2, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(moved.b, pairs.b.flip(2, 3), rtol=0, atol=1e-5)


def test_a_quarter_turn_is_rigid_in_an_oblong_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """A square in the middle of an image twice as wide as high turns without being stretched."""
    square = images(1, 6, 6)
    draw_the_limit(monkeypatch)
    a = torch.zeros(1, 2, 6, 12)
    a[..., 3:9] = square
    moved = augmented(PairBatch(a, a, torch.zeros(1)), AugmentSettings(rotate_degrees=90.0)).a
    turns = [torch.rot90(square, k, (2, 3)) for k in (1, -1)]
    assert any(torch.allclose(moved[..., 3:9], turn, atol=1e-4) for turn in turns)
    assert moved[..., :3].abs().max().item() < 1e-4


def test_scaling_by_a_fixed_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    # Sampling at 1.5 times each distance from the middle shrinks the image: the pixel in the middle stays.
    draw_the_limit(monkeypatch)
    ramp = torch.arange(-4.0, 5.0).expand(1, 1, 9, 9) + 10
    moved = augmented(PairBatch(ramp, ramp, torch.zeros(1)), AugmentSettings(scale=0.5)).a
    inside = moved[0, 0, 4, 2:7]  # columns -2 to 2 look at -3 to 3
    torch.testing.assert_close(inside, 10 + 1.5 * torch.arange(-2.0, 3.0), rtol=0, atol=1e-4)
    assert moved[0, 0, 4, 0].item() == 0.0  # column -4 looks at -6, which is outside


@pytest.mark.parametrize("change", ["shift", "rotate", "scale", "flip"])
def test_inputs_that_are_no_images_cannot_be_moved(change: str) -> None:
    flat = torch.zeros(4, 5)
    with pytest.raises(ValueError, match=r"only as images \[P, C, H, W\], but got \(4, 5\)"):
        augmented(PairBatch(flat, flat, torch.zeros(4)), EACH[change])


def test_mixing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, order = [], torch.tensor([2, 0, 1])

    def sample(self: torch.distributions.Beta, shape: tuple[int, ...] = ()) -> torch.Tensor:
        asked.append((self.concentration1.item(), self.concentration0.item()))
        return torch.tensor(0.3)

    monkeypatch.setattr(torch.distributions.Beta, "sample", sample)
    monkeypatch.setattr(torch, "randperm", lambda count, device=None: order)
    a, b = (
        torch.randn(3, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1)
    )  # need not be images
    mixed = augmented(PairBatch(a, b, torch.arange(3)), AugmentSettings(mix=0.4))
    torch.testing.assert_close(
        mixed.a, torch.stack([0.3 * a[i] + 0.7 * a[j] for i, j in enumerate((2, 0, 1))])
    )
    torch.testing.assert_close(
        mixed.b, torch.stack([0.3 * b[i] + 0.7 * b[j] for i, j in enumerate((2, 0, 1))])
    )
    assert asked == [pytest.approx((0.4, 0.4))]


# --- adversarial ---

LOW, HIGH = -1.0, 3.0  # a range of 4: epsilon 0.1 is 0.4 in pixel values


def make_model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(6, 5), nn.Tanh()), 5, 3).double()


def flat_pairs(count: int = 8) -> PairBatch:
    generator = torch.Generator().manual_seed(4)
    a = LOW + (HIGH - LOW) * torch.rand(count, 6, generator=generator, dtype=torch.float64)
    b = (a + 0.1 * torch.randn(count, 6, generator=generator, dtype=torch.float64)).clamp(LOW, HIGH)
    return PairBatch(a, b, torch.zeros(count, dtype=torch.int64))


def rationale_of(model: Classifier) -> Callable[..., torch.Tensor]:
    """D with every matrix made."""

    def value(pairs: PairBatch) -> torch.Tensor:
        difference = model.features(pairs.a) - model.features(pairs.b)
        return torch.einsum("kj,pj->pkj", model.head.weight, difference).square().sum(dim=(1, 2)).mean()

    return value


def test_one_step_by_hand() -> None:
    # D = mean (a - b)^2 rises with a where a > b; epsilon 0.05 is 0.2 here, the step 0.1.
    pairs = PairBatch(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.5]]), torch.zeros(1))
    settings = AdversarialSettings(steps=1, epsilon=0.05, step_size=0.025)
    moved = adversarial(pairs, lambda p: (p.a - p.b).square().mean(), settings, LOW, HIGH)
    assert moved.a[0].tolist() == pytest.approx([2.1, -0.1], abs=1e-6)
    assert moved.b[0].tolist() == pytest.approx([0.9, 0.6], abs=1e-6)
    # Five steps would reach 0.5; the ball ends at 0.2.
    settings = AdversarialSettings(steps=5, epsilon=0.05, step_size=0.025)
    moved = adversarial(pairs, lambda p: (p.a - p.b).square().mean(), settings, LOW, HIGH)
    assert moved.a[0].tolist() == pytest.approx([2.2, -0.2], abs=1e-6)
    assert moved.b[0].tolist() == pytest.approx([0.8, 0.7], abs=1e-6)


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_members_stay_in_the_ball_and_in_the_range_and_differ_more(random_start: bool, steps: int) -> None:
    model, pairs = make_model(), flat_pairs()
    value = rationale_of(model)
    settings = AdversarialSettings(steps=steps, epsilon=0.1, step_size=0.05, random_start=random_start)
    torch.manual_seed(0)
    moved = adversarial(pairs, value, settings, LOW, HIGH)
    for before, after in ((pairs.a, moved.a), (pairs.b, moved.b)):
        assert (after - before).abs().max().item() <= 0.4 + 1e-12
        assert (after - before).abs().max().item() > 0.15  # and they went as far as they might
        assert after.min().item() >= LOW
        assert after.max().item() <= HIGH
        assert not after.requires_grad
    assert (moved.a == HIGH).any() or (moved.a == LOW).any()  # the range did bind
    with torch.no_grad():
        if not random_start or steps > 1:
            assert value(moved).item() > 1.2 * value(pairs).item()
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(pairs.a, flat_pairs().a)


def test_a_random_start_is_within_the_ball_and_is_random() -> None:
    seen = []

    def watch(pairs: PairBatch) -> torch.Tensor:
        seen.append((pairs.a.detach().clone(), pairs.b.detach().clone()))
        return (pairs.a - pairs.b).square().sum()

    pairs = flat_pairs()
    settings = AdversarialSettings(steps=1, epsilon=0.1, step_size=0.05, random_start=True)
    torch.manual_seed(0)
    for _ in range(2):
        adversarial(pairs, watch, settings, LOW, HIGH)
    for a, b in seen:
        for start, middle in ((a, pairs.a), (b, pairs.b)):
            assert 0.3 < (start - middle).abs().max().item() <= 0.4
    assert not torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(seen[0][0] - pairs.a, seen[0][1] - pairs.b)  # each member its own


def make_context(toys: type[Toys], model: Classifier) -> MethodContext:
    x = torch.zeros(2, 6, dtype=torch.float64)
    y = torch.tensor([0, 1])
    split, none = Split(x, y, y, y), PairSet(x, x, y, y)
    dataset = Dataset(split, split, split, none, none, ("0", "1", "2"), ("0", "1"), "", (LOW, HIGH))
    return toys.context(model, lr=0.1, dataset=dataset)


def ipg_step(toys: type[Toys], **settings: object) -> tuple[Classifier, StepReport]:
    model, pairs = make_model(), flat_pairs()
    y = torch.zeros(8, dtype=torch.int64)
    batch = Batch(pairs.a.flip(0), y, y, y, torch.arange(8))
    torch.manual_seed(1)
    method = Ipg(ipg_settings(adaptivity="off", **settings), make_context(toys, model))
    return model, method.step(model, batch, pairs)


def test_no_steps_are_off(toys: type[Toys]) -> None:
    plain, _ = ipg_step(toys)
    off, _ = ipg_step(toys, adversarial=AdversarialSettings(steps=0, epsilon=0.5, random_start=True))
    on, _ = ipg_step(toys, adversarial=AdversarialSettings(steps=1, epsilon=0.5))
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), off.parameters(), strict=True))
    assert not torch.equal(plain.head.weight, on.head.weight)


def test_a_step_corrects_on_the_moved_members(toys: type[Toys]) -> None:
    """The step equals that of a method without the augmentation that is given the moved members."""
    settings = AdversarialSettings(steps=2, epsilon=0.1, step_size=0.05)
    found, report = ipg_step(toys, adversarial=settings, update="additive")
    model, pairs = make_model(), flat_pairs()
    moved = adversarial(pairs, rationale_of(model), settings, LOW, HIGH)  # judged before the step
    y = torch.zeros(8, dtype=torch.int64)
    batch = Batch(pairs.a.flip(0), y, y, y, torch.arange(8))
    method = Ipg(ipg_settings(adaptivity="off", update="additive"), make_context(toys, model))
    expected = method.step(model, batch, moved)
    for p, q in zip(found.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
    assert report.scalars["discrepancy"].item() == pytest.approx(
        expected.scalars["discrepancy"].item(), rel=1e-12
    )
