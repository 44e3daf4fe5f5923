"""Storage path of Ray Tune's and Train's own files: beside the study, where all nodes see it. Nothing reads them."""

from __future__ import annotations

import shutil
from contextlib import suppress

import pyarrow.fs

from ipgl.storage.study_dir import StudyFolder

_FOLDER = "ray"


def ray_storage(folder: StudyFolder) -> dict[str, object]:
    """What `RunConfig` takes, of Tune and of Train."""
    if folder.remote is None:
        return {"storage_path": str(folder.path / _FOLDER)}
    system = pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(folder.remote.system))
    return {
        "storage_path": f"{folder.remote.root}/{folder.name}/{_FOLDER}",
        "storage_filesystem": system,
    }


def remove_ray_storage(folder: StudyFolder) -> None:
    """Remove the notes at the study's end; what cannot be removed does no harm."""
    if folder.remote is None:
        shutil.rmtree(folder.path / _FOLDER, ignore_errors=True)
        return
    with suppress(OSError):
        folder.remote.system.rm(f"{folder.remote.root}/{folder.name}/{_FOLDER}", recursive=True)
