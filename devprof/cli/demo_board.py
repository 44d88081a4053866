"""The demo's emulated board: this machine with half a processor and 1 GiB, by the kernel's own limits.

It is slow for real, and what does not fit is killed for real: one run of each goes into the report.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from devprof.device.emulate import Limits, check
from devprof.errors import DevprofError
from devprof.records import Measurement

__all__ = ["BOARD", "measure_board"]

BOARD = "emulated board: half a CPU, 1 GiB"
_LIMITS = Limits(cpus=0.5, memory_bytes=1 << 30)
_DEVPROF = (sys.executable, "-m", "devprof")
# The larger batch needs about twice the board's memory.
_SWEEP = ("mobilenetv3_small_100", "--batch-size", "4,64", "--min-time", "1s", "--timeout", "120s")


def measure_board(output: Path) -> tuple[list[Measurement], str | None]:
    """Measure on the emulated board into a folder.

    Returns:
        Its rows, those of an earlier call included; or none and the reason, where such limits cannot be set.
    """
    from devprof.store.folder import read_records

    try:
        check(_LIMITS)
    except DevprofError as error:
        return [], str(error)
    emulation = ("emulate", "--cpus", str(_LIMITS.cpus), "--memory", str(_LIMITS.memory_bytes), "--")
    sweep = ("measure", *_SWEEP, "--device", BOARD, "-o", str(output))
    done = subprocess.run([*_DEVPROF, *emulation, *_DEVPROF, *sweep], stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        return [], f"measuring on it ended with exit code {done.returncode}"
    return [run for run in read_records(output, "runs", Measurement) if run.device == BOARD], None
