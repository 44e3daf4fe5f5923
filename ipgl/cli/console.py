"""Console output of commands. Markup is off, since messages may contain brackets that rich would interpret."""

from __future__ import annotations

import sys
from functools import partial

from rich.console import Console
from rich.text import Text

_WIDTH = 120  # if the output is not a terminal


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
    """Print `text` after a coloured word."""
    console.print(Text.assemble((word, style), f" {text}"), soft_wrap=True)


def print_links(console: Console, links: dict[str, str], warnings: list[str]) -> None:
    """Print the warnings of a tracker, then the addresses of a study in its user interface."""
    for warning in warnings:
        print_remark(console, "tracking:", warning)
    for title, link in links.items():
        console.print(f"{title}: {link}", soft_wrap=True)
