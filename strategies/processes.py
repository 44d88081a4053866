"""A whole federation of real Flower processes on this machine: one SuperLink and any number of SuperNodes, on loopback.

For tests, benchmarks, and for users who try before they deploy: the same programs, flags and files as on real devices
(``docs/devices.md``), TLS and keys included, and a SuperNode can be held to the speed and memory of a smaller device. Flower
1.41 speaks HTTP on one port; nothing here leaves the machine.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import final

from devprof.errors import DevprofError, MissingExtraError, UnknownNameError
from strategies.commandlines import (
    SUPERLINK,
    NodeSpec,
    Scalar,
    TlsFiles,
    connection_file,
    superlink_line,
    supernode_line,
    toml_lines,
)
from strategies.compat import flower_offline_environment
from strategies.processtree import ProcessTree, guarded

__all__ = ["SUPERLINK", "Ended", "LocalFederation", "NodeSpec", "TlsFiles"]

_CONNECTION = "local-federation"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NODE_ID = re.compile(r"SuperNode ID: (\d+)")
_RUN_ID = re.compile(r"Successfully started run (\d+)")
_POLL_S = 0.1
_COMMAND_TIMEOUT_S = 60.0
_GOODBYE_S = 5.0
_TAIL_CHARACTERS = 3000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        exit_code: Of ``flwr run``; 0 also for a run that failed after it had started.
        run_id: ``None`` if the run was never accepted.
        status: Flower's word, such as ``finished:completed``, ``finished:failed``; ``refused`` without a run id.
        log: What ``flwr run --stream`` printed, without colours.
    """

    exit_code: int
    run_id: int | None
    status: str
    log: str

    @property
    def ok(self) -> bool:
        """Whether the ServerApp came to its end."""
        return self.exit_code == 0 and self.status == "finished:completed"


