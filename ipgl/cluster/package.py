"""What of a working folder goes to a cluster with a job, looked at before anything is sent."""

from __future__ import annotations

from pathlib import Path

from ipgl.core.errors import ResourceError
from ipgl.core.private_apis import files_in_ray_package, largest_ray_package

# Patterns as in a .gitignore. Results, data, weights and caches are on the cluster's storage or made there; secrets
# have no business in a package that everyone who may use the cluster can fetch.
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
    """Every file that a job's working folder will hold.

    Args:
        folder: The working folder; its .gitignore and .rayignore files count, as they do for Ray.
        excludes: Further patterns.

    Returns:
        Path relative to `folder` -> bytes.
    """
    folder = folder.absolute()
    return {path.relative_to(folder): path.stat().st_size for path in files_in_ray_package(folder, excludes)}


def require_sendable(folder: Path, files: dict[Path, int], limit_bytes: int | None = None) -> None:
    """Refuse a folder that Ray cannot take.

    Args:
        folder: The working folder, for the message.
        files: What `packaged_files` gives.
        limit_bytes: None is Ray's own limit.

    Raises:
        ResourceError: The files together are larger than Ray takes; the message names the largest.
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
