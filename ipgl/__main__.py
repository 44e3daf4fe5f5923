"""`python -m ipgl` is the `ipgl` command."""

from ipgl.cli import main

main()
