"""The ServerApp of ``devprof fleet``: does what the run config orders, and tells the operator through the run's log."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from devprof.atomic import write_atomically
from devprof.errors import DevprofError
from strategies.clocks import WallClock
from strategies.fleet.conduct import Conductor
from strategies.fleet.lines import event_line, probe_file, result_file
from strategies.fleet.order import ORDER_KEY, Order

__all__ = ["app"]

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the order, and keep the result beside the rows, too: a log may be cut."""
    order = Order.from_text(str(context.run_config[ORDER_KEY]))
    output = Path(order.output) if order.output else None
    shared = output is None or probe_file(output, order.token).is_file()

    def say(event: dict[str, Any]) -> None:
        told = event | {"shared": shared, "output": order.output} if event["event"] == "result" else event
        if output is not None and event["event"] == "result":
            _keep(result_file(output, order.token), told)
        sys.stdout.write(event_line(order.token, told))

    try:
        Conductor(grid, order, clock=WallClock(), say=say).run()
    except DevprofError as error:
        say({"event": "error", "text": str(error)})
        raise


def _keep(path: Path, result: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(result, indent=2).encode())
    except OSError as error:
        # The rows are what matters, and the log has the result.
        sys.stderr.write(f"{path} could not be written: {error}\n")