@final
class LocalFederation:
    """SuperLink and SuperNodes as a context manager: online when the block begins, gone when it ends, however it ends.

    Methods may be called from several threads: :meth:`run` in one, :meth:`kill` in another.

    Args:
        home: Folder for configuration, logs and Flower's own files; made if missing. A federation has it for itself.
        nodes: What to start with; more may join by :meth:`start_node`.
        tls: Encrypt and authenticate: only registered keys may join. ``None`` for neither.
        environment: Variables for all processes, over this process's own.
        start_limit_s: How long the SuperLink, and each SuperNode, may take to come up, in seconds.

    Raises:
        ValueError: If two nodes have one name, or with TLS one has no key.
    """

    def __init__(
        self,
        home: Path,
        nodes: Sequence[NodeSpec],
        *,
        tls: TlsFiles | None = None,
        environment: Mapping[str, str] | None = None,
        start_limit_s: float = 120.0,
    ) -> None:
        self.home = home.resolve()
        self.tls = tls
        self._nodes = list(nodes)
        self._start_limit_s = start_limit_s
        self._mark = secrets.token_hex(8)
        self._guard = contextlib.ExitStack()
        self._trees: dict[str, ProcessTree] = {}
        self._registered: set[Path] = set()
        self._run_numbers = itertools.count(1)
        self._ports = _free_ports()
        self._port = next(self._ports)
        self._environment = (
            dict(os.environ)
            | flower_offline_environment()
            | {
                # The SuperLink and each SuperNode start other programs of Flower by name.
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
                "PYTHONUNBUFFERED": "1",
            }
            | dict(environment or {})
        )
        if len({node.name for node in nodes}) < len(nodes):
            raise ValueError(f"each node needs a name of its own: {', '.join(node.name for node in nodes)}")
        for node in nodes:
            if tls is not None:
                node.require_key()

    @property
    def address(self) -> str:
        """Host and port of the SuperLink."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> LocalFederation:
        """Start everything and wait until all nodes are online."""
        if shutil.which("flower-superlink", path=self._environment["PATH"]) is None:
            raise MissingExtraError("fl", "flwr", "a local federation")
        try:
            self._guard.enter_context(guarded(self._mark))
            self._configure()
            self._start_superlink()
            for node in self._nodes:
                self._launch(node)
            self._wait_online(*(node.name for node in self._nodes))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that was started."""
        self.close()

    def close(self) -> None:
        """End all processes, by id, the nodes before the SuperLink; may be called again."""
        trees = list(self._trees.values())
        link = self._trees.get(SUPERLINK)
        others = [tree for tree in trees if tree is not link]
        with self._guard:
            for tree in trees:
                self._guard.callback(tree.kill)
            for tree in others:
                tree.ask_to_end()
            end = time.monotonic() + _GOODBYE_S
            for tree in others:
                tree.wait(end - time.monotonic())
            if link is not None:
                link.ask_to_end()
                link.wait(_GOODBYE_S)

    def run(self, app: Path, run_config: Mapping[str, Scalar], *, timeout_s: float) -> Ended:
        """``flwr run`` with a stream of the log, until the run ends.

        Args:
            app: Folder with the app's ``pyproject.toml``.
            run_config: Overrides of ``[tool.flwr.app.config]``; the keys must exist there.
            timeout_s: Longest time in seconds; then the run is stopped.

        Raises:
            DevprofError: If the run does not end in time; the message ends with its log.
        """
        name = f"run-{next(self._run_numbers)}"
        config = self.home / f"{name}.toml"
        config.write_text(toml_lines(run_config), encoding="utf-8")
        overrides = ["--run-config", str(config)] if run_config else []
        line = ["flwr", "run", str(app.resolve()), _CONNECTION, "--stream", *overrides]
        tree = self._start(name, line, home=self.home)
        in_time = tree.wait(timeout_s)
        log = self._text(name)
        found = _RUN_ID.search(log)
        run_id = int(found[1]) if found else None
        if not in_time:
            if run_id is not None:
                self._flwr("stop", str(run_id), _CONNECTION)
            tree.kill()
            raise DevprofError(f"the run did not end within {timeout_s:g} s and was stopped; {self._tail(name)}")
        exit_code = tree.exit_code
        assert exit_code is not None
        return Ended(exit_code, run_id, "refused" if run_id is None else self._status(run_id), log)

    def start_node(self, spec: NodeSpec, *, register: bool = True) -> None:
        """Let a node join, or join again after its end; returns when it is online.

        Args:
            spec: The node.
            register: With TLS, make its key known to the SuperLink first, if it is not yet.

        Raises:
            DevprofError: If it ends or does not come online in time; the message ends with its log.
            ValueError: If a node of that name runs, or with TLS it has no key.
        """
        if spec.name in self._trees and self._trees[spec.name].exit_code is None:
            raise ValueError(f"the node {spec.name} is running")
        if self.tls is not None:
            spec.require_key()
        self._launch(spec, register=register)
        self._wait_online(spec.name)

    def stop_node(self, name: str) -> None:
        """Let a node leave as its operator would (SIGTERM); returns when its processes are gone."""
        self._tree(name).end()

    def kill(self, name: str) -> None:
        """SIGKILL to a node and all it started, as a power cut would; the SuperLink finds out by missing heartbeats."""
        self._tree(name).kill()

    def stop(self, name: str) -> None:
        """SIGSTOP to a node and all it started: connections stay open, nothing moves."""
        self._tree(name).stop()

    def resume(self, name: str) -> None:
        """SIGCONT to a node and all it started."""
        self._tree(name).resume()

    def processes(self, name: str) -> list[int]:
        """Process ids of a node (or :data:`SUPERLINK`) and of all it started, parents first; empty after its end."""
        return self._tree(name).members()

    def node_id(self, name: str) -> int | None:
        """The id that the SuperLink gave a node at its latest start; ``None`` before it is online."""
        found = _NODE_ID.findall(self._text(name))
        return int(found[-1]) if found else None

    def logs(self, name: str) -> Path:
        """Log file of a node, of :data:`SUPERLINK`, or of a run: ``run-1`` is the first."""
        return self._tree(name).log

    def online(self) -> set[int]:
        """Ids of the nodes that the SuperLink holds to be online; a killed one stays so for up to a minute."""
        done = self._flwr("supernode", "list", _CONNECTION, "--format", "json")
        return {int(node["node-id"]) for node in _json(done)["nodes"] if node["status"] == "online"}

    def _configure(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        text = connection_file(_CONNECTION, self.address, self.tls)
        (self.home / "config.toml").write_text(text, encoding="utf-8")

    def _start_superlink(self) -> None:
        self._start(SUPERLINK, superlink_line(self._port, self.tls))
        end = time.monotonic() + self._start_limit_s
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1.0):
                return
            self._check_coming(SUPERLINK, end)

    def _launch(self, spec: NodeSpec, *, register: bool = True) -> None:
        if self.tls is not None and register:
            self._register(spec.name, spec.require_key().resolve())
        config = None
        if spec.node_config:
            config = self.home / f"{spec.name}.toml"
            config.write_text(toml_lines(spec.node_config), encoding="utf-8")
        line = supernode_line(spec, self.tls, superlink=self.address, port=next(self._ports), node_config=config)
        log = self.home / f"{spec.name}.log"
        # Its id is read from the log: what an earlier life left there is not this one's.
        if log.exists():
            log.rename(log.with_suffix(f".log.{time.time_ns()}"))
        self._start(spec.name, line, environment=spec.environment, wrapped=spec.limited)

    def _start(
        self,
        name: str,
        line: Sequence[str],
        *,
        home: Path | None = None,
        environment: Mapping[str, str] | None = None,
        wrapped: bool = False,
    ) -> ProcessTree:
        """Start a tree with a Flower home of its own, as another machine would have."""
        folder = home or self.home / name
        folder.mkdir(parents=True, exist_ok=True)
        whole = self._environment | dict(environment or {}) | {"FLWR_HOME": str(folder)}
        log = self.home / f"{name}.log"
        tree = ProcessTree(line, mark=f"{self._mark}/{name}/", environment=whole, log=log, wrapped=wrapped)
        self._trees[name] = tree
        return tree

    def _register(self, name: str, private_key: Path) -> None:
        if private_key in self._registered:
            return
        public_key = private_key.with_name(f"{private_key.name}.pub")
        self._flwr("supernode", "register", str(public_key), _CONNECTION, "--name", name, "--format", "json")
        self._registered.add(private_key)

    def _wait_online(self, *names: str) -> None:
        end = time.monotonic() + self._start_limit_s
        for name in names:
            while self.node_id(name) is None:
                self._check_coming(name, end)
        # Asking the SuperLink takes seconds of processor time: once for all.
        while names:
            online = self.online()
            names = tuple(name for name in names if self.node_id(name) not in online)
            for name in names:
                self._check_coming(name, end)

    def _check_coming(self, name: str, end: float) -> None:
        """A short wait; an error if the process has ended or its time is up."""
        code = self._trees[name].exit_code
        if code is not None:
            raise DevprofError(f"{name} ended with exit code {code} before it was online; {self._tail(name)}")
        if time.monotonic() > end:
            raise DevprofError(f"{name} was not online within {self._start_limit_s:g} s; {self._tail(name)}")
        time.sleep(_POLL_S)

    def _status(self, run_id: int) -> str:
        done = _json(self._flwr("list", _CONNECTION, "--run-id", str(run_id), "--format", "json"))
        return str(done["runs"][0]["status"])

    def _flwr(self, *words: str) -> str:
        """A short ``flwr`` command; its stdout."""
        try:
            done = subprocess.run(
                ["flwr", *words],
                env=self._environment | {"FLWR_HOME": str(self.home)},
                capture_output=True,
                text=True,
                timeout=_COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DevprofError(
                f"flwr {words[0]} gave no answer in {_COMMAND_TIMEOUT_S:g} s; {self._tail(SUPERLINK)}"
            ) from error
        if done.returncode != 0:
            raise DevprofError(
                f"flwr {' '.join(words)} failed: {(done.stdout + done.stderr).strip()[-_TAIL_CHARACTERS:]}"
            )
        return done.stdout

    def _tree(self, name: str) -> ProcessTree:
        if name not in self._trees:
            raise UnknownNameError("process", name, self._trees, f"There are: {', '.join(self._trees)}.")
        return self._trees[name]

    def _text(self, name: str) -> str:
        path = self.logs(name)
        return _COLOUR.sub("", path.read_text(encoding="utf-8", errors="replace")) if path.exists() else ""

    def _tail(self, name: str) -> str:
        return f"the end of {self.logs(name)}:\n{self._text(name)[-_TAIL_CHARACTERS:]}"


def _free_ports() -> Iterator[int]:
    """Ports of the loopback interface that nobody listens on, each once."""
    given: set[int] = set()
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in given:
            given.add(port)
            yield port


def _json(text: str) -> dict[str, list[dict[str, str]]]:
    """The JSON object in a command's output, which may have a line of text before it."""
    parsed: dict[str, list[dict[str, str]]] = json.loads(text[text.index("{") :])
    return parsed
