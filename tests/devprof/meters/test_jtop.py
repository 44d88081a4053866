"""The driver against a client of jetson-stats that does what a test says. The real one is in test_jtop_service.py."""

import importlib.util
import queue
import sys
import types
from datetime import timedelta
from multiprocessing import AuthenticationError

import pytest
from fake_meters_jetson import Board, JetsonTree
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters import jtop
from devprof.meters.base import MeterError, MeterLostError

ORIN_NX = {
    "rail": {"VDD_SOC": {"volt": 5000, "curr": 200, "power": 1000}},
    "tot": {"name": "VDD_IN", "volt": 5000, "curr": 1000, "power": 5000},
}
SECOND_NS = 10**9


JtopException = type("JtopException", (Exception,), {})


class Script:
    """What clients do, in the order in which they are made: what starting raises, and what they then say."""

    def __init__(self):
        self.power = ORIN_NX
        self.hardware = {"SoC": "tegra234"}
        self.interval_s = 0.5
        self.uptime_s = 100.0
        self.refusals = []
        self.failure = None
        self.clients = []
        self.now_ns = 5 * SECOND_NS

    def sample(self, *, new=True):
        """Let the newest client have a sample, or the last one again."""
        self.uptime_s += 0.5 if new else 0.0
        client = self.clients[-1]
        for observer in client.observers:
            observer(client)


@pytest.fixture
def script(monkeypatch, tmp_path):
    script = Script()

    class Client:
        def __init__(self, interval):
            self.asked_s = interval
            self.socket = service.JTOP_PIPE
            self.observers = []
            self.open = False
            script.clients.append(self)

        power = property(lambda _: script.power)
        uptime = property(lambda _: timedelta(seconds=script.uptime_s))
        interval = property(lambda _: script.interval_s)
        board = property(lambda _: {"hardware": script.hardware})

        def attach(self, observer):
            self.observers.append(observer)

        def start(self):
            if script.refusals:
                raise script.refusals.pop(0)
            self.open = True
            script.sample()

        def ok(self, spin):
            assert spin, "without spin it waits, and then ends the client"
            if script.failure:
                raise script.failure
            return self.open

        def close(self):
            self.open = False

    module, service = types.ModuleType("jtop"), types.ModuleType("jtop.service")
    module.jtop, module.__version__, service.JTOP_PIPE = Client, "7.2.2", "/run/jtop.sock"
    monkeypatch.setitem(sys.modules, "jtop", module)
    monkeypatch.setitem(sys.modules, "jtop.service", service)
    JetsonTree(tmp_path, Board((), {}, {})).use(monkeypatch)
    return script


@pytest.fixture
def meter(script, tmp_path):
    meter = jtop.JtopMeter(tmp_path / "jtop.sock", clock_ns=lambda: script.now_ns)
    yield meter
    meter.close()


def powers(readings):
    return {reading.domain: reading.power_w for reading in readings}


def caused(cause):
    """An error as the client makes it of another."""
    error = JtopException("something happened")
    error.__context__ = cause
    return error


def test_the_rail_that_the_service_takes_for_the_total_is_one_of_the_rails(script, meter):
    assert meter.info.rule == "jetson-orin-nx-nano/1"
    assert meter.info.period_s == 0.5
    assert {entry.domain: entry.headline for entry in meter.info.channels} == {"VDD_IN": True, "VDD_SOC": False}
    script.sample()
    assert powers(meter.read()) == {"VDD_IN": 5.0, "VDD_SOC": 1.0}
    assert meter.read() == []


def test_the_first_sample_and_repeated_ones_are_not_measurements(script, meter):
    assert meter.read() == []
    script.sample()
    script.sample(new=False)
    script.sample(new=False)
    assert len(meter.read()) == 2


def test_samples_between_two_calls_are_all_given_in_order(script, meter):
    script.sample()
    script.power = {"rail": {}, "tot": {**ORIN_NX["tot"], "power": 7000}}
    script.sample()
    readings = meter.read()
    assert [reading.power_w for reading in readings if reading.domain == "VDD_IN"] == [5.0, 7.0]
    assert [reading.power_w for reading in readings if reading.domain == "VDD_SOC"] == [1.0, None]


def test_the_client_looks_for_the_socket_that_was_named(script, meter, tmp_path):
    assert script.clients[0].socket == str(tmp_path / "jtop.sock")
    assert sys.modules["jtop.service"].JTOP_PIPE == "/run/jtop.sock"
    assert script.clients[0].asked_s == 0.5


