"""Smart plugs and other meters behind a real web server."""

import socket
import threading

import pytest
from fake_meters_external import Plug, Profile, until
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters import httpjson, shelly, tasmota
from devprof.meters.base import Channel, MeterError, MeterInfo, MeterLostError
from devprof.meters.plugs import JsonAsker, JsonServer, pick
from devprof.meters.polled import PolledMeter
from devprof.meters.quantities import Part, Recipe

S = 10**9
TWO_STEPS = Profile((120.0, 60.0), (120.0, 90.0))


@pytest.fixture
def plug():
    made = []

    def make(kind):
        made.append(Plug(kind, TWO_STEPS))
        return made[-1]

    yield make
    for one in made:
        one.close()


def first(meter):
    """The readings of the first answer, by channel."""
    try:
        return {reading.domain: reading for reading in until(meter.read)}
    finally:
        meter.close()


@pytest.mark.parametrize(
    ("kind", "step_w", "step_j", "model"),
    [
        ("shelly1", 0.01, 60.0, "SHPLG-S"),
        ("shelly2", 0.1, 3.6, "S3PL-00112EU"),
        ("shelly-pm", 0.1, 3.6, "SNPM-001PCEU16"),
    ],
)
def test_shellies(plug, kind, step_w, step_j, model):
    fake = plug(kind)
    fake.advance(130.0)
    meter = shelly.open_meter(fake.address)
    readings = first(meter)
    assert readings["power"].power_w == 90.0
    assert readings["energy"].energy_j == 0.0
    power, energy = meter.info.channels
    assert (power.headline, power.update_s, power.quantum) == (True, 1.0, step_w)
    assert (energy.headline, energy.update_s, energy.quantum) == (False, 60.0, step_j)
    assert meter.info.detail.startswith(f"Shelly {model} ")
    assert meter.info.period_s == 1.0


def test_a_plug_with_tasmota(plug):
    fake = plug("tasmota")
    meter = tasmota.open_meter(fake.address)
    assert first(meter)["power"].power_w == 60.0
    power, energy = meter.info.channels
    assert (power.quantum, energy.quantum) == (1.0, 3600.0)
    assert "WattRes 2" in meter.info.notes[-1]


def test_a_count_of_energy_rises_in_its_unit(plug):
    for kind in ("shelly1", "shelly2", "tasmota"):
        fake = plug(kind)
        paths = {"shelly1": "/meter/0", "shelly2": "/rpc/Switch.GetStatus?id=0", "tasmota": "/cm?cmnd=Status%208"}
        pointers = {"shelly1": ("/total", 60.0), "shelly2": ("/aenergy/total", 3600.0)}
        pointer, factor = pointers.get(kind, ("/StatusSNS/ENERGY/Total", 3.6e6))
        recipe = Recipe(Channel("energy", "counter"), (Part("energy", pointer, factor=factor),))
        asker = JsonAsker(lambda fake=fake, path=paths[kind]: fake.answer(path), [recipe])
        asker.ask()
        fake.advance(36_000.0)
        assert asker.ask()[0].energy_j == pytest.approx(TWO_STEPS.energy_j(36_000.0), rel=2e-3)


def test_addresses_and_devices_that_are_none(plug):
    fake = plug("shelly2")
    with pytest.raises(MeterError, match="needs an address"):
        shelly.open_meter("")
    with pytest.raises(MeterError, match="needs an address"):
        shelly.open_meter("192.0.2.7/x")
    with pytest.raises(MeterError, match="needs an address"):
        tasmota.open_meter("192.0.2.7/0")
    with pytest.raises(MeterError, match=r"no power meter 1 .*404.*shelly:HOST/1"):
        shelly.open_meter(f"{fake.address}/1")
    with pytest.raises(MeterError, match=r"404.*Not Found"):
        tasmota.open_meter(fake.address)
    fake.body = {"apower": None}
    with pytest.raises(MeterError, match=r"is no Shelly: .*http:FILE"):
        shelly.open_meter(fake.address)
    fake.body = {"mac": "AA", "gen": 2, "model": "SNSW-001X16EU"}
    with pytest.raises(MeterError, match="says nothing of power"):
        shelly.open_meter(fake.address)
    with pytest.raises(MeterError, match="says nothing of power"):
        tasmota.open_meter(fake.address)
    fake.body = {"WARNING": "Need user=<username>&password=<password>"}
    with pytest.raises(MeterError, match="asks for a password"):
        tasmota.open_meter(fake.address)
    fake.body = b"<html>"
    with pytest.raises(MeterError, match="what is not JSON: b'<html>'"):
        shelly.open_meter(fake.address)
    fake.body = b"[" * 200_000
    with pytest.raises(MeterError, match="what is not JSON"):
        shelly.open_meter(fake.address)


