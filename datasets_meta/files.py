"""Reading the TOML files that lie in this package."""

from __future__ import annotations

import sys
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_table"]


def read_table(file_name: str) -> dict[str, Any]:
    """The content of a TOML file of this package."""
    return tomllib.loads((resources.files("datasets_meta") / file_name).read_text(encoding="utf-8"))
