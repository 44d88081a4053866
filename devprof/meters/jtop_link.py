"""A connection to the service of jetson-stats that never makes its reader wait.

The package ``jtop`` is imported by :func:`load` alone, because its import changes how its process starts others. What it does
besides what its documentation says, found in its version 7.2.2:

* ``ok()`` ends the client for good when three intervals pass without a sample; here it is only asked whether the client failed.
* Making a client starts a thread that loads the libraries of CUDA and runs compilers to learn their versions.
* Its proxies say good-bye to the service when the process ends, and wait for an answer, which a service that stands still
  does not give.
* The first sample of a connection may be one that the service had kept since its last client left.
"""

from __future__ import annotations

import collections
import importlib
import multiprocessing
import queue
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.managers import BaseProxy
from pathlib import Path
from types import ModuleType
from typing import Any

from devprof.meters.base import MeterError, now_ns

__all__ = ["INSTALL", "Link", "Sample", "explain", "is_passing", "load"]

INSTALL = "pip install 'devprof[jetson]'; its version must be that of the board's service (jtop --version)"

_KEPT = 4096
_VERSIONS = re.compile(r"service: \[([^\]]+)\].*client: \[([^\]]+)\]", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the service said of power, and when it came in."""

    t_ns: int
    power: Mapping[str, Any]


def load() -> ModuleType:
    """Import the client, and undo what its import does to :mod:`multiprocessing`.

    Raises:
        MeterError: If it is not installed, or does not work with this Python.
    """
    method = multiprocessing.get_start_method(allow_none=True)
    try:
        return importlib.import_module("jtop")
    except ImportError as error:
        raise MeterError(f"the client of jetson-stats cannot be imported ({error})", INSTALL) from error
    finally:
        multiprocessing.set_start_method(method, force=True)


class Link:
    """One connection, made in a thread of its own.

    Args:
        module: What :func:`load` gave.
        socket: The service's socket.
        interval_s: Seconds between samples to ask for; the service's first client decides.

    Attributes:
        interval_s: Seconds between samples, as the service says once the link is settled.
        hardware: What the service says of the board.
        first: Power in the first sample, of which nobody knows how old it is.
    """

    def __init__(self, module: ModuleType, socket: Path, interval_s: float) -> None:
        self.interval_s = interval_s
        self.hardware: Mapping[str, Any] = {}
        self.first: Mapping[str, Any] = {}
        self._client: Any = None
        self._samples: collections.deque[Sample] = collections.deque(maxlen=_KEPT)
        self._uptime: object = None
        self._error: Exception | None = None
        self._closed = False
        self._settled = threading.Event()
        threading.Thread(target=self._connect, args=(module, socket), daemon=True, name="jtop-connect").start()

    def settled(self, timeout_s: float = 0.0) -> bool:
        """Whether connecting has ended, well or not, within this time."""
        return self._settled.wait(timeout_s)

    def failure(self) -> Exception | None:
        """Why no more samples come; ``None`` while they may."""
        if self._error is None and self.settled():
            try:
                if not self._client.ok(spin=True):
                    self._error = ConnectionError("the client of jetson-stats has ended")
            except Exception as error:  # noqa: BLE001 - whatever ended the client's own thread is raised here
                self._error = error
        return self._error

    def take(self) -> list[Sample]:
        """The samples that came in since the last call, none of them twice."""
        return [self._samples.popleft() for _ in range(len(self._samples))]

    def close(self) -> None:
        """Let the client go: its threads end when the service next answers, and do not keep the process alive until then."""
        self._closed = True
        if self.settled() and self._client is not None:
            self._client.close()

    def _connect(self, module: ModuleType, socket: Path) -> None:
        try:
            self._client = client = _client(module, socket, self.interval_s)
            client.attach(self._arrived)
            client.start()
            self.hardware = client.board.get("hardware") or {}
            self.interval_s = float(client.interval)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader must hear of it
            self._error = error
        if self._client is not None:
            _leave_silently(self._client)
        self._settled.set()
        if self._closed:
            self.close()

    def _arrived(self, client: Any) -> None:
        """Called by the client's thread with each sample, and with the same again when it has waited in vain."""
        uptime = client.uptime
        if self._closed or uptime == self._uptime:
            return
        if self._uptime is None:
            self.first = client.power
        else:
            self._samples.append(Sample(now_ns(), client.power))
        self._uptime = uptime


def _client(module: ModuleType, socket: Path, interval_s: float) -> Any:
    """A client that looks for the service at this socket, and not for versions of libraries."""
    service = importlib.import_module("jtop.service")
    client = type("Client", (module.jtop,), {"_load_jetson_libraries": lambda _: None})
    usual, service.JTOP_PIPE = service.JTOP_PIPE, str(socket)  # type: ignore[attr-defined]
    try:
        return client(interval=interval_s)
    finally:
        service.JTOP_PIPE = usual  # type: ignore[attr-defined]


def _leave_silently(client: Any) -> None:
    """Keep the proxies of a client from saying good-bye, for which there is no public way.

    The service loses nothing: what it lends out is permanent.
    """
    for proxy in vars(client).values():
        if isinstance(proxy, BaseProxy):
            proxy._close.cancel()  # type: ignore[attr-defined]  # noqa: SLF001


def is_passing(error: Exception) -> bool:
    """Whether another try may soon go better: the service was busy, went away just now, or had no sample yet."""
    if type(error).__name__ == "JtopException" and error.__context__ is None:
        return not _VERSIONS.search(str(error))
    return _met(error, queue.Empty, EOFError, ConnectionResetError, BrokenPipeError)


def explain(error: Exception, socket: Path) -> MeterError:
    """An error of the client in words of its own, with what mends it."""
    versions = _VERSIONS.search(str(error))
    if versions:
        return MeterError(
            f"the jtop service is jetson-stats {versions[1]}, the client here is {versions[2]}",
            f"pip install jetson-stats=={versions[1]}, or update the service on the board: "
            f"sudo pip3 install -U jetson-stats=={versions[2]} && sudo systemctl restart jtop",
        )
    if _met(error, PermissionError):
        return MeterError(
            f"{socket} may not be opened by this user",
            "sudo usermod -aG jtop $USER, then log in again; in a container --group-add $(getent group jtop | cut -d: -f3)",
        )
    if _met(error, FileNotFoundError, ConnectionError, EOFError):
        return MeterError(
            f"no jtop service answers at {socket}",
            "sudo systemctl start jtop; in a container mount its socket (--volume /run/jtop.sock:/run/jtop.sock)",
        )
    if _met(error, multiprocessing.AuthenticationError):
        return MeterError(
            f"the jtop service at {socket} does not accept this client", "install the same jetson-stats on both sides"
        )
    if _met(error, ValueError):
        version = ".".join(map(str, sys.version_info[:2]))
        return MeterError(
            f"the jtop service runs on a Python that does not understand this one ({version})",
            "run devprof with the service's Python, or use --meter ina",
        )
    what = "it is too busy to answer" if _met(error, queue.Empty) else str(error) or type(error).__name__
    return MeterError(f"the jtop service at {socket} gives no samples: {what}", "sudo systemctl restart jtop")


def _met(error: Exception, *kinds: type[BaseException]) -> bool:
    """Whether the error is of one of these kinds, or the client made it of one that is."""
    return any(isinstance(met, kinds) for met in (error, error.__cause__, error.__context__))
