"""One message and what became of it: the account that a grid keeps, and the row of the round log that comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message

from devprof.records import RoundLog
from strategies.client import TRAIN_CONFIG
from strategies.reading import number_or_none, whole_or_none
from strategies.telemetry import Telemetry, TelemetryError, read_telemetry

__all__ = ["Exchange", "Verdict", "judge", "message_category", "message_config", "wasted_work"]

_MAX_DETAIL = 300
_USEFUL = ("used", "partial")
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reply is worth.

    Attributes:
        outcome: ``used``, ``partial``, ``rejected`` or ``error``, as in :class:`devprof.records.RoundLog`.
        detail: Why, where there is something to say.
        telemetry: The client's account, if it gave one that can be true.
    """

    outcome: str
    detail: str | None
    telemetry: Telemetry | None


def judge(reply: Message, elapsed_s: float) -> Verdict:
    """Read a reply. Telemetry that cannot be true is named in the detail, and the reply counts all the same.

    Args:
        reply: The reply, with content or an error.
        elapsed_s: Seconds on the server's clock between sending and receiving.
    """
    if reply.has_error():
        reason = (reply.error.reason or "no reason given").strip()
        return Verdict("error", f"error {reply.error.code}: {reason}"[:_MAX_DETAIL], None)
    try:
        told = read_telemetry(reply.content, elapsed_s=elapsed_s)
    except TelemetryError as error:
        return Verdict("used", f"telemetry rejected: {error}"[:_MAX_DETAIL], None)
    return Verdict("partial" if told.cut else "used", None, told)


def message_category(message: Message) -> str:
    """``train``, ``evaluate`` or ``query``, without the action that may follow a dot."""
    return message.metadata.message_type.split(".")[0]


def message_config(message: Message) -> Mapping[str, object]:
    """The message's config record: the one named ``config``, else its only one, else an empty mapping."""
    if not message.has_content():
        return {}
    records = message.content.config_records
    if TRAIN_CONFIG in records:
        return dict(records[TRAIN_CONFIG])
    return dict(next(iter(records.values()))) if len(records) == 1 else {}


@dataclass(slots=True)
class Exchange:
    """One message that was sent, and its reply once there is one. Holds no arrays, so late ones cost nothing.

    Attributes:
        node_id: The node it went to.
        client: That client's stable name.
        category: ``train``, ``evaluate`` or ``query``.
        server_round: Round number from 1.
        config: The config that was sent.
        asked_s: When handing over began; no reply can have taken longer than from here.
        sent_s: When handing over was complete; the deadline counts from here.
        deadline_s: Seconds after ``sent_s`` until which a reply is waited for; infinite without a limit.
        predicted_s: Predicted seconds of the client's part.
        device: Name of its device, where the server knows it.
        processor: Its processor, where the server knows it.
        message_id: Flower's id of the message; ``None`` if it could not be handed over.
        finished_s: When the reply reached the server.
        round_end_s: When the server closed the round.
        verdict: What the reply is worth.
        late: Whether the server stopped waiting before the reply came.
        transfers_s: Seconds of the download and the upload, where the grid knows them.
        row: Position of its row in the round log, once it has one.
    """

    node_id: int
    client: str
    category: str
    server_round: int
    config: Mapping[str, object]
    asked_s: float
    sent_s: float
    deadline_s: float
    predicted_s: float | None
    device: str | None = None
    processor: str | None = None
    message_id: str | None = None
    finished_s: float | None = None
    round_end_s: float = 0.0
    verdict: Verdict | None = None
    late: bool = False
    transfers_s: tuple[float, float] | None = None
    row: int | None = None

    @property
    def limit_s(self) -> float:
        """The moment after which the reply is late."""
        return self.sent_s + self.deadline_s

    def reject(self, detail: str) -> None:
        """Note that the strategy did not use the reply, and why; what the client said of itself stays."""
        self.verdict = Verdict("rejected", detail[:_MAX_DETAIL], self.verdict.telemetry if self.verdict else None)

    def to_row(self, strategy: str) -> RoundLog:
        """The row of the round log, as far as the exchange has come."""
        outcome, detail = self._outcome()
        told = self.verdict.telemetry if self.verdict else None
        download_s, upload_s = self.transfers_s or (None, None)
        batch_size = told.batch_size if told else whole_or_none(self.config.get("batch-size"))
        return RoundLog(
            strategy=strategy,
            server_round=self.server_round,
            client=self.client,
            device=told.device if told else self.device,
            processor=told.processor if told else self.processor,
            outcome=outcome,
            detail=detail,
            sent_s=self.sent_s,
            finished_s=self.finished_s,
            round_end_s=self.round_end_s,
            download_s=download_s,
            startup_s=told.startup_s if told else None,
            train_s=told.train_s if told else None,
            upload_s=upload_s,
            local_steps=whole_or_none(self.config.get("local-steps")),
            steps_done=told.steps_done if told else None,
            examples_done=told.examples_done if told else None,
            batch_size=batch_size,
            cutoff_s=number_or_none(self.config.get("cutoff-s")),
            deadline_s=number_or_none(self.deadline_s),
            predicted_s=self.predicted_s,
        )

    def _outcome(self) -> tuple[str, str | None]:
        if self.message_id is None:
            return "missing", "the message could not be handed over to the SuperLink"
        if self.verdict is None:
            return "missing", "no reply when the round was closed"
        if self.late and self.verdict.outcome != "error":
            return "late", self.verdict.detail
        return self.verdict.outcome, self.verdict.detail


def wasted_work(round_logs: Iterable[RoundLog], *, device_s: float | None = None) -> float:
    """The share of the devices' time whose result the server did not use.

    A row's time is download, start-up, training and upload, as far as each is known; a row of which nothing is known (a
    client that never answered) adds nothing, so without ``device_s`` the share is a lower bound.

    Args:
        round_logs: Rows of one run.
        device_s: Seconds that the devices worked in the whole run, where the engine knows them, such as
            ``sum(virtual_grid.device_seconds("train").values())``.

    Returns:
        A share from 0 to 1; 0 where nobody worked.

    Raises:
        ValueError: If ``device_s`` is less than the time of the rows that were used.
    """
    used_s = other_s = 0.0
    for row in round_logs:
        parts = (row.download_s, row.startup_s, row.train_s, row.upload_s)
        spent_s = sum(part for part in parts if part is not None)
        if row.outcome in _USEFUL:
            used_s += spent_s
        else:
            other_s += spent_s
    total_s = used_s + other_s if device_s is None else device_s
    # Both sides are long sums of the same parts in another order: they differ in the last digits.
    if total_s < used_s * (1 - _ROUNDING):
        raise ValueError(f"device_s is {device_s}, less than the {used_s} s of the rows whose result was used")
    wasted = 1.0 - used_s / total_s if total_s > 0 else 0.0
    return wasted if wasted > _ROUNDING else 0.0
