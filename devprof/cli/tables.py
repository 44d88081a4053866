"""Tables of one or more measurement folders together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from devprof.errors import StoreError
from devprof.store.folder import load_runs, read_records

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_all_runs", "read_all"]

Record = TypeVar("Record")


def load_all_runs(folders: Sequence[Path]) -> pd.DataFrame:
    """The runs of all folders, one table.

    Raises:
        StoreError: If a folder does not exist, or there is no run in any of them.
    """
    frames = [frame for folder in folders if not (frame := load_runs(folder)).empty]
    if not frames:
        raise StoreError(
            f"there are no runs in {', '.join(map(str, folders))}; measure some: devprof measure MODEL -o DIR"
        )
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def read_all(folders: Sequence[Path], table: str, kind: type[Record]) -> tuple[Record, ...]:
    """The records of a table in all folders."""
    return tuple(record for folder in folders for record in read_records(folder, table, kind))
