"""Fixtures: small data sets, and the source index of each of their examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from narrowing import as_tensor
from torch import Tensor

from ipgl.data import DATASETS, Dataset, Inputs
from ipgl.data.digits import Digits, data_root, mnist, sklearn_digits


def build_dataset(**settings: object) -> Dataset:
    entry = DATASETS["colored_mnist"]
    return entry.build(entry.settings.model_validate({"source": "digits"} | settings))


@pytest.fixture(scope="session")
def build() -> Callable[..., Dataset]:
    """Build ColoredMNIST from scikit-learn's digits, unless the settings say otherwise."""
    return build_dataset


@pytest.fixture(scope="session")
def irm() -> Dataset:
    return build_dataset(convention="irm")


@pytest.fixture(scope="session")
def domainbed() -> Dataset:
    return build_dataset(convention="domainbed", pairs={"train": 400, "held_out": 300})


@pytest.fixture(scope="session")
def real_mnist() -> Digits:
    raw = data_root() / "MNIST" / "raw"
    if not raw.is_dir():
        pytest.skip(f"MNIST is not in {raw}; point IPGL_DATA at a folder that holds MNIST/raw")
    return mnist()


class Origin:
    """Finds an example's digit in its source by its pixels; no two digits of a source are alike."""

    def __init__(self, digits: Digits, step: int = 1) -> None:
        images = np.ascontiguousarray(digits.images[:, ::step, ::step])
        self._peak = digits.peak
        self._position = {image.tobytes(): number for number, image in enumerate(images)}
        self.is_small = torch.from_numpy(digits.labels < 5).long()
        assert len(self._position) == len(images), "two digits are alike"

    def of(self, inputs: Inputs) -> Tensor:
        """Positions in the source of coloured images `[N, 2, H, W]`, int64 `[N]`."""
        x = as_tensor(inputs)
        grey = (x.sum(dim=1) * self._peak).round().to(torch.uint8).numpy()
        return torch.tensor([self._position[image.tobytes()] for image in grey], dtype=torch.int64)


@pytest.fixture(scope="session")
def digits_origin() -> Origin:
    return Origin(sklearn_digits())


@pytest.fixture(scope="session")
def mnist_origin(real_mnist: Digits) -> Origin:
    return Origin(real_mnist, step=2)
