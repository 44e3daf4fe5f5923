"""The studies in a storage folder, at a glance."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.table import Table

from ipgl.errors import StudyStateError
from ipgl.study.folder import StudyFolder


def studies_table(folders: Sequence[StudyFolder]) -> Table:
    """One row per study; a study whose files are damaged is listed with what is wrong."""
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
