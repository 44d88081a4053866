from __future__ import annotations

import logging
import math
import time

import numpy as np
import pytest
from fake_meters_kernel import FakeRapl
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from real_time import advancing

from devprof.records import Link
from strategies.client import Budget
from strategies.compat import task_identity
from strategies.profiling import ProfileMod, profile_mod
from strategies.telemetry import RECORD_NAME, TelemetryError, read_telemetry
from strategies.virtual import ReplayedStepTimes, VirtualDevice, VirtualGrid

ARRAYS = ArrayRecord([np.zeros(25, dtype=np.float32)])


@pytest.fixture(autouse=True)
def _identity():
    with task_identity():
        yield


def context(**node):
    return Context(1, 5, {"device": "pi4", "processor": "cpu", **node}, RecordDict(), {})


def message(kind="train", **config):
    return Message(RecordDict({"arrays": ARRAYS, "config": ConfigRecord(config)}), 5, kind)


def trained(received, sizes=(4, 4, 2)):
    budget = Budget.from_message(received)
    for _ in range(budget.local_epochs):
        for _ in budget.limit([np.zeros(size) for size in sizes]):
            pass
    return Message(RecordDict({"arrays": ARRAYS}), reply_to=received)


def profiled(mod, received, handler=trained, **node):
    return mod(received, context(**node), lambda given, _: handler(given))


def test_a_loop_under_a_budget_needs_no_other_line():
    told = read_telemetry(profiled(profile_mod, message(**{"batch-size": 4, "local-epochs": 2})).content)
    assert (told.device, told.steps_done, told.examples_done, told.batch_size) == ("pi4", 6, 20, 4)
    assert told.received_bytes == told.sent_bytes == ARRAYS.count_bytes()
    assert told.total_s >= told.startup_s + told.train_s
    assert told.energy_j is None


def test_handlers_that_train_at_a_size_of_their_own_say_so():
    assert read_telemetry(profiled(profile_mod, message()).content).batch_size == 4
    assert read_telemetry(profiled(profile_mod, message(**{"batch-size": 2})).content).batch_size == 4


def test_energy_is_the_difference_of_the_meter():
    counts = iter([100.0, 142.5])
    told = read_telemetry(profiled(ProfileMod(lambda: next(counts)), message()).content)
    assert told.energy_j == 42.5


def test_the_meter_of_the_node_config_tells_the_energy_of_the_round(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
    taken_s = []

    def working(received):
        begin_s = time.monotonic()
        # A round is work of some length.
        time.sleep(0.3)
        reply = trained(received)
        taken_s.append(time.monotonic() - begin_s)
        return reply

    with advancing(FakeRapl(tmp_path, {"package-0": 20.0})):
        for meter in ("rapl", "auto"):
            told = read_telemetry(profiled(profile_mod, message(), working, meter=meter).content)
            assert told.energy_j == pytest.approx(20 * taken_s[-1], rel=0.15)
            assert told.steps_done == 3


@pytest.mark.parametrize(
    ("meter", "said"), [("rapl", "no RAPL zones"), ("auto", "no meter"), ("rapple", "closest: rapl")]
)
def test_a_meter_that_is_not_there_is_said_and_costs_the_energy(tmp_path, monkeypatch, caplog, meter, said):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
    told = read_telemetry(profiled(profile_mod, message(), meter=meter).content)
    assert (told.energy_j, told.steps_done) == (None, 3)
    assert said in caplog.text


@pytest.mark.parametrize("counts", [[None, 5.0], [5.0, None], [9.0, 5.0], [float("nan"), 5.0], [5.0, float("inf")], []])
def test_a_meter_that_fails_costs_the_energy_and_nothing_else(counts):
    values = iter(counts)
    told = read_telemetry(profiled(ProfileMod(lambda: next(values)), message()).content)
    assert told.energy_j is None
    assert told.steps_done == 3


def test_the_last_budget_that_did_steps_is_the_account():
    def two_phases(received):
        Budget.from_message(received)
        reply = trained(received)
        Budget.from_message(received)
        return reply

    assert read_telemetry(profiled(profile_mod, message(), two_phases).content).steps_done == 3


def test_without_a_budget_the_steps_are_unknown_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        reply = profiled(profile_mod, message(), lambda given: Message(RecordDict(), reply_to=given))
    assert "made no strategies.client.Budget" in caplog.text
    assert reply.content[RECORD_NAME]["total-s"] >= 0
    with pytest.raises(TelemetryError, match="steps-done"):
        read_telemetry(reply.content)


def test_other_messages_and_errors_pass():
    reply = Message(RecordDict(), reply_to=message("evaluate"))
    assert profile_mod(message("evaluate"), context(), lambda *_: reply) is reply
    failed = Message(Error(2, "no"), reply_to=message())
    assert profile_mod(message(), context(), lambda *_: failed) is failed


def test_in_virtual_time_the_account_is_the_devices():
    app = ClientApp(mods=[profile_mod])
    app.train()(lambda received, _: trained(received))
    device = VirtualDevice(
        "pi4", "cpu", Link(math.inf, math.inf), startup_s=2.0, step_s=ReplayedStepTimes({4: [0.5], 2: [0.25]})
    )
    grid = VirtualGrid(app, [device], seed=1)
    (reply,) = grid.send_and_receive([Message(RecordDict({"arrays": ARRAYS}), grid.get_node_ids()[0], "train")])
    told = read_telemetry(reply.content)
    assert (told.startup_s, told.train_s, told.total_s) == (2.0, 1.25, 3.25)
    assert told.rss_peak_bytes is None
