"""The process in which a node runs a devprof command: it ends when whoever started it ends. Imports nothing of Flower.

A SuperNode that is stopped or killed takes its ClientApp along, but not what the ClientApp started; a measurement that nobody
waits for would disturb the next one for as long as an hour.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

__all__ = ["end_when_orphaned", "main"]

_LOOK_EVERY_S = 1.0


def end_when_orphaned(
    parent: int, *, look_every_s: float = _LOOK_EVERY_S, parent_id: Callable[[], int] = os.getppid
) -> None:
    """Wait until the parent is another process, then ask this one to end, as a service manager would.

    Args:
        parent: Process id of the parent that it was started by.
        look_every_s: Seconds between two looks.
        parent_id: Tells the present parent.
    """
    while parent_id() == parent:
        time.sleep(look_every_s)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Run ``devprof`` with this process's arguments, the first of which is the id of the process to live for."""
    from devprof.cli import main as devprof

    threading.Thread(target=end_when_orphaned, args=(int(sys.argv[1]),), daemon=True).start()
    devprof(args=sys.argv[2:], prog_name="devprof")


if __name__ == "__main__":
    main()
