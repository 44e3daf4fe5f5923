"""`python -m ipgl` is the `ipgl` command."""

from ipgl.cli.main import main

main()
