import contextlib
import errno

import pytest
from fake_meters_kernel import FakeChip, Steps, refuse
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters import hwmon, kernelfile
from devprof.meters.base import MeterError, MeterLostError
from devprof.meters.catalogue import split_spec


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path / "sys"))
    return tmp_path / "sys"


def watts(meter):
    return {reading.domain: reading.power_w for reading in meter.read()}


def joules(meter):
    return {reading.domain: reading.energy_j for reading in meter.read()}


def channel(meter, domain):
    return next(each for each in meter.info.channels if each.domain == domain)


def headline(meter):
    return [each.domain for each in meter.info.channels if each.headline]


def test_the_only_chip_is_taken_and_its_power_read(sysfs):
    FakeChip(sysfs, 0, "coretemp", {}, address="coretemp.0", files={"temp1_input": 45000})
    chip = FakeChip(sysfs, 1, "ina226", {"power1": Steps(5.0, (2, 7.25))}, update_ms=140)
    meter = hwmon.open_meter("")
    assert watts(meter) == {"power1": 5.0}
    chip.advance(4.0)
    assert watts(meter) == {"power1": 7.25}
    assert (meter.info.source, meter.info.rule, meter.info.detail) == ("hwmon", "hwmon-one/1", "ina226 at 1-0040")
    assert channel(meter, "power1").update_s == 0.14
    assert meter.info.period_s == 0.07
    assert hwmon.probe().readable
    assert hwmon.probe().detail == "ina226 at 1-0040"
    meter.close()


def test_energy_is_counted_from_the_opening_and_preferred(sysfs):
    chip = FakeChip(sysfs, 0, "i915", {"energy1": 30.0, "power1": 30.0}, address="0000:00:02.0")
    chip.advance(1.0)
    meter = hwmon.open_meter("i915")
    assert joules(meter) == {"energy1": 0.0}
    chip.advance(3.5)
    assert joules(meter) == {"energy1": 75.0}
    assert channel(meter, "energy1").kind == "counter"
    assert watts(hwmon.open_meter("i915/power1")) == {"power1": 30.0}


def test_a_counter_that_is_switched_off_leaves_its_power(sysfs):
    FakeChip(sysfs, 0, "ltc4282", {"energy1": 30.0, "power1": 30.0}, files={"energy1_enable": 0})
    assert watts(hwmon.open_meter("")) == {"power1": 30.0}


def test_a_counter_that_falls_is_a_break(sysfs):
    chip = FakeChip(sysfs, 0, "xe", {"energy1": 30.0})
    meter = hwmon.open_meter("")
    meter.read()
    chip.advance(1.0)
    assert joules(meter) == {"energy1": 30.0}
    chip.set("energy1_input", 5)
    assert joules(meter) == {"energy1": None}
    chip.set("energy1_input", 1_000_005)
    assert joules(meter) == {"energy1": 31.0}


def test_averages_say_their_interval(sysfs):
    chip = FakeChip(
        sysfs, 0, "power_meter", {"average1": 80.0}, address="ACPI000D:00", files={"power1_average_interval": 1000}
    )
    meter = hwmon.open_meter("power_meter")
    assert watts(meter) == {"power1": 80.0}
    assert channel(meter, "power1").update_s == 1.0
    chip.set("power1_input", 81_000_000)
    assert watts(hwmon.open_meter("power_meter")) == {"power1": 81.0}


def test_voltage_times_current_where_there_is_no_power(sysfs):
    chip = FakeChip(
        sysfs,
        0,
        "ina3221",
        {"curr1": 5.0, "curr2": 2.0},
        labels={"in1": "CPU", "in2": "SOC"},
        files={"shunt1_resistor": 5000},
    )
    chip.set("in4_input", 900)
    chip.set("curr4_input", 1400)
    meter = hwmon.open_meter("ina3221")
    assert watts(meter) == {"CPU": 5.0, "SOC": 2.0}
    assert (meter.info.rule, headline(meter)) == ("hwmon-sum/1", ["CPU", "SOC"])
    assert any("sum of all 2 channels" in note and "--meter hwmon:ina3221/curr1" in note for note in meter.info.notes)
    assert channel(meter, "CPU").quantum == pytest.approx(5.0 * 40e-6 / 5e-3)
    assert channel(meter, "SOC").quantum == pytest.approx(5.0 * 1e-3)
    assert watts(hwmon.open_meter("ina3221/soc")) == {"SOC": 2.0}
    assert watts(hwmon.open_meter("/curr1")) == {"CPU": 5.0}


