"""Parts of a fleet in one process: a grid whose nodes answer as they are told, and what nodes say and send."""

import math
import zlib
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, Error, Message, RecordDict
from flwr.serverapp import Grid
from makers import make_run

from devprof.measure.harness import configuration_key
from devprof.records import StepTime, Workload
from devprof.store.folder import write_run
from strategies.compat import NodeInfo, set_message_id
from strategies.fleet.order import Order
from strategies.fleet.tables import TABLES_RECORD, Wanted, gather
from strategies.fleet.wire import REPORT, STATUS, NodeStatus, Report, to_record

WORKLOADS = (Workload("seed:net", image_size=8, batch_size=4), Workload("seed:net", image_size=8, batch_size=8))
KEYS = tuple(configuration_key(workload) for workload in WORKLOADS)


def make_order(folder, **changes):
    """An order of two configurations, once each."""
    values = {"action": "measure", "token": "t0", "deadline_s": 600.0, "wait_s": 10.0, "output": str(folder)}
    return Order(**values | {"models": ("seed:net",), "workloads": WORKLOADS} | changes)


def make_status(device="board", **changes):
    """What a healthy node says of itself."""
    values = {
        "device_key": f"key-{device}",
        "processor": "cpu",
        "threads": 2,
        "devprof_version": "1",
        "python_version": "3",
    }
    return NodeStatus(device, **values | {"facts": '{"cpu": "x"}'} | changes)


def make_node_run(number=0, *, device="board", repeat=0, **changes):
    """A run as a node measures it: number 0 or 1 is the configuration."""
    workload = WORKLOADS[number]
    values = {
        "run_id": f"20260101T00000{number}-{zlib.crc32(f'{device} {repeat}'.encode()):08x}",
        "device": device,
        "device_key": f"key-{device}",
        "model": workload.model,
        "batch_size": workload.batch_size,
        "image_size": 8,
        "configuration": KEYS[number],
        "repeat": repeat,
        "source": "devprof",
        "facts": '{"cpu": "x"}',
    }
    return make_run(**values | changes)


def tables_of(folder, runs, *, device="board", repeats=1, operators=False):
    """The record of tables that a node sends of these runs, each with two steps."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        write_run(folder, run, [StepTime(run.run_id, index, "measured", 1000 + index) for index in range(2)])
    return gather(folder, Wanted(f"key-{device}", KEYS, repeats, operators=operators))


def content_of(status, report=None, tables=None):
    """A reply's content."""
    content = RecordDict({STATUS: to_record(status)})
    if report is not None:
        content[REPORT] = to_record(report)
    if tables is not None:
        content[TABLES_RECORD] = tables
    return content


def delivery(folder, device="board", **status):
    """The content of a complete reply to a job."""
    tables = tables_of(folder, [make_node_run(0, device=device), make_node_run(1, device=device)], device=device)
    return content_of(make_status(device, **status), Report("done", 12.5), tables)


def refill(tables, **parts):
    """The same tables with the bytes of some replaced."""
    kept = {name: tables[name] for name in tables}
    for name, data in parts.items():
        array = next(iter(kept.values()))
        kept[name] = type(array)(dtype="uint8", shape=(len(data),), stype="parquet", data=data)
    return ArrayRecord(kept)


@dataclass
class FleetNode:
    """What a node answers, and how many seconds after it was asked; infinite for never."""

    query: RecordDict | Error | None = None
    job: RecordDict | Error | None = None
    query_delay_s: float = 2.0
    job_delay_s: float = 30.0
    name: str = ""


@dataclass(eq=False)
class FleetGrid(Grid):
    """Flower's grid as a ServerApp sees it; nodes may come online later."""

    clock: object
    nodes: dict
    online_from_s: dict = field(default_factory=dict)
    pushed: list = field(default_factory=list)
    due: dict = field(default_factory=dict)

    run = None

    def set_run(self, run):
        raise NotImplementedError

    def create_message(self, *args, **kwargs):
        raise NotImplementedError

    def get_node_ids(self):
        return [node for node in self.nodes if self.online_from_s.get(node, 0.0) <= self.clock.now_s()]

    def get_nodes(self):
        return [NodeInfo(node_id=node, name=self.nodes[node].name) for node in self.get_node_ids()]

    def push_messages(self, messages):
        for message in messages:
            node = self.nodes[message.metadata.dst_node_id]
            set_message_id(message, f"m{len(self.pushed)}")
            self.pushed.append(message)
            query = message.metadata.message_type.startswith("query")
            told, delay_s = (node.query, node.query_delay_s) if query else (node.job, node.job_delay_s)
            if told is not None and delay_s < math.inf:
                self.due[message.metadata.message_id] = (self.clock.now_s() + delay_s, Message(told, reply_to=message))
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids):
        there = [key for key in message_ids if key in self.due and self.due[key][0] <= self.clock.now_s() + 1e-9]
        return [self.due.pop(key)[1] for key in there]

    def send_and_receive(self, messages, *, timeout=None):
        raise AssertionError("replies are taken one by one")

    def jobs(self):
        """Node ids that were given a job."""
        return [m.metadata.dst_node_id for m in self.pushed if m.metadata.message_type.startswith("train")]