def test_silence_is_one_break_and_then_a_new_connection(script, meter):
    script.sample()
    meter.read()
    script.now_ns += int(1.4 * SECOND_NS)
    assert meter.read() == []
    script.now_ns += int(0.2 * SECOND_NS)
    assert powers(meter.read()) == {"VDD_IN": None, "VDD_SOC": None}
    assert meter.read() == []
    assert len(script.clients) == 1
    script.now_ns += 3 * SECOND_NS
    assert meter.read() == []
    assert not script.clients[0].open
    meter._link.settled(5.0)
    script.sample()
    assert powers(meter.read()) == {"VDD_IN": 5.0, "VDD_SOC": 1.0}
    assert len(script.clients) == 2


def test_a_lost_service_is_a_break_and_tried_again_once_per_second_until_patience_ends(script, meter):
    script.failure = caused(EOFError())
    script.refusals = [caused(ConnectionRefusedError(111, "refused"))] * 100
    assert powers(meter.read()) == {"VDD_IN": None, "VDD_SOC": None}
    for _ in range(59):
        script.now_ns += SECOND_NS // 2
        assert meter.read() == []
        assert meter._link.settled(5.0)
    assert len(script.clients) == 1 + 29
    script.now_ns += 2 * SECOND_NS
    with pytest.raises(MeterLostError, match="no jtop service answers") as failure:
        meter.read()
    assert "systemctl start jtop" in failure.value.remedy


def test_what_is_still_in_the_queue_comes_before_the_break(script, meter):
    script.sample()
    script.failure = ConnectionResetError(104, "reset")
    assert powers(meter.read())["VDD_IN"] == 5.0
    assert powers(meter.read())["VDD_IN"] is None


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (caused(FileNotFoundError(2, "none")), "no jtop service answers at", "sudo systemctl start jtop"),
        (caused(ConnectionRefusedError(111, "no")), "no jtop service answers at", "sudo systemctl start jtop"),
        (caused(PermissionError(13, "no")), "may not be opened by this user", "usermod -aG jtop"),
        (caused(ValueError("pickle")), "on a Python that does not understand this one", "--meter ina"),
        (AuthenticationError("digest"), "does not accept this client", "same jetson-stats"),
        (KeyError("board"), "gives no samples: 'board'", "systemctl restart jtop"),
        (
            JtopException("Mismatch version jtop service: [7.2.2] and client: [4.3.2]. Please run:\n"),
            "the jtop service is jetson-stats 7.2.2, the client here is 4.3.2",
            "pip install jetson-stats==7.2.2",
        ),
    ],
)
def test_why_a_connection_fails_is_said_with_what_mends_it(script, tmp_path, error, reason, remedy):
    script.refusals = [error]
    with pytest.raises(MeterError) as failure:
        jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert reason in failure.value.reason
    assert remedy in failure.value.remedy
    assert len(script.clients) == 1


@pytest.mark.parametrize("error", [queue.Empty(), caused(EOFError()), JtopException("Error connection")])
def test_a_busy_service_is_asked_again(script, tmp_path, error):
    script.refusals = [error]
    jtop.open_meter(str(tmp_path / "jtop.sock")).close()
    assert len(script.clients) == 2


def test_a_missing_client_is_named_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jtop", None)
    with pytest.raises(MeterError, match="cannot be imported") as failure:
        jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert "pip install 'devprof[jetson]'" in failure.value.remedy


@pytest.mark.parametrize(
    "power",
    [
        {},
        {"rail": {}, "tot": {"power": 0, "avg": 0}},
        {"rail": {"USB": {"volt": 5000, "curr": 1, "power": 5, "status": "Charging"}}, "tot": {"power": 5, "avg": 5}},
        {"rail": {"battery": {"volt": 5000, "curr": 1, "power": 5, "type": "Battery"}}, "tot": {"power": 5, "avg": 5}},
    ],
)
def test_a_service_without_rails_of_the_board_is_no_meter(script, tmp_path, power):
    script.power = power
    with pytest.raises(MeterError, match="sees no power rails"):
        jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert not script.clients[0].open


def test_power_supplies_of_the_kernel_are_no_rails(script, tmp_path):
    (tmp_path / "sys" / "class" / "power_supply" / "ucsi-source-psy-1").mkdir(parents=True)
    script.power = {
        "rail": {**ORIN_NX["rail"], "ucsi-source-psy-1": {"volt": 5000, "curr": 900, "power": 4500}},
        "tot": ORIN_NX["tot"],
    }
    meter = jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert [entry.domain for entry in meter.info.channels] == ["VDD_IN", "VDD_SOC"]
    meter.close()


