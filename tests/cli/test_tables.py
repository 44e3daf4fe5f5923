"""The table of methods."""

from __future__ import annotations

from ipgl.cli.tables import methods_table
from ipgl.methods import METHODS


def test_recommended_ranges_stand_with_their_widths() -> None:
    columns = {str(column.header): list(map(str, column.cells)) for column in methods_table().columns}
    shown = dict(zip(columns["method"], columns["recommended ranges"], strict=True))
    assert shown.keys() == METHODS.keys()
    assert shown["erm"] == "-"
    assert shown["clp"] == "strength: {log_uniform: [0.1, 100]}  # 3 decades"
    assert shown["group_dro"] == (
        "step_size: {log_uniform: [0.001, 0.1]}  # 2 decades\nadjustment: {uniform: [0, 5]}  # 5 wide"
    )
    assert "discrepancy: {choice: [rationale, logit]}  # 2 values" in shown["ipg"]
