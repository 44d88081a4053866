"""The ways to treat slow clients that are compared: each a recipe for a strategy on a grid with deadlines.

- ``wait for all``: plain FedAvg; the slowest client decides when a round ends.
- ``drop at deadline``: plain FedAvg with one deadline for all; what comes later is lost.
- ``one tau per processor``: the Flower paper's rule; slow processors return partial results after tau.
- ``planned``: deadline, steps and weights from predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.serverapp.strategy import FedAvg, Strategy

from devprof.plan.estimator import StepEstimator
from devprof.plan.roundtime import round_time
from devprof.plan.settings import ClientState, PlannerSettings
from devprof.plan.whatif import DROP, PLANNED, TAU, WAIT
from devprof.records import Estimate
from strategies.cutoff import CutoffStrategy
from strategies.directory import ClientDirectory
from strategies.grid import DeadlineGrid
from strategies.planned import PlannedStrategy
from strategies.virtual import VirtualGrid

__all__ = ["DROP", "PLANNED", "TAU", "WAIT", "Contender", "Fleet", "contenders"]

# A step that is under way at the cut-off is ended, and sending takes what it takes.
_ALLOWANCE = 0.5


@dataclass(frozen=True, slots=True)
class Fleet:
    """What all contenders are told about the clients: the same, whether they use it or not.

    Attributes:
        clients: By node id.
        estimator: Predictions of step times.
        settings: The normal round: local epochs and batch size.
        payload_bytes: Size of the model as sent.
    """

    clients: Mapping[int, ClientState]
    estimator: StepEstimator
    settings: PlannerSettings
    payload_bytes: int

    def estimate(self, client: ClientState) -> Estimate:
        """The predicted step of a client at the configured batch size.

        Raises:
            LookupError: If nothing is known of its device.
        """
        estimate = self.estimator.estimate(client.device, self.settings.batch_size)
        if estimate is None:
            raise LookupError(f"no prediction for the device {client.device!r}")
        return estimate

    def round_s(self, client: ClientState) -> float:
        """Predicted seconds of a client's normal round."""
        return round_time(
            self.estimate(client),
            epochs=self.settings.local_epochs,
            samples=client.samples,
            batch_size=self.settings.batch_size,
            payload_bytes=self.payload_bytes,
            link=client.link,
            startup_s=client.startup_s,
        ).total_s


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to treat slow clients: its name, and how it is set up on a grid."""

    name: str
    set_up: Callable[[VirtualGrid, Fleet], tuple[Strategy, DeadlineGrid]]


def _fedavg() -> FedAvg:
    return FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)


def _wait(grid: VirtualGrid, _: Fleet) -> tuple[Strategy, DeadlineGrid]:
    return _fedavg(), DeadlineGrid(grid, strategy=WAIT, client_name=grid.client_name)


def _drop(grid: VirtualGrid, fleet: Fleet) -> tuple[Strategy, DeadlineGrid]:
    """The deadline is what the median client needs for a normal round: the usual choice when nothing better is known."""
    times = sorted(fleet.round_s(client) for client in fleet.clients.values())
    deadline_s = times[len(times) // 2]
    wrapped = DeadlineGrid(
        grid, deadline=lambda _: deadline_s, strategy=DROP, client_name=grid.client_name, min_nodes=1
    )
    return _fedavg(), wrapped


def _tau(grid: VirtualGrid, fleet: Fleet) -> tuple[Strategy, DeadlineGrid]:
    """Tau of every processor is the round of the fastest processor, which itself has none (Flower paper, table of cut-offs)."""
    by_processor: dict[str, list[float]] = {}
    for client in fleet.clients.values():
        by_processor.setdefault(client.processor, []).append(fleet.round_s(client))
    rounds = {processor: max(times) for processor, times in by_processor.items()}
    fastest = min(rounds, key=lambda processor: rounds[processor])
    tau_s = rounds[fastest]
    strategy = CutoffStrategy(
        _fedavg(),
        {processor: tau_s for processor in rounds if processor != fastest},
        lambda node: fleet.clients[node].processor,
        transport_allowance_s=_ALLOWANCE * tau_s,
        client_name=grid.client_name,
        name=TAU,
    )
    return strategy, strategy.deadline_grid(grid)


def _planned(grid: VirtualGrid, fleet: Fleet) -> tuple[Strategy, DeadlineGrid]:
    slowest = max(fleet.round_s(client) for client in fleet.clients.values())
    strategy = PlannedStrategy(
        _fedavg(),
        fleet.settings,
        fleet.estimator,
        ClientDirectory(fleet.clients),
        # In virtual time there is nothing to allow for; on a real network the default of seconds applies.
        transport_allowance_s=0.01 * slowest,
        name=PLANNED,
    )
    return strategy, strategy.deadline_grid(grid)


def contenders() -> tuple[Contender, ...]:
    """All four, the simplest first."""
    return (Contender(WAIT, _wait), Contender(DROP, _drop), Contender(TAU, _tau), Contender(PLANNED, _planned))
