"""Utilities that every other package may import: errors, registries, files, locks, retries, redaction."""