def test_currents_of_a_chip_that_states_power_are_not_multiplied(sysfs):
    chip = FakeChip(sysfs, 0, "ina238", {"power1": 5.0, "curr1": 5.0})
    chip.set("in2_input", 5000)
    chip.set("curr2_input", 1000)
    assert watts(hwmon.open_meter("")) == {"power1": 5.0}


def test_current_and_voltage_are_paired_by_their_labels(sysfs):
    labels = {"in0": "VBUS", "in1": "VCC1", "curr1": "IBUS"}
    chip = FakeChip(
        sysfs, 0, "powerz", {}, labels=labels, files={"in0_input": 5000, "in1_input": 300, "curr1_input": 2000}
    )
    meter = hwmon.open_meter("powerz")
    assert watts(meter) == {"IBUS": 10.0}
    chip.set("curr1_input", -2000)
    assert watts(meter) == {"IBUS": -10.0}


def test_labels_of_different_things_are_not_multiplied(sysfs):
    FakeChip(sysfs, 0, "converter", {"curr1": 5.0}, labels={"in1": "vin", "curr1": "iout1"})
    with pytest.raises(MeterError, match="no hwmon chip here measures power"):
        hwmon.open_meter("")


@pytest.mark.parametrize(
    ("labels", "total"),
    [
        ({"power1": "pin", "power2": "pout1", "power3": "pout2"}, ["pin"]),
        ({"power1": "pin1", "power2": "pin1.1", "power3": "pin2"}, ["pin1", "pin2"]),
        ({"power1": "power total", "power2": "power +12v", "power3": "power +5v"}, ["power total"]),
        ({"power1": "pkg", "power2": "card", "power3": "other"}, ["card"]),
    ],
)
def test_a_channel_that_contains_the_others_is_the_total(sysfs, labels, total):
    FakeChip(sysfs, 0, "supply", {"power1": 60.0, "power2": 30.0, "power3": 20.0}, labels=labels)
    meter = hwmon.open_meter("supply")
    assert meter.info.rule == "hwmon-total/1"
    assert headline(meter) == total
    assert set(watts(meter)) == set(labels.values())


def test_sockets_contain_their_cores_which_are_many(sysfs):
    cores = {f"energy{number}": 1.0 for number in range(1, 17)}
    labels = {f"energy{number}": f"Ecore{number - 1:03}" for number in range(1, 17)}
    chip = FakeChip(
        sysfs, 0, "amd_energy", cores | {"energy17": 50.0}, labels=labels | {"energy17": "Esocket0"}, address=None
    )
    meter = hwmon.open_meter("amd_energy")
    meter.read()
    chip.advance(2.0)
    assert joules(meter) == {"Esocket0": 100.0}
    assert channel(meter, "Esocket0").update_s == 0.001


def test_a_label_that_repeats_names_no_channel(sysfs):
    FakeChip(sysfs, 0, "scmi_sensors", {"power1": 1.0, "power2": 2.0}, labels={"power1": "PWR", "power2": "PWR"})
    assert watts(hwmon.open_meter("")) == {"power1": 1.0, "power2": 2.0}


def test_channels_that_are_off_or_not_connected_are_left_out(sysfs):
    labels = {"in1": "VDD", "in2": "SPARE", "in3": "NC"}
    FakeChip(sysfs, 0, "ina3221", {"curr1": 5.0, "curr2": 1.0, "curr3": 1.0}, labels=labels, files={"in2_enable": 0})
    meter = hwmon.open_meter("")
    assert watts(meter) == {"VDD": 5.0}
    assert "Switched off or not connected: SPARE, NC." in meter.info.notes


def test_a_chip_that_is_off_names_the_switch(sysfs):
    chip = FakeChip(sysfs, 0, "ina3221", {"curr1": 5.0}, files={"in1_enable": 0})
    with pytest.raises(MeterError, match="switched off") as caught:
        hwmon.open_meter("")
    assert caught.value.remedy == f"echo 1 | sudo tee {chip.folder}/in1_enable"


