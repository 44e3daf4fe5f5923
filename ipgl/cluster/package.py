"""The files of a working folder that are sent with a job, and checks of them before submission."""

from __future__ import annotations

from pathlib import Path

from ipgl.core.errors import ResourceError
from ipgl.core.private_apis import files_in_ray_package, largest_ray_package

# Patterns as in a .gitignore. Results, data, weights and caches belong on the cluster's storage; secrets must not be
# sent, since every user of the cluster can download the package.
EXCLUDES = (
    ".git",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    "*.py[cod]",
    "*.egg-info",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    ".ipynb_checkpoints",
    "/runs",
    "/data",
    "/build",
    "/dist",
    "mlruns",
    "mlartifacts",
    "mlflow.db*",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.safetensors",
    "*.parquet",
    ".env",
    ".netrc",
    "auth_token",
    "*.pem",
    "*.key",
)
_NAMED = 5


def packaged_files(folder: Path, excludes: tuple[str, ...] = EXCLUDES) -> dict[Path, int]:
    """The files that are sent with a job's working folder.

    Args:
        folder: The working folder; its .gitignore and .rayignore files apply, as they do in Ray.
        excludes: Further patterns.

    Returns:
        Size in bytes by path relative to `folder`.
    """
    folder = folder.absolute()
    return {path.relative_to(folder): path.stat().st_size for path in files_in_ray_package(folder, excludes)}


def require_sendable(folder: Path, files: dict[Path, int], limit_bytes: int | None = None) -> None:
    """Check that a working folder does not exceed Ray's limit.

    Args:
        folder: The working folder, for the message.
        files: The files, from `packaged_files`.
        limit_bytes: The limit; None for Ray's own.

    Raises:
        ResourceError: The files exceed the limit; the message names the largest.
    """
    limit_bytes = largest_ray_package() if limit_bytes is None else limit_bytes
    total = sum(files.values())
    if total < limit_bytes:
        return
    largest = sorted(files.items(), key=lambda item: -item[1])[:_NAMED]
    listed = ", ".join(f"{path} ({size / 2**20:,.0f} MiB)" for path, size in largest)
    raise ResourceError(
        f"{folder}: the working folder of a job must hold less than {limit_bytes / 2**20:,.0f} MiB, but holds "
        f"{total / 2**20:,.0f} MiB in {len(files):,} files; the largest: {listed}. Name what the study does not "
        "need in a .rayignore file, keep data on the cluster's storage, or choose a smaller --working-dir"
    )
