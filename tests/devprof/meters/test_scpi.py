"""Instruments behind a real socket, spoken to through PyVISA."""

import re
import subprocess
import sys

import pytest
from fake_meters_external import Profile, ScpiInstrument, until

from devprof.errors import MissingExtraError, UnknownNameError
from devprof.meters import scpi
from devprof.meters.base import MeterError, MeterLostError
from devprof.meters.commandsets import command_set_names, load_command_set

TWO_STEPS = Profile((1.0, 4.0), (1.0, 8.0))
SUPPLIES = {
    "n6700": "Keysight Technologies,N6705C,MY56000001,E.02.08.3115",
    "e36300": "Keysight Technologies,E36312A,MY57000001,1.0.4-1.0.0-1.02",
    "spd3303x": "Siglent Technologies,SPD3303X-E,SPD3XIDD4R7542,1.01.01.02.07R2,V3.0",
}


@pytest.fixture
def instrument():
    fake = ScpiInstrument(TWO_STEPS)
    yield fake
    fake.close()


def newest(meter, domain):
    """Wait for the next reading of a channel."""
    return until(lambda: [reading for reading in meter.read() if reading.domain == domain])[-1]


def after(meter, instrument, t_s, domain):
    """A reading of a channel that was certainly taken after the instrument went on to ``t_s``."""
    instrument.advance(t_s)
    asked = len(instrument.received)
    until(lambda: len(instrument.received) >= asked + 4)
    meter.read()
    return newest(meter, domain)


def test_the_integrator_of_a_power_meter(instrument):
    instrument.advance(0.5)
    meter = scpi.open_meter(f"wt300@{instrument.resource}")
    try:
        energy, power = meter.info.channels
        assert (energy.domain, energy.kind, energy.headline) == ("energy", "counter", True)
        assert (power.domain, power.kind, power.headline) == ("power", "sensor", False)
        # 0.1 % of the value and 0.2 % of 15 V times 2 A.
        assert (energy.gain_rel, energy.offset_w) == (0.001, pytest.approx(0.06))
        assert meter.info.period_s == 0.1
        assert "C3WA01234E" in meter.info.detail
        assert newest(meter, "energy").energy_j == 0.0
        assert newest(meter, "power").power_w == 4.0
        assert after(meter, instrument, 1.5, "energy").energy_j == pytest.approx(6.0, rel=1e-6)
        assert after(meter, instrument, 1.75, "power").power_w == 8.0
    finally:
        meter.close()
    told = instrument.received
    assert told[:2] == ["*IDN?", "*CLS"]
    assert told.index(":INTEGRATE:RESET") < told.index(":INTEGRATE:START") < told.index(":STATUS:ERROR?")
    assert until(lambda: told[-2:] == [":INTEGRATE:STOP", ":COMMUNICATE:REMOTE OFF"])
    meter.close()


def test_an_integrator_that_runs_is_left_alone(instrument):
    instrument.integrating_since_s = 0.0
    instrument.advance(1.0)
    meter = scpi.open_meter(f"wt300@{instrument.resource}")
    try:
        assert newest(meter, "energy").energy_j == 0.0
        assert after(meter, instrument, 2.0, "energy").energy_j == pytest.approx(8.0, rel=1e-6)
    finally:
        meter.close()
    assert not {":INTEGRATE:RESET", ":INTEGRATE:START", ":INTEGRATE:STOP"} & set(instrument.received)


@pytest.mark.parametrize("name", SUPPLIES)
def test_supplies(instrument, name):
    instrument.identity = SUPPLIES[name]
    meter = scpi.open_meter(f"{name}@{instrument.resource}")
    try:
        (channel,) = meter.info.channels
        assert newest(meter, channel.domain).power_w == pytest.approx(4.0)
        assert after(meter, instrument, 1.0, channel.domain).power_w == pytest.approx(8.0)
    finally:
        meter.close()


def test_another_instrument_answers(instrument):
    instrument.identity = SUPPLIES["n6700"]
    with pytest.raises(MeterError, match=r"N6705C.*no Yokogawa power meter.*: give --meter scpi:n6700@RESOURCE"):
        scpi.open_meter(f"wt300@{instrument.resource}")
    instrument.identity = "ACME,1,2,3"
    with pytest.raises(MeterError, match=r"'ACME,1,2,3'.*scpi:FILE.toml@RESOURCE"):
        scpi.open_meter(f"wt300@{instrument.resource}")
    assert instrument.received == ["*IDN?", "*IDN?"]


def test_an_instrument_that_complains_of_its_set_up(instrument):
    instrument.errors.append('-350,"Queue overflow"')
    instrument.refuses.add(":INTEGRATE:START")
    with pytest.raises(MeterError, match=r'did not take its set-up: -113,"Undefined header"') as caught:
        scpi.open_meter(f"wt300@{instrument.resource}")
    # What was in the queue before is not ours.
    assert "-350" not in str(caught.value)


def test_errors_without_end(instrument):
    instrument.replies[":STATUS:ERROR?"] = '+813,"Invalid operation"'
    with pytest.raises(MeterError, match="Invalid operation"):
        scpi.open_meter(f"wt300@{instrument.resource}")


@pytest.mark.parametrize("mark", ["NAN", "INF", "9.91E37", "-9.9E+37", "", "what?", "1,"])
def test_values_that_are_none_are_breaks(instrument, mark):
    meter = scpi.open_meter(f"wt300@{instrument.resource}")
    try:
        newest(meter, "energy")
        assert after(meter, instrument, 1.0, "energy").energy_j == pytest.approx(4.0, rel=1e-6)
        instrument.replies[":NUMERIC:NORMAL:VALUE?"] = f"{mark},{mark}" if mark != "1," else mark
        broken = until(lambda: [one for one in meter.read() if one.domain == "energy" and one.energy_j is None])[0]
        assert broken.power_w is None
        assert meter.rejected >= 1
        instrument.replies.clear()
        # What was used meanwhile is not known, so counting goes on from here.
        assert until(lambda: [one for one in meter.read() if one.energy_j is not None])[0].energy_j < 4.1
    finally:
        meter.close()


