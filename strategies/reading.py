"""Typed reading of records that came over the network: every failure names the key and the value."""

from __future__ import annotations

import math

from flwr.app import ConfigRecord

from devprof.errors import DevprofError

__all__ = ["RecordReader", "number_or_none", "whole_or_none"]

_MAX_NAME = 200
_MAX_SHOWN = 100


class RecordReader:
    """Typed access to one untrusted ConfigRecord.

    Args:
        record: The record.
        error: Raised, with a text that names the key, where a value is missing, of the wrong type or out of range.
    """

    def __init__(self, record: ConfigRecord, error: type[DevprofError]) -> None:
        self._record = record
        self._error = error

    def name(self, key: str) -> str:
        """A printable text of 1 to 200 characters."""
        value = self._get(key)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME or not value.isprintable():
            raise self._error(f"{key} must be a printable name of 1 to {_MAX_NAME} characters")
        return value

    def count(self, key: str, *, most: int, least: int = 0) -> int:
        """A whole number."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._error(f"{key} must be a whole number from {least} to {most}, got {_shown(value)}")
        return value

    def number(self, key: str, *, most: float) -> float:
        """A finite number from 0."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._error(f"{key} must be a number, got {_shown(value)}")
        # Not a number fails the comparison, and so does infinity; math.isfinite would overflow on a huge integer.
        if not 0 <= value <= most:
            raise self._error(f"{key} must be from 0 to {most:g}, got {_shown(value)}")
        return float(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._error(f"{key} must be true or false, got {_shown(value)}")
        return value

    def optional_name(self, key: str) -> str | None:
        """As :meth:`name`; ``None`` where the key is absent."""
        return self.name(key) if key in self._record else None

    def optional_count(self, key: str, *, most: int, least: int = 0) -> int | None:
        """As :meth:`count`; ``None`` where the key is absent."""
        return self.count(key, most=most, least=least) if key in self._record else None

    def optional_number(self, key: str, *, most: float) -> float | None:
        """As :meth:`number`; ``None`` where the key is absent."""
        return self.number(key, most=most) if key in self._record else None

    def _get(self, key: str) -> object:
        if key not in self._record:
            raise self._error(f"the key {key!r} is missing")
        return self._record[key]


def whole_or_none(value: object) -> int | None:
    """A whole number; ``None`` for anything else, true and false included."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number_or_none(value: object) -> float | None:
    """A finite number; ``None`` for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _shown(value: object) -> str:
    """A hostile value in an error message: short, and without ``repr`` of an integer too long to be printed."""
    if isinstance(value, int) and value.bit_length() > _MAX_SHOWN:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list):
        return f"a list of {len(value)} values"
    return repr(value[:_MAX_SHOWN] if isinstance(value, (str, bytes)) else value)[:_MAX_SHOWN]
