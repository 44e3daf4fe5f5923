"""ColoredMNIST: digits whose colour correlates with a noisy binary label in training, less so in validation and test.

Two conventions are in use; both are implemented:

- `irm` (Arjovsky et al. 2019, "Invariant Risk Minimization"): 2 x 14 x 14 (every second pixel); training
  environments in which the colour disagrees with the label with probability 0.2 and 0.1. Both training
  environments come from MNIST's digits 0 to 49,999. The original tests on 50,000 to 59,999 and has no validation
  split; here those validate, and MNIST's own test digits (60,000 to 69,999) test. `split: original` exchanges the
  two, so that training and test digits are the original's and validation touches neither.
- `domainbed` (Gulrajani and Lopez-Paz 2021): 2 x 28 x 28; development and test digits pooled, permuted and
  dealt in turn to environments with 0.1, 0.2 and (test) 0.9; a fifth of each training environment validates.

In both, `label = digit < 5`, flipped with probability 0.25; `colour = label`, flipped with the environment's
probability; the channel `1 - colour` is zero. Others differ: SubpopBench uses 3 x 224 x 224 and `digit >= 5`,
SpuCo colours the background behind five classes of digit pairs.

The test split's colour agrees with the label half of the time by default, where the conventions use 0.1: the
mixture curve re-weights groups exactly, so its value at severity 0.9 *is* the accuracy at 10% agreement, and
every group is measured equally well. `test_agreement: 0.1` restores the conventions' split.

No two digits of MNIST are equal, whole or at every second pixel, nor are two of scikit-learn's: no digit is in two
splits (`tests/data/test_copies.py` compares them all).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from ipgl.config import Settings
from ipgl.core.errors import DataError
from ipgl.data.batch_order import derive_seed
from ipgl.data.digits import Digits, mnist, sklearn_digits
from ipgl.data.split_inputs import LazyTransform
from ipgl.data.types import Dataset, PairSet, Split

Probability = Annotated[float, Field(ge=0, le=1)]


class PairSettings(Settings):
    """Counterfactual pairs: one training digit in both colours."""

    train: int = Field(500, ge=0, description="Pairs that training may use.")
    held_out: int = Field(500, ge=1, description="Pairs that only measure invariance; from other digits.")
    seed: int = Field(0, ge=0, description="Which digits become pairs.")


class ColoredMnistSettings(Settings):
    """Settings of `colored_mnist`."""

    source: Literal["mnist", "digits"] = Field(
        "mnist", description="digits: scikit-learn's 1,797 8x8 digits."
    )
    convention: Literal["irm", "domainbed"] = "irm"
    split: Literal["source", "original"] = Field(
        "source",
        description="MNIST digits that test in the irm convention; source: MNIST's own test digits; "
        "original: 50,000 to 59,999 as in the original's code, while MNIST's own test digits validate.",
    )
    label_noise: Probability = Field(0.25, description="Share of labels that are flipped.")
    train_agreements: tuple[Probability, Probability] = Field(
        (0.8, 0.9), description="How often colour agrees with the label in the two training environments."
    )
    test_agreement: Probability = 0.5
    greyscale: bool = Field(
        False,
        description="Both channels hold the grey digit: an oracle, to see what is possible without colour.",
    )
    seed: int = Field(0, ge=0, description="Label noise, colours, and (for digits and domainbed) the split.")
    pairs: PairSettings = PairSettings()

    @model_validator(mode="after")
    def _original_is_of_mnist(self) -> ColoredMnistSettings:
        if self.split == "original" and (self.source, self.convention) != ("mnist", "irm"):
            raise ValueError(
                "split: original names MNIST's digits in the irm convention, but got "
                f"source={self.source}, convention={self.convention}; leave split out, or set source: mnist and "
                "convention: irm"
            )
        return self


def build_colored_mnist(settings: ColoredMnistSettings) -> Dataset:
    """Build the data set; equal settings give equal tensors.

    Raises:
        DataError: The digits cannot be had, or more pairs are asked for than there are training digits.
    """
    digits = mnist() if settings.source == "mnist" else sklearn_digits()
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, "colored_mnist"))
    train, validation, test = _split(settings, digits, generator)
    _check_pairs(settings.pairs, len(train))

    label = torch.from_numpy(digits.labels < 5).long()
    label = label ^ _bernoulli(len(label), settings.label_noise, generator)
    agreement = torch.full((len(label),), settings.test_agreement, dtype=torch.float64)
    environment = torch.full((len(label),), len(settings.train_agreements))
    for number, value in enumerate(settings.train_agreements):
        for part in (train, validation):
            agreement[part[number::2]] = value
            environment[part[number::2]] = number
    colour = label ^ (torch.rand(len(label), generator=generator, dtype=torch.float64) >= agreement).long()

    grey = torch.from_numpy(digits.images)
    if settings.convention == "irm" and settings.source == "mnist":
        grey = grey[:, ::2, ::2]
    grey = grey.float() / digits.peak

    def split(index: Tensor, x: Tensor | None = None) -> Split:
        x = _image(settings, grey[index], colour[index]) if x is None else x
        return Split(x, label[index], colour[index], environment[index])

    pair_order = torch.randperm(
        len(train), generator=torch.Generator().manual_seed(derive_seed(settings.pairs.seed, "pairs"))
    )

    def pairs(position: Tensor) -> PairSet:
        index = train[position]
        zeros = torch.zeros(len(index), dtype=torch.int64)
        return PairSet(
            _image(settings, grey[index], zeros),
            _image(settings, grey[index], zeros + 1),
            label[index],
            position,
        )

    counts = settings.pairs
    tested = _image(settings, grey[test], colour[test])
    return Dataset(
        train=split(train),
        validation=split(validation),
        test=split(test, tested),
        pairs=pairs(pair_order[: counts.train]),
        held_out_pairs=pairs(pair_order[counts.train : counts.train + counts.held_out]),
        class_names=("digit >= 5", "digit < 5"),
        attribute_names=("colour 0", "colour 1"),
        fingerprint=_fingerprint(settings, digits, label, colour, pair_order),
        corruptions={} if settings.greyscale else _corruptions(tested),
    )


def _corruptions(x: Tensor) -> dict[str, Callable[[float], LazyTransform]]:
    """By name, functions of a strength that give the coloured images `[N, 2, H, W]` with the corruption."""
    return {
        "hue": partial(_lazily_transformed, x, turn_hue),
        "saturation": partial(_lazily_transformed, x, fade),
    }


def _lazily_transformed(x: Tensor, transform: Callable[..., Tensor], strength: float) -> LazyTransform:
    return LazyTransform(x, partial(transform, strength=strength))


def _image(settings: ColoredMnistSettings, grey: Tensor, colour: Tensor) -> Tensor:
    return grey.unsqueeze(1).repeat(1, 2, 1, 1) if settings.greyscale else paint(grey, colour)


def paint(grey: Tensor, colour: Tensor) -> Tensor:
    """Grey digits `[N, H, W]` in their colours (int64 `[N]`): `[N, 2, H, W]`, the channel `1 - colour` zero."""
    image = torch.zeros(grey.shape[0], 2, *grey.shape[1:])
    image[torch.arange(grey.shape[0]), colour] = grey
    return image


def turn_hue(x: Tensor, strength: float) -> Tensor:
    """Images `[N, 2, H, W]` whose hue is turned towards the other colour, by way of colours never seen in training.

    0 is the own colour, 0.5 both channels alike, 1 the other colour; the brightness (Euclidean over channels) stays.
    """
    angle = strength * math.pi / 2
    # At strength 1 the own channel is exactly 0, which math.cos(math.pi / 2) is not.
    own, other = (math.cos(angle), math.sin(angle)) if strength < 1 else (0.0, 1.0)
    return own * x + other * x.flip(1)


def fade(x: Tensor, strength: float) -> Tensor:
    """Images `[N, 2, H, W]` whose saturation is lowered: 0 is full colour, 1 grey (both channels alike)."""
    return x + strength * x.flip(1)


def _split(
    settings: ColoredMnistSettings, digits: Digits, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of train, validation and test; environments alternate within train and validation."""
    count, development = len(digits.labels), digits.development
    if settings.convention == "domainbed":
        order = torch.randperm(count, generator=generator)
        size = count // 3
        # Two equally long training environments, laid side by side so that they alternate.
        pooled = torch.stack([order[0::3][:size], order[1::3][:size]], dim=1).flatten()
        held_out = size // 5 * 2
        return pooled[held_out:], pooled[:held_out], order[2::3]
    if settings.source == "digits":
        order = torch.randperm(count, generator=generator)  # the source's own order groups digits by writer
        return order[: development - 297], order[development - 297 : development], order[development:]
    order = torch.randperm(50_000, generator=generator)
    validation, test = torch.arange(50_000, development), torch.arange(development, count)
    return (order, test, validation) if settings.split == "original" else (order, validation, test)


def _check_pairs(pairs: PairSettings, digits: int) -> None:
    if pairs.train + pairs.held_out > digits:
        raise DataError(
            f"`pairs.train + pairs.held_out <= training digits` must hold, but got (train={pairs.train}, "
            f"held_out={pairs.held_out}, digits={digits}); lower one of the two counts"
        )


def _bernoulli(count: int, probability: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=generator, dtype=torch.float64) < probability).long()


def _fingerprint(settings: ColoredMnistSettings, digits: Digits, *parts: Tensor) -> str:
    # Settings at the values of earlier versions are left out, so that existing fingerprints stay valid.
    choice = settings.model_dump(mode="json", exclude={"split"} if settings.split == "source" else None)
    digest = hashlib.sha256(json.dumps(choice, sort_keys=True).encode())
    for array in (digits.images, digits.labels, *(part.numpy() for part in parts)):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
