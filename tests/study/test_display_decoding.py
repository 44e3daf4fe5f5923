"""Progress of decoding is said for long work alone."""

from __future__ import annotations

import io

from rich.console import Console

from ipgl.study import display
from ipgl.study.display import DecodeLines


def test_a_line_every_five_seconds_of_each_piece_of_work(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    lines = DecodeLines(Console(file=out, width=100))
    for total, seconds_each in ((4, 1.0), (12_000, 0.001), (5, 3.0)):
        clock[0] += 60  # whatever lies between two pieces of work
        for done in range(1, total + 1):
            lines(done, total)
            clock[0] += seconds_each
    assert out.getvalue().splitlines() == [
        "decoding images into the cache: 5,001 of 12,000",
        "decoding images into the cache: 10,001 of 12,000",
        "decoding images into the cache: 3 of 5",
    ]