def test_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(MeterError, match=f"127.0.0.1:{port} does not answer /shelly: .*refused"):
        shelly.open_meter(f"127.0.0.1:{port}")
    for argument in ("not a host", "host:port", "[::1"):
        with pytest.raises(MeterError):
            shelly.open_meter(argument)


def described(tmp_path, fake, text="", path="/"):
    file = tmp_path / "meter.toml"
    file.write_text(f'format = 1\nurl = "http://{fake.address}{path}"\ntimeout_s = 0.5\nupdate_s = 0.05\n{text}')
    return str(file)


CHANNELS = """
[[channels]]
domain = "board"
voltage = {pointer = "/out/0/u", unit = "mV"}
current = {pointer = "/out/0/i"}
gain_rel = 0.01
[[channels]]
domain = "count"
headline = false
energy = {pointer = "/a~1b/m~0n", unit = "Wh"}
"""


def test_a_described_meter(plug, tmp_path):
    fake = plug("tasmota")
    fake.body = {"out": [{"u": 5000, "i": "0.5 A"}], "a/b": {"m~n": 2}}
    fake.login = "Basic bWU6c2VjcmV0"
    path = described(tmp_path, fake, 'model = "Box"\nuser = "me"\npassword = "secret"' + CHANNELS, "/all?x=1")
    meter = httpjson.open_meter(path)
    readings = first(meter)
    assert readings["board"].power_w == 2.5
    assert readings["count"].energy_j == 0.0
    assert fake.asked[0] == "/all?x=1"
    assert (meter.info.source, meter.info.detail) == ("http", f"Box, {fake.address}")
    assert meter.info.channels[0].gain_rel == 0.01
    with pytest.raises(MeterError, match=r"asks for a password: .*http:FILE"):
        httpjson.open_meter(described(tmp_path, fake, CHANNELS))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no channels"),
        ("[[channels]]\npower = {pointer = 'p'}", "pointer must be a JSON pointer"),
        ("[[channels]]\npower = {pointer = '/q'}", "does not give the channel device: look at /q"),
        ("[[channels]]\npower = {pointer = '/text'}", "does not give the channel device"),
        ("[[channels]]\npower = {pointer = '/flag'}", "does not give the channel device"),
    ],
)
def test_descriptions_that_make_no_sense(plug, tmp_path, text, message):
    fake = plug("tasmota")
    fake.body = {"text": "x", "flag": True}
    with pytest.raises(MeterError, match=message):
        httpjson.open_meter(described(tmp_path, fake, text))


def test_urls_that_are_none(tmp_path):
    for url in ("file:///etc/passwd", "http://", "x"):
        path = tmp_path / "meter.toml"
        path.write_text(f'format = 1\nurl = "{url}"{CHANNELS}')
        with pytest.raises(MeterError, match="is no address"):
            httpjson.open_meter(str(path))
    with pytest.raises(MeterError, match="needs a file"):
        httpjson.open_meter("")
    path.write_text(f'format = 1\nurl = "http://127.0.0.1:1/"\ntimeout_s = 60{CHANNELS}')
    with pytest.raises(MeterError, match="timeout_s must be above 0 and at most 10"):
        httpjson.open_meter(str(path))


def test_a_plug_that_fails_for_a_while_is_kept_and_then_lost(plug, tmp_path):
    fake = plug("tasmota")
    fake.body = {"p": 5}
    meter = httpjson.open_meter(described(tmp_path, fake, "[[channels]]\npower = {pointer = '/p'}"))
    try:
        until(meter.read)
        fake.broken = True
        until(lambda: meter.rejected)
        fake.broken = False
        meter.read()
        assert until(meter.read)[0].power_w == 5.0
        fake.broken = True
        with pytest.raises(MeterLostError, match=r"500 .*, 5 times in a row"):
            until(lambda: meter.read() and False)
    finally:
        meter.close()


