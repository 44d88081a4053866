"""A run of known power, and a logger that wrote it down by a clock of its own.

The power is 9 W wherever the run's spans say that it worked, 5 W else, so the energy of any span is known exactly. Nothing here
sleeps: rows are made for any span of time at once, or up to a moment by :meth:`Logger.advance`.
"""

import random
from datetime import datetime, timedelta, timezone
from fractions import Fraction

from devprof.measure.runspans import RunSpans

NS = 10**9
IDLE_W, LOAD_W = 5.0, 9.0
WORK = ("warm-up", "settle", "window", "phases")
UTC_NS = 1_767_225_600 * NS


def shown_run(begin_ns=0, *, window_s=20.0, part_s=2.0, idle_s=4.0, phases_s=0.5, jitter=0.0, seed=0, after=True):
    """Spans of a run as a child would have stamped them; parts are longer by up to ``jitter``, as steps make them."""
    rng = random.Random(seed)
    spans, loads = {}, {}
    now = begin_ns

    def span(name, seconds):
        nonlocal now
        begin, now = now, now + round(seconds * NS)
        spans[name] = [begin, now]

    def pattern(name):
        nonlocal now
        begin, loads[name] = now, []
        now += round(part_s * NS)
        for _ in range(3):
            load = [now, now + round(part_s * (1 + jitter * rng.random()) * NS)]
            loads[name].append(load)
            now = load[1] + round(part_s * NS)
        spans[name] = [begin, now]

    span("idle-before", idle_s)
    span("warm-up", 3.0)
    pattern("sync-before")
    span("settle", 3.0)
    span("window", window_s)
    span("phases", phases_s)
    if after:
        pattern("sync-after")
    span("idle-after", idle_s)
    return RunSpans(spans, loads, [[begin_ns, UTC_NS], [now, UTC_NS + now - begin_ns]], "boot")


class Power:
    """The power of runs, and of other things that happen outside them.

    Args:
        runs: Spans of runs.
        others: (begin, end, watts) of other loads, in nanoseconds.
    """

    def __init__(self, runs, others=()):
        self.loads = [(*run.spans_ns[name], LOAD_W) for run in runs for name in WORK if name in run.spans_ns]
        self.loads += [(*load, LOAD_W) for run in runs for loads in run.loads_ns.values() for load in loads]
        self.loads += list(others)

    def power_w(self, t_ns):
        return next((watts for begin, end, watts in self.loads if begin <= t_ns < end), IDLE_W)

    def energy_j(self, begin_ns, end_ns):
        joules = IDLE_W * (end_ns - begin_ns) / NS
        for begin, end, watts in self.loads:
            joules += (watts - IDLE_W) * max(0, min(end, end_ns) - max(begin, begin_ns)) / NS
        return joules


class Logger:
    """Writes a row every ``period_s`` by its own clock, which began elsewhere and gains some parts per million.

    Args:
        power: What it measures.
        begin_ns: When it is started, by the run's clock.
        period_s: From row to row, by the run's clock.
        offset_ns: Its clock minus the run's when it is started.
        ppm: How much faster its clock is.
        noise_w: Standard deviation of its values.
        seed: Of the noise.
    """

    def __init__(self, power, begin_ns=0, *, period_s=0.01, offset_ns=0, ppm=0, noise_w=0.0, seed=0):
        self.power, self.begin_ns, self.period_s = power, begin_ns, period_s
        self.offset_ns, self.rate, self.noise_w = offset_ns, Fraction(1_000_000 + round(ppm), 1_000_000), noise_w
        self.rng = random.Random(seed)
        self.count = 0

    def clock(self, local_ns):
        """What its clock shows at a moment of the run's."""
        return local_ns + self.offset_ns + int((local_ns - self.begin_ns) * (self.rate - 1))

    def rows(self, seconds):
        """(its clock, watts) of all rows until so many seconds after its start that were not given before."""
        rows = []
        while (since_ns := round(self.count * self.period_s * NS)) < seconds * NS:
            t_ns = self.begin_ns + since_ns
            rows.append((self.clock(t_ns), self.power.power_w(t_ns) + self.rng.gauss(0.0, self.noise_w)))
            self.count += 1
        return rows

    def advance(self, file, seconds, style="relative"):
        """Append to an open file what is due after so many seconds."""
        for number, (t_ns, watts) in enumerate(self.rows(seconds), self.count):
            file.write(row_text(t_ns, watts, number, style))


def row_text(t_ns, watts, number, style):
    """A row as loggers print it."""
    if style == "iso":
        moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=t_ns // 1000)
        return f"{moment.isoformat()},{watts:.6f}\n"
    return f"{watts:.6f}\n" if style == "bare" else f"{t_ns / NS:.6f},{watts:.6f}\n"


def write_log(path, logger, seconds, style="relative"):
    """A whole file of a logger; ``bare`` rows have no time."""
    header = "Power (W)\n" if style == "bare" else "time,power\n"
    with path.open("w") as file:
        file.write(header)
        logger.advance(file, seconds, style)
    return path
