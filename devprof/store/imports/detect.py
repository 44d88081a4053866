"""Which format a file is in, by what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from devprof.errors import StoreError
from devprof.store.imports.columns import REQUIRED, read_csv
from devprof.store.imports.pyperf import is_pyperf, read_json
from devprof.store.imports.timm import tasks_of

__all__ = ["FORMATS", "Format", "detect_format"]

Format = Literal["devprof", "timm", "pyperf"]
FORMATS: tuple[Format, ...] = get_args(Format)

_JSON_STARTS = (b"{", b"[", b"\x1f\x8b")


def detect_format(path: Path) -> Format:
    """The format of a file with measurements.

    Raises:
        StoreError: If the file cannot be read or is in none of the formats; says what was looked for and what was
            found.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if start.startswith(_JSON_STARTS):
        if is_pyperf(read_json(path)):
            return "pyperf"
        found = "JSON without these keys"
    else:
        header, _ = read_csv(path)
        if all(column in header for column in REQUIRED):
            return "devprof"
        if tasks_of(header):
            return "timm"
        found = f"the columns {', '.join(header)[:200]}" if header else "an empty file"
    raise StoreError(
        f"{path} is in none of the formats that can be imported. Looked for: columns {', '.join(REQUIRED)} (devprof); "
        "columns model and train_step_time or infer_step_time (timm's benchmark.py); "
        f'JSON with the keys "benchmarks" and "version" (pyperf). Found: {found}'
    )
