"""`python -m ipgl` is the `ipgl` command."""

from ipgl.cli import command

command()
