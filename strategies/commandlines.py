"""What Flower's programs are started with: command lines and configuration files of a SuperLink and its SuperNodes.

Nothing is started here, and nothing of Flower is imported: flags and files are those of ``flower-superlink``,
``flower-supernode`` and ``flwr`` 1.41, the same as on real devices.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "SUPERLINK",
    "NodeSpec",
    "Scalar",
    "TlsFiles",
    "connection_file",
    "superlink_line",
    "supernode_line",
    "toml_lines",
]

SUPERLINK = "superlink"
"""The name under which the SuperLink's log and processes are found."""

Scalar = bool | int | float | str

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One SuperNode.

    Attributes:
        name: Of its log, its folder and, with TLS, its registration; letters, digits, dots, dashes and underscores.
        node_config: What its ClientApp reads as ``context.node_config``, such as ``device-id`` or ``partition-id``.
        cpus: Processor time per second that it is held to; ``None`` for no limit.
        memory_bytes: Memory that it is held to; ``None`` for no limit.
        environment: Variables for its processes, over those of the federation, such as ``DEVPROF_SYSFS``.
        private_key: Its key (OpenSSH or PEM, ECDSA P-384), with the public one beside it as ``.pub``; needed with TLS.
    """

    name: str
    node_config: Mapping[str, str | int | float] = field(default_factory=dict)
    cpus: float | None = None
    memory_bytes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    private_key: Path | None = None

    @property
    def limited(self) -> bool:
        """Whether it is held to processor time or memory."""
        return self.cpus is not None or self.memory_bytes is not None

    def require_key(self) -> Path:
        """The private key.

        Raises:
            ValueError: If there is none.
        """
        if self.private_key is None:
            raise ValueError(f"with TLS the node {self.name} needs a private_key; make one with deploy/make-keys")
        return self.private_key

    def __post_init__(self) -> None:
        """Refuse what the file system or Flower would refuse later."""
        if not _NAME.fullmatch(self.name) or self.name == SUPERLINK or self.name.startswith("run-"):
            raise ValueError(
                f"{self.name!r} is no name for a node: use letters, digits, '.', '-', '_'; not 'superlink', 'run-...'"
            )


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What ``deploy/make-keys`` makes for the SuperLink.

    Attributes:
        ca: Certificate that signed the server's, PEM.
        certificate: The server's certificate, PEM, valid for ``127.0.0.1``.
        key: The server's private key, PEM.
    """

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> TlsFiles:
        """The files as ``deploy/make-keys --folder`` names them."""
        return cls(folder / "ca.crt", folder / "server.crt", folder / "server.key")


def superlink_line(port: int, tls: TlsFiles | None) -> list[str]:
    """Command line of a SuperLink on the loopback interface that installs nothing."""
    security = ["--insecure"]
    if tls is not None:
        files = {"--ssl-ca-certfile": tls.ca, "--ssl-certfile": tls.certificate, "--ssl-keyfile": tls.key}
        security = [word for flag, path in files.items() for word in (flag, str(path.resolve()))]
        security.append("--enable-supernode-auth")
    place = ["--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"]
    return ["flower-superlink", *security, *place]


def supernode_line(
    spec: NodeSpec, tls: TlsFiles | None, *, superlink: str, port: int, node_config: Path | None
) -> list[str]:
    """Command line of a SuperNode, below ``devprof emulate`` if it is held to limits.

    Args:
        spec: The node.
        tls: As the SuperLink's.
        superlink: Host and port of the SuperLink.
        port: Of the node's own interface for its ClientApps; two nodes on one machine need two.
        node_config: TOML file with ``spec.node_config``: no quoting can go wrong in it. ``None`` without any.

    Raises:
        ValueError: If with TLS the node has no key.
    """
    security = ["--insecure"]
    if tls is not None:
        key = ["--auth-supernode-private-key", str(spec.require_key().resolve())]
        security = ["--root-certificates", str(tls.ca.resolve()), *key]
    place = ["--superlink", superlink, "--port", str(port)]
    config = [] if node_config is None else ["--node-config", str(node_config)]
    return [*_wrapper(spec), "flower-supernode", *security, *place, *config]


def connection_file(name: str, address: str, tls: TlsFiles | None) -> str:
    """Text of ``config.toml`` in the home of the ``flwr`` command: where the SuperLink is, and whom to trust."""
    trust: dict[str, Scalar] = {"insecure": True} if tls is None else {"root-certificates": str(tls.ca.resolve())}
    return f'[superlink]\ndefault = "{name}"\n\n[superlink.{name}]\n{toml_lines({"address": address} | trust)}'


def toml_lines(values: Mapping[str, Scalar]) -> str:
    """A flat TOML table: one line per key, whatever the strings hold.

    Raises:
        TypeError: If a value is not a bool, int, float or string.
    """
    return "".join(f"{_toml_string(key)} = {_toml_value(key, value)}\n" for key, value in values.items())


def _toml_value(key: str, value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, (int, float)):
        return repr(value)
    raise TypeError(f"{key} is a {type(value).__name__}; Flower takes bool, int, float and str")


def _toml_string(text: str) -> str:
    # JSON escapes what TOML wants escaped, all but DEL; beyond ASCII it would write pairs of surrogates, which TOML refuses.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _wrapper(spec: NodeSpec) -> list[str]:
    """The command that holds another one to the node's limits; empty without limits."""
    limits: list[str] = []
    if spec.cpus is not None:
        limits += ["--cpus", repr(spec.cpus)]
    if spec.memory_bytes is not None:
        limits += ["--memory", str(spec.memory_bytes)]
    return [sys.executable, "-m", "devprof", "emulate", *limits, "--"] if limits else []
