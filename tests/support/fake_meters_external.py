"""External meters of a device whose power is known at every moment: loggers of rows, an instrument that speaks SCPI, smart plugs.

Each has ``advance(t_s)``, which makes it show what it would show at that time since its start. Call it from a thread in real time,
and compare with ``profile.energy_j``.
"""

import contextlib
import http.server
import json
import os
import pty
import socket
import socketserver
import termios
import threading
import time
import tty


class Profile:
    """Power that goes through steps of (seconds, watts) again and again; integrals are exact."""

    def __init__(self, *steps):
        self.steps = steps
        self.length_s = sum(length for length, _ in steps)

    def power_w(self, t_s):
        t_s %= self.length_s
        for length, watts in self.steps:
            if t_s < length:
                return watts
            t_s -= length
        return self.steps[-1][1]

    def energy_j(self, t_s):
        rounds, rest = divmod(t_s, self.length_s)
        energy = rounds * sum(length * watts for length, watts in self.steps)
        for length, watts in self.steps:
            energy += max(0.0, min(rest, length)) * watts
            rest -= length
        return energy


def row_fnirsi(t_s, start_utc_s, profile):
    """A row of the loggers of USB testers: blanks between, seconds since 1970, volts and amperes."""
    watts, joules = profile.power_w(t_s), profile.energy_j(t_s)
    return f"{start_utc_s + t_s:.6f} {round(t_s * 100) % 4} 5.00000 {watts / 5:.5f} 0.000 0.000 21.5 {joules:.6f} 0.0"


def row_csv(t_s, start_utc_s, profile):
    """Relative seconds, milliwatts and milliwatt-hours."""
    return f"{t_s:.3f},{profile.power_w(t_s) * 1e3:.3f},{profile.energy_j(t_s) / 3.6:.6f}"


FNIRSI_HEADER = "timestamp sample_in_packet voltage_V current_A dp_V dn_V temp_C_ema energy_Ws capacity_As"
CSV_HEADER = "Time (s),Power (mW),Energy (mWh)"


class Logger:
    """A logger that prints a header and then a row every ``period_s``; :meth:`send` says where to."""

    def __init__(self, profile, period_s=0.01, row=row_fnirsi, header=FNIRSI_HEADER, start_utc_s=None):
        self.profile, self.period_s, self.row, self.header = profile, period_s, row, header
        self.start_utc_s = time.time() if start_utc_s is None else start_utc_s
        self.rows = 0

    def begin(self):
        """Print the header."""
        self.send(self.header + "\n")

    def advance(self, t_s):
        """Print all rows that are due up to ``t_s``; the first is due at 0."""
        due = int(t_s / self.period_s + 1e-9) + 1
        text = "".join(
            self.row(number * self.period_s, self.start_utc_s, self.profile) + "\n" for number in range(self.rows, due)
        )
        self.rows = max(self.rows, due)
        if text:
            self.send(text)

    def send(self, text):
        raise NotImplementedError

    def close(self):
        """Go away."""


class FileLogger(Logger):
    """Appends to a file; without ``resume`` it begins an empty one."""

    def __init__(self, path, profile, **options):
        super().__init__(profile, **options)
        self.path = path
        path.write_text("")

    def send(self, text):
        with self.path.open("a") as file:
            file.write(text)

    def rotate(self):
        """Move the file away and begin another, as logrotate does."""
        self.path.rename(self.path.with_suffix(".1"))
        self.path.write_text("")
        self.begin()

    def truncate(self):
        """Empty the file, as logrotate does with ``copytruncate``."""
        os.truncate(self.path, 0)
        self.begin()


class FifoLogger(Logger):
    """Prints into a named pipe. Open the reader first, or from another thread: opening waits for it."""

    def __init__(self, path, profile, **options):
        super().__init__(profile, **options)
        self.path = path
        self.file = None
        if not path.exists():
            os.mkfifo(path)

    def open(self):
        self.file = self.path.open("wb", buffering=0)

    def send(self, text):
        self.file.write(text.encode())

    def close(self):
        if self.file is not None:
            self.file.close()


class SerialLogger(Logger):
    """Prints on a serial line, whose other end is the device ``port``."""

    def __init__(self, profile, **options):
        super().__init__(profile, **options)
        self.fd, self._other = pty.openpty()
        self.port = os.ttyname(self._other)
        tty.setraw(self._other, termios.TCSANOW)

    def send(self, text):
        os.write(self.fd, text.encode())

    def close(self):
        for fd in (self.fd, self._other):
            with contextlib.suppress(OSError):
                os.close(fd)


class TcpLogger(Logger):
    """Sends to all who are connected to ``address``, which is HOST:PORT; each first gets the header if ``greets``."""

    def __init__(self, profile, *, greets=False, **options):
        super().__init__(profile, **options)
        self.greets = greets
        self.clients = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            if self.greets:
                client.sendall((self.header + "\n").encode())
            self.clients.append(client)

    def send(self, text):
        for client in list(self.clients):
            try:
                client.sendall(text.encode())
            except OSError:
                self.clients.remove(client)

    def hang_up(self):
        """Close the connections, but take new ones."""
        for client in self.clients:
            client.close()
        self.clients = []

    def close(self):
        self.hang_up()
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join(timeout=5)


