"""Tables of one or more measurement folders together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from devprof.errors import StoreError
from devprof.store.folder import load_operators, load_runs, read_records

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_all_operators", "load_all_runs", "read_all"]

Record = TypeVar("Record")


def load_all_runs(folders: Sequence[Path], *, may_be_empty: bool = False) -> pd.DataFrame:
    """The runs of all folders, one table.

    Raises:
        StoreError: If a folder does not exist, or there is no run in any of them and that is not allowed.
    """
    every = [load_runs(folder) for folder in folders]
    frames = [frame for frame in every if not frame.empty]
    if not frames and may_be_empty:
        return every[0]
    if not frames:
        raise StoreError(
            f"there are no runs in {', '.join(map(str, folders))}; measure some: devprof measure MODEL -o DIR"
        )
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def load_all_operators(folders: Sequence[Path]) -> pd.DataFrame | None:
    """The operators that were timed in all folders, one table; ``None`` where there are none."""
    frames = [frame for folder in folders if not (frame := load_operators(folder)).empty]
    if not frames:
        return None
    import pandas as pd

    return pd.concat(frames, ignore_index=True)


def read_all(folders: Sequence[Path], table: str, kind: type[Record]) -> tuple[Record, ...]:
    """The records of a table in all folders."""
    return tuple(record for folder in folders for record in read_records(folder, table, kind))
