"""What every node owes and what it delivered: believable rows go into the folder, and what is missing is a row, too."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import RecordDict

from devprof.device.identity import installed_version
from devprof.errors import DevprofError
from devprof.measure.harness import configuration_key
from devprof.records import Measurement, OperatorTime, Status, Workload
from devprof.store.files import write_file
from devprof.store.folder import map_table, measured_operators, write_records
from strategies.fleet.order import Order
from strategies.fleet.rowcheck import NODE_FACT, checked_operator, checked_run
from strategies.fleet.tables import TABLES_RECORD, received, unpack
from strategies.fleet.wire import REPORT, STATUS, FleetError, NodeStatus, Outcome, Report, clean, from_content

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Ledger", "Node", "NodeResult"]

UNKNOWN = "unknown"
"""The device key of a row that a node owes which never said what it is."""

# Status of the rows that a node did not send, by how its job ended.
_MISSING: Mapping[Outcome, Status] = {
    "done": "error",
    "refused": "error",
    "timeout": "timeout",
    "crashed": "crashed",
    "error": "error",
}

Pair = tuple[str, int]


@dataclass(slots=True)
class Node:
    """A node of the fleet, as far as it is known.

    Attributes:
        node_id: Flower's id of it.
        name: What a person calls it: its registered name, else its own ``device-id``, else the node id.
        status: What it said of itself.
    """

    node_id: int
    name: str
    status: NodeStatus | None = None

    @property
    def device(self) -> str:
        """Name of its device; its own name before it said so."""
        return self.name if self.status is None else self.status.device


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of one node.

    Attributes:
        node: Its name.
        node_id: Flower's id of it; ``None`` for a name that no connected node has.
        device: Name of its device, if it is known.
        device_key: Key of its device, if it is known.
        delivered: Whether it answered with everything that it owed.
        rows_ok: Rows of runs that ended ok.
        rows_failed: Other rows, those of runs that it did not deliver included.
        operators: Rows of timed operators.
        seconds: From the job's arrival to the reply, on the node's clock.
        message: What there is to say; ``None`` for nothing.
    """

    node: str
    node_id: int | None
    device: str | None
    device_key: str | None
    delivered: bool
    rows_ok: int = 0
    rows_failed: int = 0
    operators: int = 0
    seconds: float | None = None
    message: str | None = None


