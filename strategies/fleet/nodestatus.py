"""What a node says of itself: who it is, how it is, what is installed, and whether it would measure."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import click
from flwr.app import UserConfigValue

from devprof.device.identity import installed_version
from devprof.device.memory import available_memory_bytes, total_memory_bytes
from devprof.device.state import read_state
from devprof.device.throttle import judge
from strategies.fleet.wire import FleetError, NodeStatus, clean

__all__ = ["asked_options", "node_status", "own_device"]

DEVICE = "device"
DEVICE_ID = "device-id"
TAKE_PART = "devprof-fleet"
_NO = {"no", "false", "off", "0"}


def own_device(node_config: Mapping[str, UserConfigValue]) -> str | None:
    """The device's name in rows, if the node's operator gave it one."""
    name = node_config.get(DEVICE)
    return None if name is None else str(name)


def asked_options(words: Sequence[str]) -> dict[str, Any]:
    """What words of ``devprof measure``'s command line mean to the devprof that is installed here.

    Raises:
        FleetError: If it does not know them; the text says which, and which version it is.
    """
    # The command line is asked for its own options, so that there is one list of them; it is imported when it is needed.
    from devprof.cli.measure import command

    try:
        with command.make_context("measure", [*words, "--output", ".", "--", "any"]) as context:
            return dict(context.params)
    except click.ClickException as error:
        version = installed_version("devprof")
        raise FleetError(f"devprof {version} does not take these options: {clean(error.format_message())}") from error
    except click.exceptions.Exit as error:
        raise FleetError("the options measure nothing") from error


def node_status(node_config: Mapping[str, UserConfigValue], options: Mapping[str, Any]) -> NodeStatus:
    """This node, as it would measure with the given options.

    Args:
        node_config: Of the SuperNode: ``device`` is its name in rows, ``device-id`` its own, and ``devprof-fleet = "no"`` keeps
            it out.
        options: From :func:`asked_options`.
    """
    from devprof.cli.common import EXTRAS, identified, missing_modules

    device = identified(options["processor"], options["threads"], options["affinity"], own_device(node_config))
    state = read_state(device.processor)
    throttling = judge([state])
    device_id = node_config.get(DEVICE_ID)
    return NodeStatus(
        device=device.name,
        device_key=device.key,
        processor=device.processor,
        threads=device.threads,
        devprof_version=installed_version("devprof") or "unknown",
        python_version=platform.python_version(),
        device_id=None if device_id is None else str(device_id),
        refusal=_refusal(node_config, missing_modules("train")),
        power_mode=device.power_mode,
        memory_bytes=total_memory_bytes(),
        free_memory_bytes=available_memory_bytes(),
        temperature_c=state.temperature_c,
        frequency_hz=state.frequency_hz,
        throttled=throttling.verdict,
        throttle_reasons=throttling.reasons,
        torch_version=installed_version("torch"),
        flwr_version=installed_version("flwr"),
        extras=tuple(extra for extra in EXTRAS if not missing_modules(extra)),
        facts=json.dumps(dict(device.facts), sort_keys=True),
    )


def _refusal(node_config: Mapping[str, UserConfigValue], missing: Sequence[str]) -> str | None:
    if str(node_config.get(TAKE_PART, "yes")).lower() in _NO:
        return f"its node config says {TAKE_PART} = {node_config[TAKE_PART]}"
    # Without timm the seed networks can be measured all the same, as on the command line.
    if "torch" in missing:
        return "it cannot train: torch is not installed there, pip install 'devprof[train]'"
    return None
