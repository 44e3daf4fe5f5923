"""Composition of a foreground and a background image by a segmentation mask."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps


def blend(foreground: Image.Image, mask: Image.Image, background: Image.Image) -> Image.Image:
    """`mask / 255 * foreground + (1 - mask / 255) * background`, RGB in the foreground's size.

    The background is cropped about its centre to the foreground's aspect ratio and resampled to its size, as in the
    Waterbirds generator of Sagawa et al. 2020 ("Distributionally Robust Neural Networks for Group Shifts").

    Args:
        foreground: RGB.
        mask: Grey, of the foreground's size; 255 is wholly foreground (CUB-200-2011's masks have grey borders,
            where its annotators disagreed).
        background: RGB of any size.

    Raises:
        ValueError: The mask has another size than the foreground.
    """
    if mask.size != foreground.size:
        raise ValueError(
            f"mask and image must have the same size, but got mask={_size(mask)}, image={_size(foreground)}"
        )
    place = ImageOps.fit(background, foreground.size, Image.Resampling.LANCZOS)
    return Image.composite(foreground, place, mask)


def blend_files(foreground: Path, mask: Path, background: Path) -> Image.Image:
    """`blend` of three files.

    Raises:
        OSError: A file is missing or damaged; the message names it.
        ValueError: The mask has another size than the foreground; the message names both.
    """
    parts = [_read(foreground, "RGB"), _read(mask, "L"), _read(background, "RGB")]
    try:
        return blend(*parts)
    except ValueError as error:
        raise ValueError(f"{error} ({mask}, {foreground}); use the mask that belongs to this image") from None


def _read(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except FileNotFoundError:
        raise OSError(f"{path} is missing") from None
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damage
        raise OSError(f"{path} cannot be read as an image ({' '.join(str(error).split())})") from None


def _size(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"
