"""The `ipgl` command."""
