"""The ClientApp: what a node says of itself, and devprof's own commands on it.

From the node config: ``device`` (the device's name in rows), ``device-id`` (the node's name), ``devprof-dir`` (a folder that is
kept, so that a sweep that was cut goes on where it stopped), and ``devprof-fleet = "no"`` (it refuses).
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from devprof.errors import DevprofError
from strategies.fleet.nodestatus import asked_options, node_status, own_device
from strategies.fleet.tables import TABLES_RECORD, Wanted, gather
from strategies.fleet.wire import (
    JOB,
    REPORT,
    STATUS,
    FleetError,
    Job,
    NodeStatus,
    Outcome,
    Report,
    from_content,
    to_record,
)
from strategies.fleet.work import commands_of, work

__all__ = ["app"]

FOLDER = "devprof-dir"

app = ClientApp()


@app.query("status")
def status(message: Message, context: Context) -> Message:
    """The node as it is now."""
    return _reply(message, _status(message, context))


@app.train("measure")
def measure(message: Message, context: Context) -> Message:
    """Run the job, and send the rows that it came to, however it ended."""
    received_s = time.monotonic()
    before = _status(message, context)
    if before.refusal is not None:
        return _reply(message, before, _report(received_s, "refused", before.refusal))
    try:
        job = from_content(message.content, JOB, Job)
        with _folder(context) as folder, tempfile.TemporaryDirectory(prefix="devprof-") as scratch:
            commands = commands_of(job, folder, own_device(context.node_config), Path(scratch))
            spent_s = time.monotonic() - received_s
            done = work(commands, budget_s=job.budget_s - spent_s, log=Path(scratch) / "output.txt")
            # A second look: the device key that the rows carry is that of the device as it was while they were made.
            after = _status(message, context)
            wanted = Wanted(after.device_key, job.configurations, job.repeats, operators=job.calibration_s is not None)
            report = _report(received_s, done.outcome, done.message, done.output)
            return _reply(message, after, report, gather(folder, wanted))
    except (DevprofError, OSError) as error:
        return _reply(message, before, _report(received_s, "error", str(error)))


def _status(message: Message, context: Context) -> NodeStatus:
    """The node, as it would measure with the options in the message; it refuses those that its devprof does not know."""
    try:
        words = from_content(message.content, JOB, Job).measure_options
        return node_status(context.node_config, asked_options(words))
    except FleetError as error:
        known = node_status(context.node_config, asked_options(()))
        return dataclasses.replace(known, refusal=known.refusal or str(error))


@contextlib.contextmanager
def _folder(context: Context) -> Iterator[Path]:
    """Where to measure to: the folder that the node's operator keeps, else one that is gone afterwards."""
    kept = context.node_config.get(FOLDER)
    if kept:
        folder = Path(str(kept))
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="devprof-") as name:
            yield Path(name)


def _report(received_s: float, outcome: Outcome, message: str | None, output: str | None = None) -> Report:
    return Report(outcome, time.monotonic() - received_s, message, output)


def _reply(
    message: Message, node: NodeStatus, report: Report | None = None, tables: ArrayRecord | None = None
) -> Message:
    content = RecordDict({STATUS: to_record(node)})
    if report is not None:
        content[REPORT] = to_record(report)
    if tables:
        content[TABLES_RECORD] = tables
    return Message(content, reply_to=message)
