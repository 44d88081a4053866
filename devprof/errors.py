"""The errors a user can meet. Layer 0: standard library only.

One root, few leaves. Bugs of a caller stay built-in types (``TypeError``, ``ValueError``); these classes are for what
the world does wrong: a damaged file, a missing extra, an unknown name. Every text says what happened, where, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CostModelError",
    "DevprofError",
    "MeasureError",
    "MissingExtraError",
    "StoreError",
    "UnknownNameError",
    "WorkloadError",
    "closest",
]


class DevprofError(Exception):
    """Root of all errors that devprof raises on purpose; the command line prints them and exits with 1."""


class UnknownNameError(DevprofError):
    """A name that the user gave (model, suite, device, data set) is not known; carries the closest ones.

    Args:
        kind: What the name should have named, such as ``"model"``.
        name: The name as given.
        known: The names that would have been accepted.
        hint: A sentence on what to do, appended to the message.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind = kind
        self.name = name
        self.closest = closest(name, known)
        message = f"unknown {kind} {name!r}"
        if self.closest:
            message += f"; closest: {', '.join(self.closest)}"
        if hint:
            message += f". {hint}"
        super().__init__(message)


class MissingExtraError(DevprofError):
    """An optional dependency is not installed; the message is the command that installs it.

    Args:
        extra: The extra of the ``devprof`` distribution, such as ``"train"``.
        module: The module whose import failed.
        purpose: What needed it, such as ``"measuring a model"``.
    """

    def __init__(self, extra: str, module: str, purpose: str) -> None:
        self.extra = extra
        super().__init__(
            f"{purpose} needs the package {module!r}, which is not installed: pip install 'devprof[{extra}]'"
        )


class StoreError(DevprofError):
    """A measurement folder or a file in it cannot be read or written; the message names the file."""


class WorkloadError(DevprofError):
    """A model cannot be built, or does not fit the input it was given."""


class MeasureError(DevprofError):
    """A sweep cannot start at all (a single failed configuration is a row, not an error)."""


class CostModelError(DevprofError):
    """A cost model cannot be fitted, loaded or asked; the message says what is missing."""


def closest(name: str, known: Iterable[str], count: int = 3) -> tuple[str, ...]:
    """The names nearest to a mistyped one, best first, at most ``count``."""
    return tuple(difflib.get_close_matches(name, list(known), n=count, cutoff=0.5))
