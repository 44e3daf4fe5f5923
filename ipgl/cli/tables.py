"""Tables of the studies in a storage folder and of the methods in the registry."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.table import Table

from ipgl.config.ranges import range_text, width, width_text
from ipgl.core.errors import StudyStateError
from ipgl.methods import METHODS, MethodEntry
from ipgl.storage.study_dir import StudyFolder


def studies_table(folders: Sequence[StudyFolder]) -> Table:
    """One row per study; for a study with damaged files, the row has the error."""
    table = Table(title=None if folders else "no studies here yet; start one with: ipgl study run FILE")
    for name in ("study", "phase", "begun", "runs ended", "runs failed"):
        table.add_column(name, justify="right" if name.startswith("runs") else "left")
    for folder in folders:
        try:
            state = folder.read_state() or {}
            results = [result for trial in folder.trials() if (result := trial.read_result())]
        except StudyStateError as error:
            table.add_row(folder.name, f"damaged: {error}", "", "", "")
            continue
        begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.get("created_at", 0)))
        failed = sum(result.status == "failed" for result in results)
        table.add_row(folder.name, state.get("phase", "unknown"), begun, str(len(results)), str(failed))
    return table


def methods_table() -> Table:
    """One row per method of the registry."""
    table = Table(
        caption="Copy a recommended range into a study file under `methods`; its width stands behind it.",
        caption_justify="left",
    )
    for name in ("method", "needs", "source", "recommended ranges"):
        table.add_column(name, overflow="fold")
    for name, entry in METHODS.items():
        ranges = "\n".join(
            f"{key}: {range_text(found)}  # {_remark(entry, key)}"
            for key, found in entry.search_space.items()
        )
        table.add_row(name, str(entry.needs), entry.source, ranges or "-")
    return table


def _remark(entry: MethodEntry, key: str) -> str:
    wide = width_text(*width(entry.search_space[key]))
    note = entry.range_notes.get(key)
    return f"{wide}; {note}" if note else wide