class Box:
    """A document under control, asked at moments under control."""

    def __init__(self, document, recipes, **options):
        self.document, self.t_ns = document, 0
        self.asker = JsonAsker(lambda: self.document, recipes, clock=lambda: self.t_ns, **options)

    def at(self, t_s):
        self.t_ns = round(t_s * S)
        return [reading.power_w if reading.domain == "power" else reading.energy_j for reading in self.asker.ask()]


POWER = Recipe(Channel("power", "sensor"), (Part("power", "/p"),))
ENERGY = Recipe(Channel("energy", "counter", headline=False, quantum=3.6), (Part("energy", "/e"),))


def test_values_without_a_new_stamp_are_old():
    box = Box({"p": 5.0, "t": 60}, [POWER], stamp="/t")
    assert box.at(0) == [5.0]
    assert box.at(150) == [5.0]
    assert box.at(151) == [None]
    box.document = {"p": 5.0, "t": 120}
    assert box.at(152) == [5.0]
    assert box.asker.rejected == 1


def test_watts_whose_count_of_energy_stands_still_are_old():
    box = Box({"p": 10.0, "e": 100.0}, [POWER, ENERGY])
    assert box.at(0) == [10.0, 0.0]
    # 10 W for 1.08 s beyond the 150 s are three steps of the count.
    assert box.at(151) == [10.0, 0.0]
    assert box.at(152) == [None, None]
    # Nothing is used and nothing is counted: that may be so for ever.
    idle = Box({"p": 0.0, "e": 100.0}, [POWER, ENERGY])
    assert idle.at(0) == [0.0, 0.0]
    assert idle.at(1e6) == [0.0, 0.0]
    alone = Box({"p": 10.0}, [POWER])
    assert alone.at(0) == alone.at(1e6) == [10.0]


def test_values_that_the_plug_calls_invalid_are_breaks():
    box = Box({"p": 5.0, "ok": False}, [POWER], valid="/ok")
    assert box.at(0) == [None]
    box.document = {"p": 5.0, "ok": True}
    assert box.at(1) == [5.0]


@pytest.mark.parametrize("value", [None, True, "", "x", {}, [], [1, "x"], 10**400, float("nan"), 9.91e37])
def test_what_is_no_number_is_a_break(value):
    assert Box({"p": value}, [POWER]).at(0) == [None]


def test_phases_are_added():
    assert Box({"p": [1.5, 2, -0.5]}, [POWER]).at(0) == [3.0]


def test_json_pointers():
    document = {"a": [{"b/c": 1, "": 2}], "~": 3}
    assert pick(document, "") is document
    assert [pick(document, pointer) for pointer in ("/a/0/b~1c", "/a/0/", "/~0")] == [1, 2, 3]
    assert [pick(document, pointer) for pointer in ("/a/1", "/a/x", "/a/-1", "/b", "/a/0/b/c", "/~/x")] == [None] * 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("pe"), inner),
)


@given(JSON, st.text(alphabet="/pe0~1x"))
def test_no_document_makes_the_asker_fail(document, pointer):
    pick(document, pointer)
    box = Box(document, [POWER, ENERGY], stamp=pointer, valid=pointer)
    assert len(box.at(0)) == len(box.at(1000)) == 2


def test_a_slow_answer_does_not_hold_up_who_reads():
    going, started = threading.Event(), threading.Event()
    t_ns = [0]

    class Slow:
        rejected = 0
        released = threading.Event()

        def ask(self):
            started.set()
            going.wait(10)
            return []

        def release(self):
            self.released.set()

    info = MeterInfo("http", "x/1", (Channel("a", "sensor"),), detail="Slow")
    slow = Slow()
    meter = PolledMeter(info, slow, patience_s=5.0, clock=lambda: t_ns[0])
    assert started.wait(10)
    t_ns[0] = 5 * S
    assert meter.read() == []
    t_ns[0] += 1
    with pytest.raises(MeterLostError, match="Slow has not answered for 5 s"):
        meter.read()
    going.set()
    meter.close()
    meter.close()
    assert slow.released.wait(10)


def test_the_servers_answer_is_limited(plug):
    fake = plug("tasmota")
    fake.body = b'"' + b"x" * (1 << 18) + b'"'
    with pytest.raises(MeterError, match="not JSON"):
        JsonServer(f"http://{fake.address}").get("/")


@pytest.mark.parametrize("module", [shelly, tasmota, httpjson])
def test_what_is_said_of_them_without_contacting_anything(module):
    state = module.probe()
    assert state.readable
    assert f"--meter {state.name}:" in state.detail
