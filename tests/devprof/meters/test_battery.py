import pytest
from fake_meters_kernel import FakeBattery, Steps, charger, show
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters import battery
from devprof.meters.base import MeterError, MeterLostError


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path / "sys"))
    return tmp_path / "sys"


def values(meter):
    return {
        reading.domain: reading.energy_j if reading.power_w is None else reading.power_w for reading in meter.read()
    }


def headline(meter):
    return [channel.domain for channel in meter.info.channels if channel.headline]


def test_power_is_the_total_and_the_gauge_is_kept(sysfs):
    fake = FakeBattery(sysfs, watts=Steps(10.0, (3600, 14.0)))
    charger(sysfs, online=False)
    meter = battery.open_meter("")
    assert values(meter) == {"BAT0": 10.0, "BAT0/gauge": 0.0}
    fake.advance(1800.0)
    assert values(meter) == {"BAT0": 10.0, "BAT0/gauge": pytest.approx(18_000.0)}
    fake.advance(3700.0)
    assert values(meter) == {"BAT0": 14.0, "BAT0/gauge": pytest.approx(37_400.0, abs=0.01)}
    assert headline(meter) == ["BAT0"]
    info = meter.info
    assert (info.source, info.rule, info.period_s, info.detail) == (
        "battery",
        "battery-sum/1",
        1.0,
        "BAT0 by power_now",
    )
    assert [channel.kind for channel in info.channels] == ["sensor", "counter"]
    assert {channel.update_s for channel in info.channels} == {30.0}
    assert [channel.quantum for channel in info.channels] == [0.001, 36.0]
    assert battery.probe().readable
    assert battery.probe().detail == "BAT0"
    meter.close()
    meter.close()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_current_of_either_sign_is_what_it_gives(sysfs, sign):
    FakeBattery(sysfs, watts=12.5, shows=("voltage_now", "current_now"), sign=sign)
    meter = battery.open_meter("")
    assert values(meter) == {"BAT0": pytest.approx(12.5)}
    assert meter.info.channels[0].quantum == pytest.approx(0.01)


def test_a_power_of_zero_gives_way_to_a_current(sysfs):
    fake = FakeBattery(sysfs, watts=12.5, shows=("voltage_now", "current_now"))
    fake.set("power_now", 0)
    assert values(battery.open_meter("")) == {"BAT0": pytest.approx(12.5)}


@pytest.mark.parametrize("shows", [("energy_now",), ("charge_now", "voltage_now")])
def test_without_a_rate_the_gauge_is_the_total(sysfs, shows):
    fake = FakeBattery(sysfs, watts=20.0, shows=shows)
    meter = battery.open_meter("")
    assert headline(meter) == ["BAT0"]
    assert values(meter) == {"BAT0": 0.0}
    fake.advance(360.0)
    assert values(meter) == {"BAT0": pytest.approx(7200.0)}
    fake.set(shows[0], 60_000_000)
    assert values(meter) == {"BAT0": None}
    fake.set(shows[0], 60_000_000 - 1_000)
    more_j = 3.6 if shows == ("energy_now",) else 36.0
    assert values(meter) == {"BAT0": pytest.approx(7200.0 + more_j)}


def test_batteries_are_added(sysfs):
    FakeBattery(sysfs, "BAT0", 8.0, shows=("power_now",))
    FakeBattery(sysfs, "BAT1", 4.0, shows=("power_now",))
    meter = battery.open_meter("")
    assert values(meter) == {"BAT0": 8.0, "BAT1": 4.0}
    assert headline(meter) == ["BAT0", "BAT1"]


def test_a_second_battery_at_rest_gives_nothing(sysfs):
    FakeBattery(sysfs, "BAT0", 8.0, shows=("power_now",))
    resting = FakeBattery(sysfs, "BAT1", 0.0, shows=("power_now",), status="Not charging")
    meter = battery.open_meter("")
    assert values(meter) == {"BAT0": 8.0, "BAT1": 0.0}
    resting.set("power_now", 3_000_000)
    assert values(meter) == {"BAT0": 8.0, "BAT1": None}
    resting.set("status", "Charging")
    assert values(meter) == {"BAT0": None}


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown", ""])
def test_a_machine_that_does_not_run_from_it_is_to_be_unplugged(sysfs, status):
    FakeBattery(sysfs, status=status)
    with pytest.raises(MeterError, match="BAT0 is in the state") as caught:
        battery.open_meter("")
    assert caught.value.remedy == "unplug the charger"
    assert (battery.probe().readable, battery.probe().remedy) == (False, "unplug the charger")


