"""Changes that both members of a pair undergo alike, and the adversarial one that drives them apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ipgl.data import PairBatch
from ipgl.methods.ipg.augment import adversarial, augmented
from ipgl.methods.ipg.discrepancy import rationale
from ipgl.methods.ipg.settings import AdversarialSettings, AugmentSettings

PAIRS, CHANNELS, HEIGHT, WIDTH = 12, 2, 5, 7


def image_pairs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(PAIRS, CHANNELS, HEIGHT, WIDTH, generator=generator)
    return PairBatch(a, a.flip(1), torch.arange(PAIRS) % 2)


def shifted(image, down, across):
    """The image moved by whole pixels, zeros where nothing comes from; `down` and `across` may be negative."""
    result = torch.zeros_like(image)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            if 0 <= row - down < HEIGHT and 0 <= column - across < WIDTH:
                result[:, row, column] = image[:, row - down, column - across]
    return result


def find_shift(before, after, limit):
    """The shift that leads from one image to the other."""
    found = [
        (down, across)
        for down in range(-limit, limit + 1)
        for across in range(-limit, limit + 1)
        if torch.allclose(shifted(before, down, across), after, atol=1e-5)
    ]
    assert len(found) == 1
    return found[0]


def test_shifts_are_whole_pixels_alike_for_both_members_and_differ_between_pairs():
    pairs = image_pairs()
    shifts = set()
    for seed in range(8):
        torch.manual_seed(seed)
        moved = augmented(pairs, AugmentSettings(shift_pixels=2))
        for number in range(PAIRS):
            shift = find_shift(pairs.a[number], moved.a[number], 2)
            assert shift == find_shift(pairs.b[number], moved.b[number], 2)
            shifts.add(shift)
        assert torch.equal(moved.y, pairs.y)
    assert shifts == {(down, across) for down in range(-2, 3) for across in range(-2, 3)}


def test_flips_mirror_about_half_of_the_pairs():
    pairs = image_pairs()
    mirrored = 0
    for seed in range(20):
        torch.manual_seed(seed)
        moved = augmented(pairs, AugmentSettings(flip=True))
        for number in range(PAIRS):
            same = torch.allclose(moved.a[number], pairs.a[number], atol=1e-5)
            other = torch.allclose(moved.a[number], pairs.a[number].flip(-1), atol=1e-5)
            assert same != other
            member = pairs.b[number].flip(-1) if other else pairs.b[number]
            torch.testing.assert_close(moved.b[number], member, atol=1e-5, rtol=0)
            mirrored += other
    assert 0.4 < mirrored / (20 * PAIRS) < 0.6


def test_rotation_and_scale_move_both_members_alike():
    pairs = image_pairs()
    twins = PairBatch(pairs.a, pairs.a.clone(), pairs.y)
    torch.manual_seed(0)
    moved = augmented(twins, AugmentSettings(rotate_degrees=30, scale=0.2))
    assert torch.equal(moved.a, moved.b)
    assert not torch.allclose(moved.a, pairs.a, atol=0.05)


def test_a_half_turn_by_hand():
    # Rotations up to 180 degrees: one whose draw is (nearly) the largest turns the image upside down.
    image = torch.rand(1, 1, 5, 5)
    pairs = PairBatch(image, image.clone(), torch.zeros(1, dtype=torch.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *a, **k: torch.ones(1))
        moved = augmented(pairs, AugmentSettings(rotate_degrees=180))
    torch.testing.assert_close(moved.a, image.flip(-1, -2), atol=1e-4, rtol=0)


def test_mixing_takes_one_share_and_one_partner_for_both_members():
    pairs = image_pairs()
    torch.manual_seed(0)
    moved = augmented(pairs, AugmentSettings(mix=0.5))
    for number in range(PAIRS):
        # Solve for the share with each possible partner; the right one explains both members.
        explained = False
        for partner in range(PAIRS):
            direction = pairs.a[partner] - pairs.a[number]
            size = direction.square().sum()
            share = ((moved.a[number] - pairs.a[number]) * direction).sum() / size if size else 0.0
            mixed = [(1 - share) * x[number] + share * x[partner] for x in (pairs.a, pairs.b)]
            explained |= torch.allclose(mixed[0], moved.a[number], atol=1e-5) and torch.allclose(
                mixed[1], moved.b[number], atol=1e-5
            )
        assert explained


def test_off_is_off():
    pairs = image_pairs()
    assert augmented(pairs, AugmentSettings()) is pairs


def test_only_images_can_be_moved():
    vectors = PairBatch(torch.rand(3, 4), torch.rand(3, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"only as images \[P, C, H, W\], but got \(3, 4\)"):
        augmented(vectors, AugmentSettings(shift_pixels=1))
    assert augmented(vectors, AugmentSettings(mix=1.0)).a.shape == (3, 4)


# --- adversarial ---


def linear_head():
    torch.manual_seed(0)
    return nn.Linear(CHANNELS * HEIGHT * WIDTH, 3)


def discrepancy_of(head):
    return lambda pairs: rationale(pairs.a.flatten(1), pairs.b.flatten(1), head)


def attack(pairs, low=0.0, high=1.0, **settings):
    head = linear_head()
    return adversarial(pairs, discrepancy_of(head), AdversarialSettings(**settings), low, high)


def test_one_step_by_hand():
    # D = c (a - b)^2 rises where a and b move apart: each by the step, the ball and the range permitting.
    a, b = torch.tensor([[0.5, 0.98, 0.2]]), torch.tensor([[0.3, 0.5, 0.21]])
    pairs = PairBatch(a, b, torch.zeros(1, dtype=torch.int64))
    moved = adversarial(
        pairs,
        lambda p: (p.a - p.b).square().sum(),
        AdversarialSettings(steps=1, epsilon=0.1, step_size=0.05),
        0.0,
        1.0,
    )
    torch.testing.assert_close(moved.a, torch.tensor([[0.55, 1.0, 0.15]]))
    torch.testing.assert_close(moved.b, torch.tensor([[0.25, 0.45, 0.26]]))


@pytest.mark.parametrize("random_start", [False, True])
def test_members_stay_in_ball_and_range_and_differ_more(random_start):
    torch.manual_seed(1)
    pairs = image_pairs()
    moved = attack(pairs, steps=5, epsilon=0.1, step_size=0.05, random_start=random_start)
    value = discrepancy_of(linear_head())
    assert value(moved) > 1.2 * value(pairs)
    for before, after in ((pairs.a, moved.a), (pairs.b, moved.b)):
        assert (after - before).abs().max() <= 0.1 + 1e-6
        assert 0.0 <= after.min() <= after.max() <= 1.0
        assert not after.requires_grad
    assert (moved.a - pairs.a).abs().max() > 0.099  # five steps of half the radius reach its edge
    assert torch.equal(moved.y, pairs.y)


def test_radius_and_step_are_shares_of_the_input_s_range():
    pairs = image_pairs()
    wide = PairBatch(10 * pairs.a - 5, 10 * pairs.b - 5, pairs.y)
    moved = attack(wide, low=-5.0, high=5.0, steps=5, epsilon=0.1, step_size=0.05)
    distance = (moved.a - wide.a).abs().max().item()
    assert 0.99 < distance <= 1.0 + 1e-5
    assert moved.a.min() >= -5
    assert moved.a.max() <= 5


def test_more_steps_drive_members_further_apart():
    pairs, value = image_pairs(), discrepancy_of(linear_head())
    values = [value(attack(pairs, steps=steps, epsilon=0.2)).item() for steps in (1, 2, 4)]
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_the_model_s_gradients_are_left_alone():
    head = linear_head()
    adversarial(image_pairs(), discrepancy_of(head), AdversarialSettings(steps=2), 0.0, 1.0)
    assert head.weight.grad is None
    assert head.weight.requires_grad