def test_several_chips_must_be_chosen_by_their_spelling(sysfs):
    FakeChip(sysfs, 0, "ina226", {"power1": 5.0}, address="1-0041")
    FakeChip(sysfs, 1, "amdgpu", {"average1": 50.0}, address="0000:03:00.0")
    FakeChip(sysfs, 2, "ina226", {"power1": 7.0}, address="1-0040")
    with pytest.raises(MeterError) as caught:
        hwmon.open_meter("")
    spellings = ["--meter hwmon:amdgpu", "--meter hwmon:ina226@1-0040", "--meter hwmon:ina226@1-0041"]
    assert caught.value.remedy == "one of " + ", ".join(spellings)
    assert hwmon.probe().remedy == caught.value.remedy
    read = [watts(hwmon.open_meter(split_spec(each.removeprefix("--meter "))[1])) for each in spellings]
    assert [list(each.values()) for each in read] == [[50.0], [7.0], [5.0]]
    with pytest.raises(MeterError, match="2 hwmon chips"):
        hwmon.open_meter("ina226")
    assert watts(hwmon.open_meter("ina226@1-0041/power1")) == {"power1": 5.0}


def test_addresses_may_have_colons(sysfs):
    for number, address in enumerate(("0000:03:00.0", "0000:04:00.0")):
        FakeChip(sysfs, number, "amdgpu", {"power1": 50.0 + number}, address=address)
    assert watts(hwmon.open_meter(split_spec("hwmon:amdgpu@0000:04:00.0")[1])) == {"power1": 51.0}


def test_what_batteries_show_as_a_chip_is_not_theirs(sysfs):
    chip = FakeChip(sysfs, 0, "BAT0", {"power1": 5.0}, address="BAT0")
    (chip.folder / "device" / "type").write_text("Battery\n")
    with pytest.raises(MeterError, match="no hwmon chip here"):
        hwmon.open_meter("")
    assert not hwmon.probe().readable


def test_wrong_names_say_what_there_is(sysfs):
    FakeChip(sysfs, 0, "ina226", {"power1": 5.0}, labels={"power1": "VIN"})
    FakeChip(sysfs, 1, "coretemp", {}, address="coretemp.0", files={"temp1_input": 45000})
    with pytest.raises(MeterError, match="'ina22' measures power: closest: ina226"):
        hwmon.open_meter("ina22")
    with pytest.raises(MeterError, match="'coretemp' measures power: try --meter hwmon:ina226"):
        hwmon.open_meter("coretemp")
    with pytest.raises(MeterError, match=r"no channel 'power2': it has power1 \(VIN\)"):
        hwmon.open_meter("ina226/power2")


def test_figures_of_the_data_sheet_follow_the_shunt(sysfs):
    FakeChip(sysfs, 0, "ina226", {"power1": 5.0}, files={"shunt_resistor": 2000, "in1_input": 12000}, update_ms=35)
    meter = hwmon.open_meter("")
    (only,) = meter.info.channels
    assert only.gain_rel == 0.002
    assert only.quantum == pytest.approx(25 * 2.5e-6 / 2e-3)
    assert only.offset_w == pytest.approx(10e-6 / 2e-3 * 12.0)
    assert any("shunt resistor comes on top" in note for note in meter.info.notes)


def test_a_chip_with_its_shunt_inside(sysfs):
    FakeChip(sysfs, 0, "ina260", {"power1": 5.0}, files={"in1_input": 5000}, update_ms=2)
    meter = hwmon.open_meter("")
    (only,) = meter.info.channels
    assert (only.quantum, only.offset_w) == (0.01, pytest.approx(0.025))
    assert not any("shunt" in note for note in meter.info.notes)
    assert any("A value covers 2 ms and one is read every 50 ms" in note for note in meter.info.notes)