class ScpiInstrument:
    """A power meter behind a socket that understands what the command set ``wt300`` says, and the supplies' queries.

    Attributes:
        identity: What it answers to ``*IDN?``.
        received: All that it was told and asked.
        errors: Its queue of errors.
        refuses: Commands that put an error into the queue.
        replies: Answers that replace the right ones, by query.
        stalls: Whether it has stopped to answer.
        integrating_since_s: When its integrator was started; ``None`` while it is not.
    """

    def __init__(self, profile, identity="YOKOGAWA,WT310E,C3WA01234E,F1.01"):
        self.profile, self.identity = profile, identity
        self.received, self.errors, self.refuses, self.replies = [], [], set(), {}
        self.stalls = False
        self.t_s = 0.0
        self.integrating_since_s = None
        instrument = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    answer = instrument.take(line.decode().strip())
                    if answer is not None and not instrument.stalls:
                        self.wfile.write((answer + "\n").encode())

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.resource = f"TCPIP::127.0.0.1::{self.port}::SOCKET"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def advance(self, t_s):
        self.t_s = t_s

    def take(self, command):
        self.received.append(command)
        if command in self.replies:
            return self.replies[command]
        if command in self.refuses:
            self.errors.append('-113,"Undefined header"')
            return None
        watts = self.profile.power_w(self.t_s)
        since_s = self.integrating_since_s
        joules = 0.0 if since_s is None else self.profile.energy_j(self.t_s) - self.profile.energy_j(since_s)
        if command == "*CLS":
            self.errors.clear()
        elif command == ":INTEGRATE:START":
            self.integrating_since_s = self.t_s
        elif command in {":INTEGRATE:STOP", ":INTEGRATE:RESET"}:
            self.integrating_since_s = None
        return {
            "*IDN?": self.identity,
            ":STATUS:ERROR?": self.errors.pop(0) if "ERR" in command and self.errors else '0,"No error"',
            "SYST:ERR?": self.errors.pop(0) if "ERR" in command and self.errors else "0  No Error",
            ":INTEGRATE:STATE?": "RESET" if since_s is None else "START",
            ":INPUT:VOLTAGE:RANGE?": "15.0E+00",
            ":INPUT:CURRENT:RANGE?": "2.0E+00",
            ":NUMERIC:NORMAL:VALUE?": f"{watts:.5E},{joules / 3600:.8E}",
            "MEAS:VOLT? (@1)": "5.00000E+00",
            "MEAS:CURR? (@1)": f"{watts / 5:.6E}",
            "MEASURE:VOLTAGE? CH1": "5.000",
            "MEASURE:CURRENT? CH1": f"{watts / 5:.3f}",
        }.get(command)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Plug:
    """A smart plug behind a web server; ``kind`` is ``shelly1``, ``shelly2``, ``shelly-pm`` or ``tasmota``.

    Attributes:
        address: HOST:PORT.
        asked: The paths that were asked for.
        frozen: Whether its values stand still.
        broken: Whether it answers only errors.
        body: What it answers to everything; ``None`` for the right answers.
        login: The header Authorization that it asks for; ``None`` for none.
    """

    def __init__(self, kind, profile, start_utc_s=1_767_225_600):
        self.kind, self.profile, self.start_utc_s = kind, profile, start_utc_s
        self.t_s, self.asked = 0.0, []
        self.frozen, self.broken, self.body, self.login = False, False, None, None
        plug = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                plug.asked.append(self.path)
                answer = plug.answer(self.path)
                status = 500 if plug.broken else 404 if answer is None else 200
                if plug.login is not None and self.headers.get("Authorization") != plug.login:
                    status = 401
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def advance(self, t_s):
        if not self.frozen:
            self.t_s = t_s

    def answer(self, path):
        if self.body is not None:
            return self.body
        watts, minute_s = self.profile.power_w(self.t_s), self.t_s // 60 * 60
        wh = self.profile.energy_j(minute_s) / 3600
        switch = {"id": 0, "output": True, "apower": round(watts, 1), "voltage": 230.1}
        switch["aenergy"] = {"total": round(wh, 3), "minute_ts": int(self.start_utc_s + minute_s)}
        kwh = round(self.profile.energy_j(self.t_s) / 3.6e6, 3)
        known = {
            "shelly1": {
                "/shelly": {"type": "SHPLG-S", "mac": "A4CF12F45478", "auth": False, "num_meters": 1},
                "/meter/0": {
                    "power": round(watts, 2),
                    "is_valid": True,
                    "timestamp": int(self.start_utc_s + minute_s),
                    "counters": [0.0, 0.0, 0.0],
                    "total": int(wh * 60),
                },
            },
            "shelly2": {
                "/shelly": {"id": "shellyplugsg3-1", "mac": "AABBCCDDEEFF", "model": "S3PL-00112EU", "gen": 3},
                "/rpc/Switch.GetStatus?id=0": switch,
            },
            "shelly-pm": {
                "/shelly": {"id": "shellypmmini-1", "mac": "AABBCCDDEEFF", "model": "SNPM-001PCEU16", "gen": 2},
                "/rpc/PM1.GetStatus?id=0": {name: switch[name] for name in ("id", "apower", "aenergy")},
            },
            "tasmota": {
                "/cm?cmnd=Status%208": {
                    "StatusSNS": {"Time": "2026-01-01T00:00:00", "ENERGY": {"Power": round(watts), "Total": kwh}}
                },
                "/cm?cmnd=WattRes": {"WattRes": 0},
                "/cm?cmnd=EnergyRes": {"EnergyRes": 3},
            },
        }
        return known[self.kind].get(path)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def until(condition, timeout_s=10.0):
    """What ``condition`` gives once that is true; data takes a moment through sockets and threads."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError("it did not happen in time")
