"""Output of the subcommands for data: tables, contact sheets and feature files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ipgl.cli.console import make_console, print_remark
from ipgl.cli.live_display import DecodeLines
from ipgl.config import Component, TrialConfig
from ipgl.core.atomic_files import write_atomically
from ipgl.core.errors import DataError, IpglError
from ipgl.core.registry import suggestion
from ipgl.data import Dataset
from ipgl.data.generate import WaterbirdsPlan, folder_name, generate_waterbirds
from ipgl.data.image_cache import decoding_progress
from ipgl.data.input_images import RgbImages, mean_colours
from ipgl.data.pair_audit import PairAudit, audit_pairs
from ipgl.data.preview import GroupPreview, group_sheet, pair_sheet, preview_groups
from ipgl.models import is_frozen
from ipgl.plan.preflight import study_alignment
from ipgl.plan.study_plan import StudyPlan, load_plan
from ipgl.trial.datasets import cached_dataset, trial_dataset

_THUMBNAIL = 12
_IN_TERMINAL = 6


def run_generator(plan: WaterbirdsPlan, cub: Path, places: Path, out: Path, skip_bad: bool) -> None:
    """Generate Waterbirds with a progress bar, then print the number of images in each group and split."""
    folder = out / folder_name(plan.strength)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=make_console(error=True)) as bar:
        task = bar.add_task("Waterbirds", total=None)
        made = generate_waterbirds(
            plan,
            cub,
            places,
            folder,
            skip_bad=skip_bad,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    table = Table("class", "place", "training", "validation", "test", title=str(folder))
    for y, bird in enumerate(("landbird", "waterbird")):
        for place, name in enumerate(("land", "water")):
            counts = [
                sum((row.y, row.place, row.split) == (y, place, split) for row in made.rows)
                for split in range(3)
            ]
            table.add_row(bird, name, *map(str, counts))
    console = make_console()
    console.print(table)
    if plan.pairs:
        print(f"{len(made.pairs)} counterfactual pairs: {folder / 'pairs.csv'}")
    if made.skipped:
        print(f"{len(made.skipped)} problems were skipped; they are in {folder / 'generation.json'}")


def show_groups(file: Path, method: str | None, out: Path | None, samples: int, skip_bad: bool) -> None:
    """Print groups, counts and (on a terminal) small pictures, and write the contact sheet."""
    plan = load_plan(file, skip_bad)
    dataset = _dataset(plan, method)
    alignment = study_alignment(plan, dataset)
    groups = preview_groups(dataset, samples, alignment=alignment)
    console = make_console()
    console.print(_group_table(groups, pictures=console.is_terminal and samples > 0))
    notes = [f"no group is aligned or conflicting: {alignment.reason}"] if alignment.reason else []
    for note in (*dataset.notes, *notes):
        print_remark(console, "note:", note)
    path = out or Path(f"{plan.config.name}-groups.png")
    sheet = group_sheet(groups)
    _write(path, lambda stream: sheet.save(stream, "PNG"))
    print(f"contact sheet: {path}")


def _group_table(groups: list[GroupPreview], pictures: bool) -> Table:
    table = Table()
    for name in ("group", "kind", "training", "validation", "test"):
        table.add_column(name, justify="left" if name in ("group", "kind") else "right")
    if pictures:
        table.add_column("samples")
    for group in groups:
        cells: list[str | Text] = [
            group.name,
            group.kind,
            *(str(count) if count else Text("0", "red") for count in group.counts),
        ]
        if pictures:
            cells.append(_drawn(group.samples[:_IN_TERMINAL]))
        table.add_row(*cells)
    return table


def _drawn(samples: RgbImages) -> Text:
    """Images side by side, drawn with half blocks: each character shows two pixels, one above the other."""
    text = Text()
    if not len(samples):
        return text
    pixels = mean_colours(samples, _THUMBNAIL).astype(int)
    for top in range(0, _THUMBNAIL, 2):
        for image in pixels:
            for upper, lower in zip(image[top], image[top + 1], strict=True):
                colours = ["#{:02x}{:02x}{:02x}".format(*pixel) for pixel in (upper, lower)]
                text.append("▀", f"{colours[0]} on {colours[1]}")
            text.append(" ")
        text.append("\n")
    return text


def write_features(file: Path, method: str | None, out: Path, skip_bad: bool) -> None:
    """Write the training images' features, float32 `[N, d]`, from the study's frozen backbone.

    Raises:
        IpglError: The model is not frozen.
    """
    plan = load_plan(file, skip_bad)
    config = _first_trial(plan, method)
    if not is_frozen(config.model):
        raise IpglError(
            f"{file}: features come from a frozen backbone; set model: {{name: {config.model.name}, frozen: true}}"
        )
    # Without pairs, since they may need the features that are written here.
    data = config.dataset.model_dump() | {"pairs": {"source": "none"}}
    config = config.model_copy(update={"dataset": Component.model_validate(data)})
    with decoding_progress(DecodeLines(make_console(error=True))):
        features = trial_dataset(config).train.x[:].numpy()
    _write(out, lambda stream: np.save(stream, features))
    print(f"features of {features.shape[0]} training images, {features.shape[1]} each: {out}")


def show_audit(file: Path, method: str | None, out: Path | None, as_json: bool, skip_bad: bool) -> None:
    """Print the audit of the pairs and write a contact sheet.

    Raises:
        DataError: The pairs make results wrong; raised after everything has been printed.
    """
    plan = load_plan(file, skip_bad)
    dataset = _dataset(plan, method)
    audit = audit_pairs(dataset)
    if as_json:
        print(json.dumps(audit.as_json(), indent=1))
    else:
        console = make_console()
        console.print(_audit_table(audit))
        print("splits: " + ", ".join(f"{count} {what}" for what, count in audit.repeated.items()))
        for text in audit.warnings:
            print_remark(console, "warning:", text)
        for text in dataset.notes:
            print_remark(console, "note:", text)
        if len(dataset.pairs):
            path = out or Path(f"{plan.config.name}-pairs.png")
            sheet = pair_sheet(dataset, dataset.pairs)
            _write(path, lambda stream: sheet.save(stream, "PNG"))
            print(f"contact sheet: {path}")
    if audit.faults:
        raise DataError(f"{file}: the pairs make results wrong: {'; '.join(audit.faults)}")


def _audit_table(audit: PairAudit) -> Table:
    table = Table("", *(f"{s.name} pairs" for s in audit.sets))
    for column in table.columns[1:]:
        column.justify = "right"
    rows: dict[str, list[str]] = {"pairs": [str(s.count) for s in audit.sets]}
    for name in audit.sets[0].per_label:
        rows[f"with label {name}"] = [str(s.per_label[name]) for s in audit.sets]
    for split in ("validation", "test"):
        rows[f"holding a {split} image"] = [str(audit.copies[s.name, split]) for s in audit.sets]
        rows[f"holding a {split} image pixel for pixel"] = [
            str(audit.identical[s.name, split]) for s in audit.sets
        ]
    rows["sharing a picture with the training pairs"] = ["", str(audit.shared_pictures)]
    rows["label unlike its source's"] = [str(s.wrong_label) for s in audit.sets]
    rows["made from no training example"] = [str(s.without_source) for s in audit.sets]
    rows["repeating another"] = [str(s.duplicates) for s in audit.sets]
    rows["members nearly identical"] = [str(s.near_identical) for s in audit.sets]
    for name in ("mean", "least", "median", "largest"):
        rows[f"difference of members, {name} (of 255)"] = [
            f"{getattr(s.difference, name):.1f}" if s.difference else "-" for s in audit.sets
        ]
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def _dataset(plan: StudyPlan, label: str | None) -> Dataset:
    with decoding_progress(DecodeLines(make_console(error=True))):
        return cached_dataset(_first_trial(plan, label).dataset.model_dump_json())


def _first_trial(plan: StudyPlan, label: str | None) -> TrialConfig:
    """A search trial of the method with this label; None for the study's first method."""
    labels = [method.label for method in plan.methods]
    if label is not None and label not in labels:
        raise IpglError(
            f"--method names a label of the study file, but got {label!r}: {suggestion(label, labels)}"
        )
    method = plan.method(label or labels[0])
    first = {key: found.probes[0] for key, found in method.space.items()}
    return plan.trial(method.label, first, "search", plan.config.search.seed)


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    try:
        write_atomically(path, write)
    except OSError as error:
        raise IpglError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
