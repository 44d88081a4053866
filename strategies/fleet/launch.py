"""The operator's side: start the fleet's app with Flower's own command, follow its log, return its result.

The app folder is made for the run and holds nothing but a description: its components are in the installed devprof, on the
SuperLink as on the nodes. Whom to talk to, and how, is the user's Flower configuration.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from devprof.errors import DevprofError, MissingExtraError
from strategies.commandlines import toml_lines
from strategies.fleet.lines import probe_file, read_event, result_file
from strategies.fleet.order import ORDER_KEY, Order

__all__ = ["PYPROJECT", "InterruptedRunError", "launch"]

PYPROJECT = f"""\
[project]
name = "devprof-fleet"
version = "1.0.0"
description = "Measures on every SuperNode; devprof is installed there."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "devprof"

[tool.flwr.app.components]
serverapp = "strategies.fleet.server_app:app"
clientapp = "strategies.fleet.client_app:app"

[tool.flwr.app.config]
{ORDER_KEY} = ""
"""
"""What Flower asks of an app. It never changes, so that nodes keep one copy of it however often it runs."""

_RUN_ID = re.compile(r"Successfully started run (\d+)")
_KEPT_LINES = 15
_GOODBYE_S = 5.0

Event = dict[str, Any]


class InterruptedRunError(DevprofError):
    """The operator stopped following a run, which goes on; the text says how to stop it."""


def launch(
    order: Order,
    *,
    superlink: str | None,
    on_event: Callable[[Event], None],
    on_line: Callable[[str], None],
    program: Sequence[str] | None = None,
) -> Event:
    """Run an order on a SuperLink.

    Args:
        order: What to do.
        superlink: Name of the connection in the user's Flower configuration; ``None`` for its default.
        on_event: Takes the ServerApp's events as they come.
        on_line: Takes all other lines of the log.
        program: Flower's command; by default that of this Python, else of the path.

    Returns:
        The result: ``nodes``, a mapping each, ``host`` of the SuperLink, its ``output`` folder, and whether that folder is the
        operator's own (``shared``).

    Raises:
        DevprofError: If the run did not start, or ended without a result; the text ends with the log.
        InterruptedRunError: If the operator interrupted.
    """
    command = list(program or [_flwr()])
    with tempfile.TemporaryDirectory(prefix="devprof-fleet-") as name, _probe(order):
        app = Path(name) / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
        config = Path(name) / "run.toml"
        config.write_text(toml_lines({ORDER_KEY: order.to_text()}), encoding="utf-8")
        place = [] if superlink is None else [superlink]
        command += ["run", str(app), *place, "--stream", "--run-config", str(config)]
        return _follow(command, order, superlink, on_event, on_line)


@contextlib.contextmanager
def _probe(order: Order) -> Iterator[None]:
    """A file by which the ServerApp sees whether its folder is this one."""
    if not order.output:
        yield
        return
    probe = probe_file(Path(order.output), order.token)
    probe.touch()
    try:
        yield
    finally:
        probe.unlink(missing_ok=True)


def _flwr() -> str:
    beside = Path(sys.executable).parent
    found = shutil.which("flwr", path=f"{beside}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if found is None:
        raise MissingExtraError("fl", "flwr", "a fleet command")
    return found


def _follow(
    command: Sequence[str],
    order: Order,
    superlink: str | None,
    on_event: Callable[[Event], None],
    on_line: Callable[[str], None],
) -> Event:
    result: Event | None = None
    failure: str | None = None
    run_id: str | None = None
    last: deque[str] = deque(maxlen=_KEPT_LINES)
    # Flower's command keeps back what it prints into a pipe.
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = read_event(order.token, line)
            if event is None:
                last.append(line.rstrip())
                run_id = run_id or _run_id(line)
                on_line(line.rstrip("\n"))
            elif event.get("event") == "result":
                result = event
            elif event.get("event") == "error":
                failure = str(event.get("text"))
            else:
                on_event(event)
        code = process.wait()
    except KeyboardInterrupt:
        raise InterruptedRunError(_how_to_stop(run_id, superlink)) from None
    finally:
        _end(process)
    result = result or _kept_result(order)
    if result is not None:
        return result
    if failure is not None:
        raise DevprofError(f"the SuperLink's part failed: {failure}")
    log = "\n".join(last) or "no output"
    hint = (
        "is devprof[fl] installed on the SuperLink, too?" if run_id else "see 'flwr run' and your Flower configuration"
    )
    raise DevprofError(
        f"flwr run ended with exit code {code} and without a result ({hint}); the end of its log:\n{log}"
    )


def _run_id(line: str) -> str | None:
    found = _RUN_ID.search(line)
    return found[1] if found else None


def _how_to_stop(run_id: str | None, superlink: str | None) -> str:
    if run_id is None:
        return "interrupted before the run was started"
    place = "" if superlink is None else f" {superlink}"
    return (
        f"interrupted: run {run_id} goes on without being followed. See it again with 'flwr log {run_id}{place}', "
        f"end it with 'flwr stop {run_id}{place}'"
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Leave no follower behind, whatever ended the following."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _kept_result(order: Order) -> Event | None:
    """The result beside the rows, where the log was cut and the folder is this one."""
    if not order.output:
        return None
    try:
        kept = json.loads(result_file(Path(order.output), order.token).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None