def test_the_services_own_total_is_used_only_where_a_sensor_measures_it(script, tmp_path):
    rails = {"VDD_A": {"volt": 5000, "curr": 200, "power": 1000}, "VDD_B": {"volt": 5000, "curr": 400, "power": 2000}}
    script.hardware = {"SoC": "tegra999"}
    script.power = {"rail": rails, "tot": {"power": 3000, "avg": 3000}}
    with pytest.raises(MeterError, match="VDD_A, VDD_B"):
        jtop.open_meter(str(tmp_path / "jtop.sock"))
    script.power = {"rail": rails, "tot": {"power": 9000, "avg": 1, "volt": 19000, "curr": 474}}
    meter = jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert meter.info.rule == "jtop-total/1"
    assert [entry.domain for entry in meter.info.channels if entry.headline] == ["total"]
    script.sample()
    assert powers(meter.read()) == {"VDD_A": 1.0, "VDD_B": 2.0, "total": 9.0}
    meter.close()


def test_a_sum_by_a_boards_rule_does_not_need_the_services_total(script, tmp_path):
    rails = {name: {"volt": 5000, "curr": 200, "power": 1000} for name in ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")}
    script.power = {"rail": rails, "tot": {"power": 99_000, "avg": 1}}
    meter = jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert meter.info.rule == "jetson-agx-orin/1"
    script.sample()
    assert sum(powers(meter.read()).values()) == pytest.approx(3.0)
    meter.close()


def test_figures_of_the_sensors_come_from_the_kernel_where_its_files_are_visible(script, tmp_path, monkeypatch):
    meter = jtop.open_meter(str(tmp_path / "jtop.sock"))
    hidden = next(entry for entry in meter.info.channels if entry.headline)
    assert (hidden.quantum, hidden.gain_rel, hidden.update_s) == (1e-3, None, 0.5)
    assert any("not visible here" in note for note in meter.info.notes)
    meter.close()
    JetsonTree(tmp_path / "board", "orin-nx-jp6").use(monkeypatch)
    meter = jtop.open_meter(str(tmp_path / "jtop.sock"))
    seen = next(entry for entry in meter.info.channels if entry.headline)
    assert (seen.quantum, seen.gain_rel, seen.update_s) == (pytest.approx(0.04), 0.015, 0.5)
    assert not any("not visible here" in note for note in meter.info.notes)
    meter.close()


def test_another_interval_than_the_one_asked_for_is_said(script, tmp_path):
    script.interval_s = 2.0
    meter = jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert meter.info.period_s == 2.0
    assert "another client has set the interval of the jtop service to 2 s" in meter.info.notes
    meter.close()


@pytest.mark.parametrize("value", [None, "5", True, float("nan"), float("inf"), 10**400, [], {}])
def test_what_is_no_number_of_milliwatts_is_a_break(script, meter, value):
    script.power = {"rail": ORIN_NX["rail"], "tot": {**ORIN_NX["tot"], "power": value}}
    script.sample()
    assert powers(meter.read()) == {"VDD_IN": None, "VDD_SOC": 1.0}


def test_a_rail_that_is_switched_off_is_a_break(script, meter):
    script.power = {"rail": {"VDD_SOC": {"power": 0, "online": False}}, "tot": ORIN_NX["tot"]}
    script.sample()
    assert powers(meter.read()) == {"VDD_IN": 5.0, "VDD_SOC": None}


WORDS = st.sampled_from(
    ["rail", "tot", "VDD_IN", "VDD_SOC", "power", "volt", "curr", "name", "type", "status", "online"]
)
SAID = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: st.dictionaries(WORDS, inner, max_size=4) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(said=st.dictionaries(WORDS, SAID))
def test_nothing_that_the_service_says_makes_reading_raise(said):
    entries = jtop._entries(said)
    assert all(watts is None or abs(watts) < 1e9 for watts in map(jtop._watts, entries.values()))


@pytest.mark.parametrize("installed", [True, False])
def test_the_probe_says_what_is_missing_without_starting_anything(script, tmp_path, monkeypatch, installed):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if installed else None)
    state = jtop.probe()
    assert (state.name, state.readable) == ("jtop", False)
    assert ("systemctl start jtop" if installed else "pip install") in state.remedy
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "jtop.sock").touch()
    assert jtop.probe().readable == installed
    assert script.clients == []


def test_the_probe_sees_a_socket_that_it_may_not_open(script, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr("os.access", lambda *_: False)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "jtop.sock").touch()
    state = jtop.probe()
    assert not state.readable
    assert "usermod -aG jtop" in state.remedy
