"""What came of an import, and the way of translated runs into a measurement folder: each once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from devprof.records import Measurement, StepTime
from devprof.store.folder import read_table, write_records

__all__ = ["MEAN_FOR_MEDIAN", "Collector", "ImportReport", "RejectedRow", "Series"]

# The column ``warnings`` of runs whose ``step_s`` is made from means of several steps.
MEAN_FOR_MEDIAN = json.dumps(["mean-for-median"])

# Raw times of a run in order: kind of step, and nanoseconds.
Series = Sequence[tuple[Literal["warmup", "measured"], int]]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """What was not imported, and why.

    Attributes:
        line: Where it ends in the file; ``None`` for a format that has no lines.
        reason: Why it was left out.
        name: What it is called in the file, if it has a name.
    """

    line: int | None
    reason: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What came of an import.

    Attributes:
        format: The format the file was read as.
        imported: Number of runs that are new in the folder.
        already_there: Number of runs that were there before, or twice in the file.
        rejected: What was left out.
        unknown_columns: Columns or metadata keys of the file that devprof has no column for.
        unmapped: Columns or metadata keys that are known and left out all the same, with the reason.
        remarks: What else a reader of the rows should know.
    """

    format: str
    imported: int
    already_there: int
    rejected: tuple[RejectedRow, ...]
    unknown_columns: tuple[str, ...]
    unmapped: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


class Collector:
    """Gathers the runs and rejects of one file, then writes the runs at once.

    A run is known again by what the file says about it, so that importing the file once more adds nothing.

    Args:
        folder: The measurement folder, made if absent.
        version: devprof's version, kept with the rows.
    """

    def __init__(self, folder: Path, *, version: str) -> None:
        self._folder = folder
        self._version = version
        known = read_table(folder, "runs")[0].column("run_id").to_pylist() if folder.is_dir() else ()
        self._known: set[str] = set(known)
        self._runs: list[Measurement] = []
        self._steps: list[StepTime] = []
        self._again = 0
        self._rejected: list[RejectedRow] = []

    def add(self, values: Mapping[str, Any], *, build: Mapping[str, str], series: Series = ()) -> None:
        """Take a run.

        Args:
            values: Columns of ``runs``, as :func:`devprof.store.imports.columns.parse_columns` gives them.
            build: What changes the device's speed besides its name, processor and power mode, such as the framework.
            series: Raw times.
        """
        said = [values, list(series)] if series else values
        run_id = f"import-{_digest(said)[:16]}"
        if run_id in self._known:
            self._again += 1
            return
        self._known.add(run_id)
        identity = [values["device"], values["processor"], values.get("power_mode"), build]
        self._runs.append(
            Measurement(
                run_id=run_id,
                started_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                devprof_version=self._version,
                device_key=f"import-{_digest(identity)[:12]}",
                **values,
            )
        )
        self._steps += [StepTime(run_id, index, kind, step_ns) for index, (kind, step_ns) in enumerate(series)]

    def reject(self, reason: str, *, line: int | None = None, name: str | None = None) -> None:
        """Note what is left out, and why."""
        self._rejected.append(RejectedRow(line, reason, name))

    def finish(
        self,
        table_format: str,
        *,
        unknown_columns: Sequence[str],
        unmapped: Mapping[str, str] | None = None,
        remarks: Sequence[str] = (),
    ) -> ImportReport:
        """Write the new runs, if any, and say what came of the import.

        Raises:
            StoreError: If the folder cannot be written.
        """
        if self._runs:
            run_ids = "".join(run.run_id for run in self._runs)
            name = "import-" + hashlib.sha256(run_ids.encode()).hexdigest()[:16]
            # The rows in ``runs`` come last: a run that is there has its steps.
            if self._steps:
                write_records(self._folder, "steps", name, self._steps)
            write_records(self._folder, "runs", name, self._runs)
        return ImportReport(
            table_format,
            len(self._runs),
            self._again,
            tuple(self._rejected),
            tuple(unknown_columns),
            dict(unmapped or {}),
            tuple(remarks),
        )


def _digest(said: object) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
