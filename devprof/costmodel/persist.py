"""Cost models as files: plain data in skops' format, never a pickle.

A file holds dictionaries, lists, texts, numbers and numpy arrays, no class of ours or of others; so reading one runs no
code, and a file that asks for any type beyond skops' own safe list is refused.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devprof.atomic import write_atomically
from devprof.errors import CostModelError, MissingExtraError

__all__ = ["SCHEMA_VERSION", "read_state", "write_state"]

# History: 1 = the first form; 2 = kin devices fitted together, forward and backward apart: a file of version 1 has nothing
# to make these from, so it is fitted again.
SCHEMA_VERSION = 2

_KIND = "devprof-cost-model"


def _skops() -> Any:
    # Importing skops takes seconds, because it brings scikit-learn: only who saves or loads pays.
    try:
        import skops.io
    except ImportError as error:
        raise MissingExtraError("model", "skops", "saving and loading a cost model") from error
    return skops.io


def write_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Writes plain data to a file, all of it or nothing: a reader never sees half a file.

    Args:
        path: The file; replaced if it exists.
        state: Dictionaries, lists, texts, numbers, ``None`` and numpy arrays.

    Raises:
        CostModelError: If the file cannot be written.
        MissingExtraError: If skops is not installed.
    """
    target = Path(path)
    content = _skops().dumps(
        {"kind": _KIND, "schema_version": SCHEMA_VERSION, **state}, compression=zipfile.ZIP_DEFLATED
    )
    try:
        write_atomically(target, content)
    except OSError as error:
        raise CostModelError(f"cannot write the cost model {target}: {error}") from error


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The data that :func:`write_state` wrote.

    Raises:
        CostModelError: If the file cannot be read, is no cost model, asks for an untrusted type or has another schema.
        MissingExtraError: If skops is not installed.
    """
    source = Path(path)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise CostModelError(f"cannot read the cost model {source}: {error}") from error
    skops_io = _skops()
    try:
        untrusted = skops_io.get_untrusted_types(data=content)
    # A foreign or damaged file can make the parser fail in any way.
    except Exception as error:
        raise _foreign(source, error) from error
    if untrusted:
        raise CostModelError(
            f"{source} is refused: it asks to load {', '.join(sorted(untrusted))}, "
            "and a cost model holds plain data only"
        )
    try:
        state = skops_io.loads(content, trusted=[])
    except Exception as error:
        raise _foreign(source, error) from error
    if not isinstance(state, dict) or state.get("kind") != _KIND:
        raise CostModelError(f"{source} is not a cost model of devprof: make one with `devprof fit`")
    version = state.get("schema_version")
    if version != SCHEMA_VERSION:
        raise CostModelError(
            f"{source} has schema version {version!r}, this devprof reads version {SCHEMA_VERSION}: "
            "fit it again from its measurements, or use the devprof that wrote it"
        )
    return state


def _foreign(source: Path, error: Exception) -> CostModelError:
    kind = "damaged or no cost model of devprof" if isinstance(error, zipfile.BadZipFile) else "not readable"
    return CostModelError(f"{source} is {kind} ({type(error).__name__}: {error}): make one with `devprof fit`")
