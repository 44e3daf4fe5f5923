"""A whole study: run, resume, read, compare, show in MLflow."""
