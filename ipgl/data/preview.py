"""Preview of a data set: counts per group, and contact sheets of samples and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ipgl.data.alignment import Alignment, find_alignment
from ipgl.data.batch_order import derive_seed
from ipgl.data.groups import group_counts, group_index
from ipgl.data.input_images import RgbImages, rgb_images
from ipgl.data.types import Dataset, PairSet, Split

NO_ALIGNMENT = "-"
_MARGIN, _LINE = 6, 15
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


@dataclass(frozen=True)
class GroupPreview:
    """One group.

    Attributes:
        name: `waterbird on land`-like text: class name and attribute name.
        kind: `aligned` or `conflicting`, by the alignment of class and attribute; `-` where there is none.
        counts: Examples in training, validation and test.
        samples: Some of its pictures, from the first split that has any, uint8 `[n, H, W, 3]`.
        shown_from: The split that the samples are from.
    """

    name: str
    kind: str
    counts: tuple[int, int, int]
    samples: RgbImages
    shown_from: str


def preview_groups(
    dataset: Dataset, per_group: int = 8, seed: int = 0, alignment: Alignment | None = None
) -> list[GroupPreview]:
    """All groups with counts and at most `per_group` seeded samples; an empty group has none.

    Args:
        dataset: The data set.
        per_group: Samples of each group.
        seed: Seed of their choice.
        alignment: Which attribute value agrees with each class; None finds it in the training counts.
    """
    splits = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    classes, attributes = dataset.num_classes, dataset.num_attributes
    counts = [group_counts(s.y.cpu(), s.attribute.cpu(), classes, attributes) for s in splits.values()]
    alignment = alignment or find_alignment(counts[0], dataset.class_names)
    previews = []
    for y in range(classes):
        for a in range(attributes):
            of_split = tuple(int(count[y, a]) for count in counts)
            source = next((name for name, n in zip(splits, of_split, strict=True) if n), "")
            samples: RgbImages = np.empty((0, 1, 1, 3), dtype=np.uint8)
            if source and per_group:
                chosen = _some(splits[source], y * attributes + a, attributes, per_group, seed)
                samples = rgb_images(splits[source].x, chosen, dataset)
            name = f"{dataset.class_names[y]}, {dataset.attribute_names[a]}"
            kind = alignment_name(alignment.agrees(y, a))
            previews.append(
                GroupPreview(name, kind, (of_split[0], of_split[1], of_split[2]), samples, source)
            )
    return previews


def alignment_name(aligned: bool | None) -> str:
    """A group's role in words; `-` where no alignment exists."""
    return NO_ALIGNMENT if aligned is None else "aligned" if aligned else "conflicting"


def _some(split: Split, group: int, attributes: int, count: int, seed: int) -> torch.Tensor:
    members = (group_index(split.y, split.attribute, attributes).cpu() == group).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(derive_seed(seed, "preview", group))
    return members[torch.randperm(len(members), generator=generator)[:count]]


def group_sheet(groups: Sequence[GroupPreview], side: int = 112) -> Image.Image:
    """A contact sheet: a line of text and a row of samples for each group.

    Args:
        groups: As `preview_groups` gives them.
        side: Side of a sample on the sheet, in pixels.
    """
    rows = []
    for group in groups:
        training, validation, test = group.counts
        kind = "" if group.kind == NO_ALIGNMENT else f" ({group.kind})"
        text = f"{group.name}{kind}: {training} training, {validation} validation, {test} test"
        text += f"; shown: {group.shown_from}" if group.shown_from else "; EMPTY"
        rows.append((text, group.samples))
    return _sheet(rows, side)


def pair_sheet(
    dataset: Dataset, pairs: PairSet, count: int = 10, side: int = 112, seed: int = 0
) -> Image.Image:
    """A contact sheet of some pairs: first members above second members."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "pair sheet"))
    chosen = torch.randperm(len(pairs), generator=generator)[:count]
    rows = [
        (f"first members of {len(chosen)} of {len(pairs)} pairs", rgb_images(pairs.a, chosen, dataset)),
        ("second members", rgb_images(pairs.b, chosen, dataset)),
    ]
    return _sheet(rows, side)


def _sheet(rows: Sequence[tuple[str, RgbImages]], side: int) -> Image.Image:
    columns = max(1, *(len(samples) for _, samples in rows))
    font = ImageFont.load_default()
    widest = max(font.getlength(text) for text, _ in rows)
    width = int(max(columns * (side + _MARGIN), widest + _MARGIN)) + _MARGIN
    height = sum(_LINE + (side if len(samples) else 0) + 2 * _MARGIN for _, samples in rows)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = 0
    for text, samples in rows:
        draw.text((_MARGIN, y + _MARGIN // 2), text, fill=_INK, font=font)
        y += _LINE + _MARGIN
        for column, sample in enumerate(samples):
            # Small pictures keep their pixels visible; large ones are averaged.
            method = Image.Resampling.NEAREST if sample.shape[0] < side else Image.Resampling.LANCZOS
            tile = Image.fromarray(sample).resize((side, side), method)
            sheet.paste(tile, (_MARGIN + column * (side + _MARGIN), y))
        y += (side if len(samples) else 0) + _MARGIN
    return sheet
