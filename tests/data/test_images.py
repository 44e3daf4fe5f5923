"""Images as model inputs: both views, indices, and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import picture
from numpy.typing import NDArray
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional
from torchvision.tv_tensors import Image

from ipgl.data.images import MEAN, STD, Images
from ipgl.data.pixel_file import Buffers, PixelFile
from ipgl.data.split_inputs import parts, view

COUNT = 7


@pytest.fixture
def stored() -> NDArray[np.uint8]:
    return np.stack([np.asarray(picture(n, 32, 24)) for n in range(COUNT)])


@pytest.fixture
def images(stored: NDArray[np.uint8], tmp_path: Path) -> Images:
    np.save(tmp_path / "x.npy", stored)
    return Images(PixelFile(tmp_path / "x.npy"), torch.arange(COUNT), 16, 20, "")


def evaluated(stored: NDArray[np.uint8], number: int) -> Image:
    image = functional.to_image(stored[number])
    pipeline = v2.Compose(
        [v2.CenterCrop((16, 20)), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    )
    return pipeline(image)


def test_evaluation_sees_the_middle_normalised(images: Images, stored: NDArray[np.uint8]) -> None:
    found = images[:]
    assert found.dtype == torch.float32
    assert found.shape == images.shape == (7, 3, 16, 20)
    assert found.is_contiguous()
    for number in range(COUNT):
        torch.testing.assert_close(found[number], evaluated(stored, number), rtol=0, atol=2e-6)


def test_training_sees_boxes_normalised(images: Images, stored: NDArray[np.uint8]) -> None:
    boxes = torch.tensor([[1, 2, 20, 25, 0], [0, 0, 24, 32, 1]])
    found = images.training_view(torch.tensor([4, 2]), boxes)
    for number, row, (top, left, height, width, mirrored) in zip((0, 1), (4, 2), boxes.tolist(), strict=True):
        image = functional.to_image(stored[row])
        image = functional.resized_crop(image, top, left, height, width, [16, 20], antialias=True)
        image = functional.horizontal_flip(image) if mirrored else image
        expected = functional.normalize(functional.to_dtype(image, torch.float32, scale=True), MEAN, STD)
        torch.testing.assert_close(found[number], expected, rtol=0, atol=2e-6)


def test_rows_are_picked_as_from_a_tensor(images: Images) -> None:
    whole, index = images[:].clone(), torch.tensor([5, 0, 5])
    assert torch.equal(images.index_select(0, index), whole[index])
    assert torch.equal(images[index], whole[index])
    assert torch.equal(images[2:4], whole[2:4])
    assert torch.equal(images.take(index)[1:], whole[index][1:])
    assert torch.equal(images.take(whole[:, 0, 0, 0] > -9)[:], whole)
    assert len(images.take(index)) == 3
    assert images[3:3].shape == (0, 3, 16, 20)
    with pytest.raises(ValueError, match=r"along dimension 0 only, but got \(dim=1\)"):
        images.index_select(1, index)


def test_rows_stay_apart_from_each_other_and_from_later_batches(images: Images) -> None:
    first = images[:2]
    kept = first.clone()
    second = images[2:4]
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


def test_memory_is_used_again_only_when_nobody_holds_it() -> None:
    buffers = Buffers()
    first = buffers.empty((2, 3))
    place, part = first.data_ptr(), first[1]
    assert buffers.empty((2, 3)).data_ptr() != place
    del first
    assert buffers.empty((2, 3)).data_ptr() != place  # a view lives
    del part
    both = [buffers.empty((3, 2)), buffers.empty((6,))]
    assert place in {tensor.data_ptr() for tensor in both}
    assert both[0].data_ptr() != both[1].data_ptr()
    assert buffers.empty((2, 2)).shape == (2, 2)


def test_the_view_depends_on_boxes_for_images_alone(images: Images) -> None:
    index, boxes = torch.tensor([1]), torch.tensor([[0, 0, 24, 32, 0]])
    assert torch.equal(view(images, index), images[index])
    assert torch.equal(view(images, index, boxes), images.training_view(index, boxes))
    tensor = torch.arange(4.0)
    assert view(tensor, index, boxes).tolist() == [1.0]


GPU, CPU = torch.device("cuda"), torch.device("cpu")


def test_parts_hold_at_most_64_mib() -> None:
    assert [len(part) for part in parts(torch.zeros(5, 2), 2, GPU)] == [2, 2, 1]
    large = torch.zeros(1).expand(40, 2**21)
    assert [len(part) for part in parts(large, 2048, GPU)] == [8, 8, 8, 8, 8]
    assert [len(part) for part in parts(torch.zeros(2, 1).expand(2, 2**25), 2048, GPU)] == [1, 1]
    assert [part.shape for part in parts(torch.zeros(0, 3), 4, GPU)] == [(0, 3)]


def test_a_cpu_reads_smaller_parts() -> None:
    small = torch.zeros(1, 2**10).expand(300, -1)
    assert [len(part) for part in parts(small, 2048, CPU)] == [256, 44]
    assert [len(part) for part in parts(small, 100, CPU)] == [100, 100, 100]
    assert [len(part) for part in parts(torch.zeros(1, 2**17).expand(70, -1), 2048, CPU)] == [32, 32, 6]
    assert [len(part) for part in parts(torch.zeros(1, 2**20).expand(20, -1), 2048, CPU)] == [16, 4]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_changes_nothing(images: Images, threads: int) -> None:
    index, boxes = torch.arange(COUNT), torch.tensor([[1, 2, 20, 25, 1]]).repeat(COUNT, 1)
    expected, before = images.training_view(index, boxes).clone(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(images.training_view(index, boxes), expected)
    finally:
        torch.set_num_threads(before)


MEMORY = """
import sys, torch
from pathlib import Path
from ipgl.data.images import Images
from ipgl.data.pixel_file import PixelFile

def resident():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024

count = int(sys.argv[2])
images = Images(PixelFile(Path(sys.argv[1])), torch.arange(count), 112, 112, "")
boxes = torch.tensor([[3, 3, 120, 120, 1]]).repeat(32, 1)
seen = []
for start in range(0, count, 32):
    images.training_view(torch.arange(start, start + 32), boxes)
    images[start : start + 32]
    seen.append(resident())
print(seen[len(seen) // 8], seen[-1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' /proc")
def test_memory_does_not_grow_with_what_has_been_read(tmp_path: Path) -> None:
    count = 4096
    with (tmp_path / "x.npy").open("wb") as file:  # 200 MB of zeros that take no space on disk
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 128, 128, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 128 * 128 * 3)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "x.npy"), str(count)],
        capture_output=True,
        text=True,
        check=True,
    )
    early, late = map(float, done.stdout.split())
    assert late - early < 20  # MB, of 175 that were read between
