"""Random resized crops: distribution of the boxes, and the resized images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from image_files import picture
from narrowing import as_tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ipgl.data.augment import RandomResizedCrop, crop_batch, crop_one

USUAL = RandomResizedCrop()


def draw(
    count: int = 20_000,
    height: int = 256,
    width: int = 256,
    seed: int = 0,
    crop: RandomResizedCrop = USUAL,
) -> torch.Tensor:
    return crop.draw(count, height, width, np.random.default_rng(seed))


def test_boxes_lie_in_the_image_and_keep_to_the_limits() -> None:
    top, left, height, width, mirrored = draw().unbind(dim=1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 256).all()
    assert (left + width <= 256).all()
    share, ratio = height * width / 256**2, width / height
    assert 0.695 < share.min() < 0.71
    assert 0.99 < share.max() <= 1
    assert 0.745 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.34
    assert set(mirrored.tolist()) == {0, 1}
    assert abs(mirrored.float().mean() - 0.5) < 0.02


def test_the_distribution_is_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = v2.RandomResizedCrop(224, scale=(0.7, 1.0))
    image = torch.zeros(3, 256, 256, dtype=torch.uint8)
    params = [theirs.make_params([image]) for _ in range(8000)]
    for number, name in enumerate(("top", "left", "height", "width")):
        expected = torch.tensor([float(p[name]) for p in params])
        found = draw(8000)[:, number].float()
        # Four standard errors of a difference of means, and of the spreads within 5%.
        assert abs(found.mean() - expected.mean()) < 4 * expected.std() * (2 / 8000) ** 0.5, name
        assert found.std().item() == pytest.approx(expected.std().item(), rel=0.05), name


def test_where_no_box_fits_the_largest_is_taken_from_the_middle() -> None:
    # Twice as wide as high, but as large as the whole square image: no such box.
    assert (
        draw(3, 100, 100, crop=RandomResizedCrop((1, 1), (2, 2), flip=False)).tolist()
        == [[25, 0, 50, 100, 0]] * 3
    )


def test_the_whole_image_is_a_box() -> None:
    assert (
        draw(2, 30, 40, crop=RandomResizedCrop((1, 1), (4 / 3, 4 / 3), flip=False)).tolist()
        == [[0, 0, 30, 40, 0]] * 2
    )


def test_equal_generators_give_equal_boxes() -> None:
    assert torch.equal(draw(50), draw(50))
    assert not torch.equal(draw(50), draw(50, seed=1))


def pixels() -> torch.Tensor:
    return as_tensor(functional.pil_to_tensor(picture(0, 64, 48)))


@pytest.mark.parametrize("mirrored", [0, 1])
def test_a_box_is_cut_resized_and_mirrored(mirrored: int) -> None:
    expected = functional.resized_crop(pixels(), 3, 5, 30, 40, [28, 36], antialias=True)
    expected = functional.horizontal_flip(expected) if mirrored else expected
    assert torch.equal(crop_one(pixels(), [3, 5, 30, 40, mirrored], 28, 36), expected)


def test_without_resizing_the_pixels_stay() -> None:
    assert torch.equal(crop_one(pixels(), [2, 4, 20, 30, 0], 20, 30), pixels()[:, 2:22, 4:34])


def test_the_batched_crop_for_devices_agrees() -> None:
    boxes = torch.tensor([[3, 5, 30, 40, 0], [0, 0, 48, 64, 1], [10, 2, 33, 44, 1], [2, 4, 28, 36, 0]])
    batch = crop_batch(pixels().float().expand(4, 3, 48, 64), boxes, 28, 36)
    for found, box in zip(batch, boxes.tolist(), strict=True):
        expected = crop_one(pixels(), box, 28, 36).float()
        # Smooth picture; the other side has antialiasing and rounds to whole pixel values.
        assert (found - expected).abs().mean() < 1.5
    assert torch.allclose(batch[3], pixels()[:, 2:30, 4:40].float(), atol=1e-2)
