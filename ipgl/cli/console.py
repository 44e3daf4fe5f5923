"""Where commands print. Text is shown as it is: a failure's message may hold brackets that rich takes for markup."""

from __future__ import annotations

import sys
from functools import partial

from rich.console import Console
from rich.text import Text

_WIDTH = 120  # where no terminal tells its own


def make_console(error: bool = False) -> Console:
    """A console on standard output, or on standard error."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _WIDTH
    plain = partial(Console, stderr=error, width=width, markup=False, emoji=False, highlight=False)
    console = plain()
    if console.is_jupyter:
        # Text on a stream: as HTML every line would be an output of its own. A kernel sets FORCE_COLOR, which rich
        # would take for a terminal whose lines can be overwritten.
        console = plain(force_jupyter=False, force_terminal=False)
    return console


def print_remark(console: Console, word: str, text: str, style: str = "yellow") -> None:
    """Print `text` behind a coloured word."""
    console.print(Text.assemble((word, style), f" {text}"), soft_wrap=True)


def print_links(console: Console, links: dict[str, str], warnings: list[str]) -> None:
    """Print what the tracker lacks, then where to open what it has."""
    for warning in warnings:
        print_remark(console, "tracking:", warning)
    for title, link in links.items():
        console.print(f"{title}: {link}", soft_wrap=True)
