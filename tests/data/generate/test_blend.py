from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipgl.data.generate.blend import blend, blend_files


def plain(
    colour: tuple[int, int, int] | int, size: tuple[int, int] = (4, 2), mode: str = "RGB"
) -> Image.Image:
    return Image.new(mode, size, colour)


def test_the_mask_is_the_share_of_the_foreground() -> None:
    mask = Image.fromarray(np.array([[0, 51, 204, 255]], dtype=np.uint8))
    made = blend(plain((200, 100, 0), (4, 1)), mask, plain((100, 0, 50), (4, 1)))
    # 51 / 255 is 0.2: 0.2 * 200 + 0.8 * 100 = 120, and so on.
    assert np.asarray(made)[0].tolist() == [[100, 0, 50], [120, 20, 40], [180, 80, 10], [200, 100, 0]]


def test_the_background_is_cropped_about_its_centre_not_squeezed() -> None:
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, :15], wide[:, 15:25], wide[:, 25:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    made = blend(plain(0, (10, 10)), plain(0, (10, 10), "L"), Image.fromarray(wide))
    assert np.asarray(made).reshape(-1, 3).tolist() == [[0, 255, 0]] * 100


def test_a_small_background_is_enlarged() -> None:
    assert blend(plain(0, (30, 20)), plain(0, (30, 20), "L"), plain((9, 8, 7), (3, 5))).getpixel(
        (29, 19)
    ) == (9, 8, 7)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have the same size, but got mask=4x3, image=4x2"):
        blend(plain(0), plain(0, (4, 3), "L"), plain(0))


class TestFiles:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[Path]:
        paths = [tmp_path / name for name in ("bird.png", "mask.png", "place.png")]
        plain((255, 0, 0)).save(paths[0])
        plain(255, mode="L").save(paths[1])
        plain((0, 0, 255)).save(paths[2])
        return paths

    def test_grey_images_and_masks_with_alpha_are_read(self, files: list[Path]) -> None:
        plain(7, mode="L").save(files[2])
        Image.merge("LA", [plain(0, mode="L"), plain(255, mode="L")]).save(files[1])
        assert blend_files(*files).getpixel((0, 0)) == (7, 7, 7)

    @pytest.mark.parametrize("position", range(3))
    def test_a_missing_file_is_named(self, files: list[Path], position: int) -> None:
        files[position].unlink()
        with pytest.raises(OSError, match=f"{files[position].name} is missing"):
            blend_files(*files)

    @pytest.mark.parametrize("position", range(3))
    @pytest.mark.parametrize("content", ["half", "text", "empty"])
    def test_a_damaged_file_is_named(self, files: list[Path], position: int, content: str) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(files[position])
        whole = files[position].read_bytes()
        files[position].write_bytes(
            {"half": whole[: len(whole) // 2], "text": b"<html>", "empty": b""}[content]
        )
        with pytest.raises(OSError, match=rf"{files[position].name} cannot be read as an image \("):
            blend_files(*files)

    def test_a_mask_of_another_size_is_named_with_its_image(self, files: list[Path]) -> None:
        plain(255, (5, 5), "L").save(files[1])
        with pytest.raises(ValueError, match=r"mask=5x5, image=4x2 \(.*mask.png, .*bird.png\); use the mask"):
            blend_files(*files)