def test_what_is_not_known_of_a_chip_is_not_made_up(sysfs):
    FakeChip(
        sysfs, 0, "zenpower", {"power1": 20.0, "power2": 5.0}, labels={"power1": "SVI2_P_Core", "power2": "SVI2_P_SoC"}
    )
    meter = hwmon.open_meter("zenpower")
    assert headline(meter) == ["SVI2_P_Core", "SVI2_P_SoC"]
    assert [(each.gain_rel, each.offset_w, each.update_s) for each in meter.info.channels] == [(None, 0.0, 1.0)] * 2
    assert meter.info.period_s == 0.5
    assert any("not stated; 1 s is assumed" in note for note in meter.info.notes)


@pytest.mark.parametrize("hostile", ["", "nan", "inf", "1e9", "9" * 22, "5.5"])
def test_text_that_is_no_number_is_one_break(sysfs, hostile):
    chip = FakeChip(sysfs, 0, "ina226", {"power1": 5.0})
    meter = hwmon.open_meter("")
    chip.set("power1_input", hostile)
    assert watts(meter) == {"power1": None}
    assert watts(meter) == {}
    chip.set("power1_input", 6_000_000)
    assert watts(meter) == {"power1": 6.0}


def test_a_channel_that_vanishes_goes_on_when_it_is_back(sysfs):
    chip = FakeChip(sysfs, 0, "supply", {"power1": 5.0, "power2": 6.0})
    meter = hwmon.open_meter("")
    meter.read()
    (chip.folder / "power2_input").unlink()
    assert watts(meter) == {"power1": 5.0, "power2": None}
    assert watts(meter) == {"power1": 5.0}
    chip.advance(1.0)
    assert watts(meter) == {"power1": 5.0, "power2": 6.0}


def test_a_chip_that_is_gone_is_an_error(sysfs):
    chip = FakeChip(sysfs, 0, "ina226", {"power1": 5.0})
    meter = hwmon.open_meter("")
    (chip.folder / "power1_input").unlink()
    with pytest.raises(MeterLostError, match="'hwmon' reads is gone"):
        meter.read()


def test_another_chip_that_takes_the_number_is_not_read(sysfs):
    FakeChip(sysfs, 0, "ina226", {"power1": 5.0}, address="1-0040")
    other = FakeChip(sysfs, 1, "ina219", {"power1": 9.0}, address="1-0041")
    meter = hwmon.open_meter("ina226")
    numbers = sysfs / "class/hwmon"
    (numbers / "hwmon0").resolve().rename(sysfs / "unplugged")
    (sysfs / "unplugged" / "power1_input").unlink()
    (numbers / "hwmon0").unlink()
    (numbers / "hwmon0").symlink_to(other.folder)
    with pytest.raises(MeterLostError):
        meter.read()


def test_a_chip_that_answers_with_an_error_is_a_break(sysfs, monkeypatch):
    FakeChip(sysfs, 0, "ina226", {"power1": 5.0})
    meter = hwmon.open_meter("")
    meter.read()

    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(kernelfile.os, "pread", failing)
        assert watts(meter) == {"power1": None}
    assert watts(meter) == {"power1": 5.0}


def test_a_part_of_the_total_that_cannot_be_read_is_named(sysfs):
    chip = FakeChip(sysfs, 0, "supply", {"power1": 5.0, "power2": 6.0})
    chip.set("power2_input", "broken")
    with pytest.raises(MeterError, match=r"power2_input cannot be read \(its text is no number\)") as caught:
        hwmon.open_meter("")
    assert caught.value.remedy == "choose another channel: --meter hwmon:supply/power1"
    assert watts(hwmon.open_meter("supply/power1")) == {"power1": 5.0}


def test_files_of_root_alone_name_the_command(sysfs, monkeypatch):
    chip = FakeChip(sysfs, 0, "amd_energy", {"energy1": 5.0})
    refuse(monkeypatch, errno.EACCES, chip.folder / "energy1_input")
    with pytest.raises(MeterError, match="may not be read: sudo sh -c 'chgrp"):
        hwmon.open_meter("")
    assert "chgrp" in hwmon.probe().remedy


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=40))
def test_no_argument_makes_it_raise_anything_else(tmp_path_factory, argument):
    sysfs = tmp_path_factory.mktemp("sys")
    FakeChip(sysfs, 0, "ina226", {"power1": 5.0}, labels={"power1": "VIN"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVPROF_SYSFS", str(sysfs))
        with contextlib.suppress(MeterError):
            hwmon.open_meter(argument).close()
