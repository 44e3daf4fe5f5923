"""What of a working folder goes to a cluster with a job, looked at before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path

from ray._private.ray_constants import RAY_RUNTIME_ENV_IGNORE_GITIGNORE

# Ray's own walk and pattern reader: what they list is what its client will pack.
from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE, _dir_travel, _get_excludes

from ipgl.core.errors import ResourceError

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
LIMIT_BYTES: int = GCS_STORAGE_MAX_SIZE
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
    found: dict[Path, int] = {}

    def note(path: Path) -> None:
        if path.is_file():
            found[path.relative_to(folder)] = path.stat().st_size

    gitignore = os.environ.get(RAY_RUNTIME_ENV_IGNORE_GITIGNORE, "0") != "1"
    _dir_travel(
        folder, [_get_excludes(folder, list(excludes))], note, include_gitignore=gitignore, logger=_Silent()
    )
    return found


def require_sendable(folder: Path, files: dict[Path, int], limit_bytes: int = LIMIT_BYTES) -> None:
    """Refuse a folder that Ray cannot take.

    Raises:
        ResourceError: The files together are larger than Ray takes; the message names the largest.
    """
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


class _Silent:
    """Ray's walk announces every ignore file that it reads."""

    def info(self, *_: object) -> None:
        pass

    error = info
