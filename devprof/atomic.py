"""Files that are there whole or not at all. Layer 0: standard library only."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file under a temporary name in its folder, sync it, rename it, and make the rename durable.

    A reader never sees half a file, an existing file stays until the new one is complete, and nothing is left behind by a
    write that failed. Permissions are those of any new file. Temporary names begin with a dot and end in ``.tmp``.

    Args:
        path: The file; replaced if it exists. Its folder must exist.
        data: The whole content.

    Raises:
        OSError: If the folder cannot be written or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; file systems that refuse to sync a folder keep it anyway."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
