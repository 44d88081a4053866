"""Energy of a client's round from the meter of its node: ``--node-config "meter='rapl'"``.

The meter is read in a process of its own while the handler works, as ``devprof measure`` does it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from devprof.errors import DevprofError
from devprof.meters.base import now_ns
from devprof.meters.catalogue import choose
from devprof.meters.sampling import Sampling

__all__ = ["METER", "RoundEnergy", "round_energy"]

METER = "meter"
"""Key of the node config: a meter as ``devprof measure --meter`` names it, or ``auto``."""

_log = logging.getLogger(__name__)


class RoundEnergy:
    """What the meter measured; complete when its block has ended.

    Attributes:
        energy_j: Gross joules of the block; ``None`` without a meter, or where it was not heard for long enough.
    """

    energy_j: float | None = None


@contextmanager
def round_energy(node_config: Mapping[str, object]) -> Iterator[RoundEnergy]:
    """Measure the energy of a block, if the node config names a meter. A meter's trouble costs the energy and nothing else."""
    result = RoundEnergy()
    spec = _spec(node_config)
    if spec is None:
        yield result
        return
    with ExitStack() as stack:
        try:
            sampling = stack.enter_context(Sampling(spec))
        except DevprofError as error:
            _log.warning("the meter %s cannot be read, so this round has no energy: %s", spec, error)
            yield result
            return
        sampling.now()
        begin_ns = now_ns()
        yield result
        end_ns = now_ns()
        sampling.now()
        energy = sampling.energy((begin_ns, end_ns))
        if energy.energy_j is None:
            _log.warning("the meter %s was heard for %.0f %% of this round: no energy", spec, 100 * energy.coverage)
        result.energy_j = energy.energy_j


def _spec(node_config: Mapping[str, object]) -> str | None:
    spec = node_config.get(METER)
    if spec is None or spec in {"", "none"}:
        return None
    if spec != "auto":
        return str(spec)
    found = choose(str(node_config.get("torch-device", "cpu")))
    if not found:
        _log.warning("meter='auto' finds no meter on this node: its rounds have no energy")
    return found[0] if found else None