@dataclass(slots=True)
class _Taken:
    """Rows of one reply."""

    runs: dict[str, Measurement] = field(default_factory=dict)
    operators: list[OperatorTime] = field(default_factory=list)
    series: dict[str, pa.Table] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Ledger:
    """Takes replies in. One file per table and reply, under names of its own, written whole or not at all.

    Args:
        folder: The measurement folder.
        order: What was ordered: every node owes a row for each repeat of each workload.

    Raises:
        StoreError: If the folder cannot be read.
    """

    def __init__(self, folder: Path, order: Order) -> None:
        self._folder = folder
        self._order = order
        self._owed = {configuration_key(workload): workload for workload in order.workloads}
        self._known = self._known_runs()

    def _known_runs(self) -> dict[str, str]:
        """Device keys of the runs that the folder has, by run id: a node that kept its rows sends them again."""

        def pairs(piece: pa.Table) -> list[tuple[str, str]]:
            return list(zip(piece.column("run_id").to_pylist(), piece.column("device_key").to_pylist(), strict=True))

        pieces, _ = map_table(self._folder, "runs", pairs, ("run_id", "device_key"))
        return dict(pair for piece in pieces for pair in piece)

    def take(self, node: Node, content: RecordDict) -> NodeResult:
        """The reply of a node: its rows are stored, and those that it owes still are stored as failed.

        Never raises for what is in the reply; a folder that cannot be written is the result's message.
        """
        try:
            status = node.status = from_content(content, STATUS, NodeStatus)
            report = from_content(content, REPORT, Report)
        except FleetError as error:
            return self.absent(node, "error", f"its reply is not understood: {error}")
        taken = self._read(content, status)
        delivered = {(run.configuration or "", run.repeat or 0) for run in taken.runs.values()}
        missing = self._missing(delivered, node, report)
        complete = report.outcome == "done" and not (report.message or missing or taken.problems)
        rest = "" if not missing else f"{len(missing)} of {self._rows_owed} rows are missing"
        message = "; ".join(filter(None, (report.message, *taken.problems, rest)))
        rows = [self._from_node(run, node) for run in taken.runs.values() if run.run_id not in self._known]
        try:
            self._store([*rows, *missing], taken)
        except DevprofError as error:
            return self._result(node, taken, missing, report, delivered=False, message=f"{message}; {error}")
        self._known |= {run.run_id: run.device_key for run in rows}
        return self._result(node, taken, missing, report, delivered=complete, message=message)

    def absent(self, node: Node, status: Status, reason: str) -> NodeResult:
        """A node that did not deliver: each row that it owes is stored with a status and the reason."""
        reason = clean(reason)
        rows = [self._failed(node, key, repeat, status, reason) for key, repeat in self._pairs()]
        try:
            self._store(rows, _Taken())
        except DevprofError as error:
            reason = f"{reason}; {error}"
        return self._result(node, _Taken(), rows, None, delivered=False, message=reason)

    # What is read from a reply ----------------------------------------------------------------------------------------

    def _read(self, content: RecordDict, status: NodeStatus) -> _Taken:
        taken = _Taken()
        try:
            tables = received(content.array_records.get(TABLES_RECORD))
        except FleetError as error:
            taken.problems.append(str(error))
            return taken
        for table, data in tables.items():
            try:
                rows = unpack(table, data)
            except FleetError as error:
                taken.problems.append(str(error))
                continue
            if table in {"steps", "power"}:
                taken.series[table] = rows
            else:
                self._check(table, rows, status, taken)
        return taken

    def _check(self, table: str, rows: pa.Table, status: NodeStatus, taken: _Taken) -> None:
        refused: Counter[str] = Counter()
        for row in rows.drop_columns(["schema_version"]).to_pylist():
            try:
                if table == "operators":
                    taken.operators.append(checked_operator(row, status))
                    continue
                run = self._checked_run(row, status)
                taken.runs[run.run_id] = run
            except FleetError as error:
                refused[str(error)] += 1
        if refused:
            (reason, _), *_ = refused.most_common(1)
            taken.problems.append(f"{refused.total()} rows of {table} are not believed: {reason}")

    def _checked_run(self, row: dict[str, Any], status: NodeStatus) -> Measurement:
        run = checked_run(row, self._owed, self._order.repeats, status)
        if self._known.get(run.run_id, run.device_key) != run.device_key:
            raise FleetError(f"the run {run.run_id} is another device's")
        return run

    @staticmethod
    def _from_node(run: Measurement, node: Node) -> Measurement:
        facts = json.loads(run.facts or "{}") | {NODE_FACT: node.name}
        return dataclasses.replace(run, facts=json.dumps(facts, sort_keys=True))

    # What is owed -----------------------------------------------------------------------------------------------------

    def _pairs(self) -> list[Pair]:
        return [(key, repeat) for repeat in range(self._order.repeats) for key in self._owed]

    @property
    def _rows_owed(self) -> int:
        return len(self._owed) * self._order.repeats

    def _missing(self, delivered: set[Pair], node: Node, report: Report) -> list[Measurement]:
        left_out = report.left_out()
        rows = []
        for key, repeat in self._pairs():
            if (key, repeat) not in delivered:
                reason = left_out.get(self._owed[key].model) or report.message or "it sent no such row"
                rows.append(self._failed(node, key, repeat, _MISSING[report.outcome], clean(reason)))
        return rows

    def _failed(self, node: Node, key: str, repeat: int, status: Status, reason: str) -> Measurement:
        now = datetime.now(timezone.utc)
        known = node.status
        workload: Workload = self._owed[key]
        facts = (json.loads(known.facts) if known else {}) | {NODE_FACT: node.name}
        values: dict[str, Any] = dataclasses.asdict(workload)
        return Measurement(
            run_id=_name(now),
            started_utc=now.isoformat(timespec="seconds"),
            devprof_version=installed_version("devprof") or UNKNOWN,
            device=node.device,
            device_key=known.device_key if known else UNKNOWN,
            processor=known.processor if known else self._order.processor,
            power_mode=known.power_mode if known else None,
            threads=known.threads if known else None,
            suite=self._order.suite,
            configuration=key,
            repeat=repeat,
            energy_source="none",
            source="devprof",
            status=status,
            error=f"node {node.name}: {reason}",
            facts=json.dumps(facts, sort_keys=True),
            **values,
        )

    # What is written --------------------------------------------------------------------------------------------------

    def _store(self, runs: Iterable[Measurement], taken: _Taken) -> None:
        """The runs come last: a finished run has its steps."""
        import pyarrow as pa
        import pyarrow.compute as pc

        runs = list(runs)
        name = _name(datetime.now(timezone.utc))
        self._store_operators(name, taken)
        new = pa.array([run.run_id for run in runs], pa.string())
        for table, rows in taken.series.items():
            own = rows.filter(pc.is_in(rows.column("run_id"), new))
            if own.num_rows:
                write_file(self._folder / table / f"{name}.parquet", own)
        if runs:
            write_records(self._folder, "runs", name, runs)

    def _store_operators(self, name: str, taken: _Taken) -> None:
        if not taken.operators:
            return
        before = measured_operators(self._folder, taken.operators[0].device_key)
        new = [row for row in taken.operators if row.signature not in before]
        if new:
            write_records(self._folder, "operators", name, new)

    @staticmethod
    def _result(
        node: Node, taken: _Taken, failed: list[Measurement], report: Report | None, *, delivered: bool, message: str
    ) -> NodeResult:
        ok = sum(run.status == "ok" for run in taken.runs.values())
        return NodeResult(
            node=node.name,
            node_id=node.node_id,
            device=node.status.device if node.status else None,
            device_key=node.status.device_key if node.status else None,
            delivered=delivered,
            rows_ok=ok,
            rows_failed=len(taken.runs) - ok + len(failed),
            operators=len(taken.operators),
            seconds=report.seconds if report else None,
            message=clean(message) or None,
        )


def _name(now: datetime) -> str:
    """As the harness names runs: files of a table are read in the order of their names."""
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
