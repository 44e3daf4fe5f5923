from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import as_images

from ipgl.core.errors import DataError
from ipgl.data.pair_request import PairRequest
from ipgl.data.pair_sources import ImagePairSettings, make_pairs
from ipgl.data.table import ImageTable

if TYPE_CHECKING:
    from tests.data.pair_sources.conftest import MakeRequest


ROWS = [(0, 0, 0)] * 6 + [(1, 1, 0)] * 4 + [(0, 0, 1), (0, 0, 2)]
MODULE = """
from PIL import Image, ImageOps

def invert(image, context):
    return ImageOps.invert(image)

def told(image, context):
    shade = int(context.rng.integers(0, 256))
    return Image.new("RGB", image.size, (context.label * 100, int(context.columns["age"]), shade))

def broken(image, context):
    if context.path.name == "3.png":
        raise RuntimeError("no mask for this one")
    return image

def nothing(image, context):
    return None

CONSTANT = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The user's module `my_pairs_<test>`, importable for this test alone."""
    folder = tmp_path / "code"
    folder.mkdir()
    name = f"my_pairs_{abs(hash(tmp_path))}"
    (folder / f"{name}.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(str(folder))
    return name


def settings(path: str) -> ImagePairSettings:
    return ImagePairSettings(source="function", function=path, held_out=2)


@pytest.fixture
def request_(make_table: Callable[..., ImageTable], make_request: MakeRequest) -> PairRequest:
    return make_request(make_table(ROWS, age=range(12)))


def test_the_second_member_is_what_the_function_makes_of_the_first(
    request_: PairRequest, module: str
) -> None:
    made = make_pairs(settings(f"{module}:invert"), request_)
    index = torch.arange(len(made.pairs))
    assert len(made.pairs) == 8
    assert torch.equal(as_images(made.pairs.b).pixels(index), 255 - as_images(made.pairs.a).pixels(index))


def test_the_function_is_told_label_columns_and_a_seeded_generator(
    request_: PairRequest, module: str
) -> None:
    made = [make_pairs(settings(f"{module}:told"), request_).pairs for _ in range(2)]
    pixels = as_images(made[0].b).pixels(torch.arange(8))[:, 0, 0]
    assert pixels[:, 0].tolist() == (made[0].y * 100).tolist()
    assert pixels[:, 1].tolist() == made[0].source.tolist()
    assert len(pixels[:, 2].unique()) > 4
    assert torch.equal(pixels, as_images(made[1].b).pixels(torch.arange(8))[:, 0, 0])


def test_another_version_of_the_function_is_another_cache(
    request_: PairRequest, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_pairs(settings(f"{module}:invert"), request_)
    newer = f"{module}_newer"
    (tmp_path / "code" / f"{newer}.py").write_text(MODULE.replace("invert(image)", "mirror(image)"))
    second = make_pairs(settings(f"{newer}:invert"), request_)
    assert first.names != second.names
    assert as_images(first.pairs.b).file.path != as_images(second.pairs.b).file.path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "3.png.*: .*broken raised RuntimeError: no mask for this one"),
        ("nothing", "nothing must return a PIL image, but got NoneType"),
    ],
)
def test_what_a_function_does_wrong_is_named_with_its_image(
    request_: PairRequest, module: str, name: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make_pairs(settings(f"{module}:{name}"), request_)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_package.x:f", "no_such_package.x cannot be imported \\(ModuleNotFoundError"),
        ("{module}:absent", "has no function 'absent'"),
        ("{module}:CONSTANT", "has no function 'CONSTANT'"),
    ],
)
def test_a_function_that_is_not_there(request_: PairRequest, module: str, path: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_pairs(settings(path.format(module=module)), request_)
