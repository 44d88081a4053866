"""A node's work: devprof's own commands, each in a process tree of its own, within the job's budget.

The ClientApp's process never trains: what is measured starts from a fresh process, and a run that dies takes no reply with it.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strategies.fleet.wire import Job, Outcome, clean
from strategies.processtree import ProcessTree

__all__ = ["WATCHED", "Done", "commands_of", "work"]

WATCHED = (sys.executable, "-m", "strategies.fleet.watched")
"""The command that runs devprof for as long as a process lives, whose id it takes first."""

_MARK = "DEVPROF_FLEET_JOB"
# How long a command may take to end its children and store what it has.
_GOODBYE_S = 15.0
_GOODBYE_SHARE = 0.25
_LOOK_EVERY_S = 0.2
_TAIL_BYTES = 16384
_SUITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Done:
    """How the commands ended.

    Attributes:
        outcome: Of the last one: rows are measured last, and what is missing of them is missing for its reason.
        message: What there is to say of those that did not end well; ``None`` if all did.
        output: The end of what all of them printed.
    """

    outcome: Outcome
    message: str | None
    output: str


def commands_of(job: Job, folder: Path, device: str | None, scratch: Path) -> list[list[str]]:
    """The devprof commands of a job, calibration first: it takes as long as it was told, measuring takes what is left.

    Args:
        job: The job.
        folder: Measurement folder to write to.
        device: The device's name in rows; ``None`` for what it says of itself.
        scratch: A folder for a suite's file.
    """
    # What stands last wins: no option of a job can write elsewhere or under another name.
    own = [*(["--device", device] if device else []), "--output", str(folder)]
    commands = []
    if job.calibration_s is not None:
        commands.append(["calibrate", *job.calibrate_options, "--time", str(job.calibration_s), *own])
    if job.suite is not None:
        commands.append(["measure", *job.measure_options, "--suite", _suite(job.suite, job.suite_toml, scratch), *own])
    elif job.models:
        commands.append(["measure", *job.measure_options, *own, "--", *job.models])
    return commands


def _suite(name: str, text: str | None, scratch: Path) -> str:
    if text is None:
        return name
    path = scratch / f"{name if _SUITE_NAME.fullmatch(name) else 'suite'}.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def work(commands: Sequence[Sequence[str]], *, budget_s: float, log: Path, watched: Sequence[str] = WATCHED) -> Done:
    """Run devprof commands one after the other; nothing that they started is left.

    Args:
        commands: Words of each, without the program.
        budget_s: Seconds that they may take together. They are asked to end a little before, so that they can store their rows.
        log: What they print is appended to it.
        watched: The program.
    """
    goodbye_s = min(_GOODBYE_S, _GOODBYE_SHARE * budget_s)
    stop_s = time.monotonic() + budget_s - goodbye_s
    ends = [_run(words, stop_s, goodbye_s, log, watched) for words in commands]
    outcome: Outcome = ends[-1][0] if ends else "done"
    return Done(outcome, "; ".join(said for _, said in ends if said) or None, _tail(log))


def _run(
    words: Sequence[str], stop_s: float, goodbye_s: float, log: Path, watched: Sequence[str]
) -> tuple[Outcome, str | None]:
    name = f"devprof {words[0]}"
    if time.monotonic() >= stop_s:
        return "timeout", f"{name} was not begun: the budget of time was too short"
    before = log.stat().st_size if log.exists() else 0
    environment = os.environ | {_MARK: secrets.token_hex(8)}
    tree = ProcessTree([*watched, str(os.getpid()), *words], mark=_MARK, environment=environment, log=log)
    try:
        while tree.exit_code is None and time.monotonic() < stop_s:
            # A look costs next to nothing here; ProcessTree.wait reads the environment of every process, fifty times a second.
            time.sleep(_LOOK_EVERY_S)
        if tree.exit_code is None:
            tree.end(goodbye_s)
            return "timeout", f"{name} was ended when the budget of time was used up"
    finally:
        tree.kill()
    code = tree.exit_code or 0
    if code == 0:
        return "done", None
    last = next((line.strip() for line in reversed(_tail(log, before).splitlines()) if line.strip()), "no output")
    if code < 0:
        return "crashed", f"{name} was killed by signal {-code}: {clean(last)}"
    return "error", f"{name} ended with exit code {code}: {clean(last)}"


def _tail(log: Path, start: int = 0) -> str:
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - _TAIL_BYTES))
        return file.read().decode(errors="replace")