def own(tmp_path, text="", **changes):
    """A command set of a user, with quick time-outs."""
    keys = {"title": "'Mine'", "identity": "'YOKO.*'", "timeout_s": "0.2"} | changes
    path = tmp_path / "mine.toml"
    path.write_text(
        "format = 1\n"
        + "".join(f"{key} = {value}\n" for key, value in keys.items() if value)
        + (text or "[[channels]]\npower = {query = ':NUMERIC:NORMAL:VALUE?'}\n")
    )
    return str(path)


def test_a_stall_is_a_loss_and_reading_never_waits_for_it(instrument, tmp_path):
    meter = scpi.open_meter(f"{own(tmp_path)}@{instrument.resource}")
    try:
        assert newest(meter, "device").power_w == 4.0
        instrument.stalls = True
        with pytest.raises(MeterLostError, match="does not answer ':NUMERIC:NORMAL:VALUE\\?'"):
            until(lambda: meter.read() and False)
        with pytest.raises(MeterLostError):
            meter.read()
    finally:
        meter.close()
    instrument.stalls = False
    again = scpi.open_meter(f"{own(tmp_path)}@{instrument.resource}")
    assert newest(again, "device").power_w == 4.0
    again.close()


def test_an_instrument_that_never_answers(instrument, tmp_path):
    instrument.stalls = True
    with pytest.raises(MeterLostError, match=r"does not answer '\*IDN\?'"):
        scpi.open_meter(f"{own(tmp_path)}@{instrument.resource}")


def test_an_instrument_that_is_switched_off(instrument, tmp_path):
    instrument.close()
    with pytest.raises(MeterError):
        scpi.open_meter(f"{own(tmp_path)}@{instrument.resource}")


@pytest.mark.parametrize("resource", ["nonsense", "TCPIP::", "ASRL/dev/ttyAbsent9::INSTR", "PXI0::1::INSTR"])
def test_resources_that_cannot_be_opened(tmp_path, resource):
    with pytest.raises(MeterError, match=f"^{re.escape(resource)} "):
        scpi.open_meter(f"{own(tmp_path)}@{resource}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"title": ""}, 'title is missing: add title = "..."'),
        ({"identity": "'('"}, "identity is no regular expression"),
        ({"timeout_s": "0"}, "timeout_s must be above 0"),
        ({"timeout_s": "60"}, "timeout_s must be above 0 and at most 10"),
        ({"setup": "'*RST'"}, "setup must be a list of texts"),
        ({"stup": "[]"}, "unknown key 'stup': did you mean 'setup'"),
        ({"text": "[[channels]]\npower = {query = 'P?', field = 0}"}, "field must be a whole number from 1"),
        ({"text": "[[channels]]\npower = 'P?'"}, "must be a table"),
        ({"text": "[integrator]\nstate = 'S?'\n[[channels]]\npower = {query = 'P?'}"}, "running is missing"),
    ],
)
def test_command_sets_that_make_no_sense(tmp_path, changes, message):
    with pytest.raises(MeterError, match=re.escape(message) if "regular" not in message else message):
        load_command_set(own(tmp_path, **changes))


def test_arguments():
    with pytest.raises(MeterError, match=r"needs an instrument and its address.*known: .*wt300"):
        scpi.open_meter("wt300")
    with pytest.raises(UnknownNameError, match="closest: wt300"):
        scpi.open_meter("wt310@TCPIP::192.0.2.5::INSTR")


@pytest.mark.parametrize("name", command_set_names())
def test_every_command_set_says_where_it_is_from(name):
    commands = load_command_set(name)
    assert commands.manual
    assert commands.errors
    assert 0.05 <= commands.period_s <= 1.0
    # No query may stand in the set-up: nobody would read the answer.
    assert not [command for command in (*commands.setup, *commands.finish) if command.endswith("?")]
    others = [other for other in command_set_names() if other != name]
    identity = SUPPLIES.get(name, "YOKOGAWA,WT332E,C3XX00001E,F1.03")
    assert commands.identity.fullmatch(identity)
    assert not [other for other in others if load_command_set(other).identity.fullmatch(identity)]


def test_a_process_ends_though_its_meter_does_not_answer(instrument, tmp_path):
    path = own(tmp_path, timeout_s="10")
    script = (
        "from devprof.meters import scpi\n"
        f"meter = scpi.open_meter({path + '@' + instrument.resource!r})\n"
        "import time\n"
        "while not meter.read(): time.sleep(0.01)\n"
        "print('open', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "open\n"
        instrument.stalls = True
        asked = len(instrument.received)
        until(lambda: len(instrument.received) > asked)
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.wait(timeout=5) == 0


def test_without_pyvisa(monkeypatch, instrument):
    monkeypatch.setattr(scpi.importlib.util, "find_spec", lambda name: None if name == "pyvisa_py" else name)
    state = scpi.probe()
    assert (state.readable, state.detail, state.remedy) == (
        False,
        "not installed: pyvisa_py",
        "pip install 'devprof[meter]'",
    )
    with pytest.raises(MissingExtraError, match=r"devprof\[meter\]"):
        scpi.open_meter(f"wt300@{instrument.resource}")


def test_what_is_said_of_it():
    state = scpi.probe()
    assert state.readable
    assert state.detail.startswith("give --meter scpi:INSTRUMENT@RESOURCE; known: e36300, n6700, spd3303x, wt300")