@pytest.mark.parametrize("kind", ["Mains", "USB", "USB_PD", "Wireless"])
def test_a_charger_that_only_helps_is_to_be_unplugged_too(sysfs, kind):
    FakeBattery(sysfs)
    charger(sysfs, online=True, kind=kind)
    with pytest.raises(MeterError, match="the charger ADP1 is online: unplug the charger"):
        battery.open_meter("")


def test_plugging_in_is_one_break_and_unplugging_goes_on(sysfs):
    fake = FakeBattery(sysfs)
    online = charger(sysfs, online=False)
    meter = battery.open_meter("")
    meter.read()
    fake.advance(360.0)
    assert values(meter)["BAT0/gauge"] == pytest.approx(3600.0)
    fake.set("status", "Charging")
    assert values(meter) == {"BAT0": None, "BAT0/gauge": None}
    fake.advance(720.0)
    assert values(meter) == {}
    fake.set("status", "Discharging")
    show(online, 1)
    assert values(meter) == {}
    show(online, 0)
    assert values(meter) == {"BAT0": 10.0, "BAT0/gauge": pytest.approx(3600.0)}
    fake.advance(1080.0)
    assert values(meter)["BAT0/gauge"] == pytest.approx(7200.0)


def test_a_value_that_comes_again_is_handed_out_again(sysfs):
    FakeBattery(sysfs, shows=("power_now",))
    meter = battery.open_meter("")
    stamps = [reading.t_ns for _ in range(3) for reading in meter.read()]
    assert len(stamps) == 3
    assert stamps == sorted(stamps)


def test_batteries_of_mice_and_their_chargers_are_not_the_machines(sysfs):
    mouse = FakeBattery(sysfs, "hidpp_battery_0")
    (mouse.folder / "scope").write_text("Device\n")
    online = charger(sysfs, online=True, name="pad")
    (online.parent / "scope").write_text("Device\n")
    with pytest.raises(MeterError, match="no battery"):
        battery.open_meter("")
    FakeBattery(sysfs, "BAT0", shows=("power_now",))
    assert values(battery.open_meter("")) == {"BAT0": 10.0}


def test_a_bay_without_its_battery_is_none(sysfs):
    fake = FakeBattery(sysfs)
    (fake.folder / "present").write_text("0\n")
    assert battery.probe().detail == "this machine has no battery"


def test_a_battery_that_says_nothing_leaves_no_total(sysfs):
    FakeBattery(sysfs, "BAT0", shows=("power_now",))
    FakeBattery(sysfs, "BAT1", shows=("voltage_now",))
    with pytest.raises(MeterError, match="BAT1 says neither power, current nor charge"):
        battery.open_meter("")


@pytest.mark.parametrize("hostile", ["", "nan", "9" * 22, "1.5"])
def test_text_that_is_no_number_is_one_break(sysfs, hostile):
    fake = FakeBattery(sysfs, shows=("power_now",))
    meter = battery.open_meter("")
    fake.set("power_now", hostile)
    assert values(meter) == {"BAT0": None}
    assert values(meter) == {}
    fake.advance(1.0)
    assert values(meter) == {"BAT0": 10.0}


def test_a_battery_that_is_taken_out_is_a_break_and_the_last_one_an_error(sysfs):
    first = FakeBattery(sysfs, "BAT0", 8.0)
    second = FakeBattery(sysfs, "BAT1", 4.0, shows=("voltage_now", "current_now"))
    meter = battery.open_meter("")
    meter.read()
    for path in second.folder.iterdir():
        path.unlink()
    assert values(meter)["BAT1"] is None
    assert values(meter)["BAT0"] == 8.0
    for path in first.folder.iterdir():
        path.unlink()
    with pytest.raises(MeterLostError, match="'battery' reads is gone"):
        meter.read()


def test_an_argument_is_refused(sysfs):
    FakeBattery(sysfs)
    with pytest.raises(MeterError, match="no argument"):
        battery.open_meter("BAT0")


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_no_text_of_the_files_makes_reading_raise(tmp_path_factory, status, power, energy):
    sysfs = tmp_path_factory.mktemp("sys")
    fake = FakeBattery(sysfs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVPROF_SYSFS", str(sysfs))
        meter = battery.open_meter("")
        for file, data in (("status", status), ("power_now", power), ("energy_now", energy)):
            (fake.folder / file).write_bytes(data)
        for reading in meter.read():
            assert reading.power_w is None or reading.power_w >= 0
        meter.close()
