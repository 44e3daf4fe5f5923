"""What every other package may use: errors, registries, files, locks, retries, redaction."""
