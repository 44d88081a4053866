from pathlib import Path

import pytest
from fake_meters_jetson import BOARDS, Board, JetsonTree, Steps
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters import ina
from devprof.meters.base import MeterError, MeterLostError, now_ns

TOTALS = [
    ("nano-jp4", "jetson-nano/1", {"POM_5V_IN"}, {"POM_5V_GPU", "POM_5V_CPU"}),
    ("xavier-nx-jp5", "jetson-xavier-nx/1", {"VDD_IN"}, {"VDD_CPU_GPU_CV", "VDD_SOC"}),
    ("agx-xavier-jp5", "jetson-agx-xavier/1", {"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"}, set()),
    ("orin-nx-jp6", "jetson-orin-nx-nano/1", {"VDD_IN"}, {"VDD_CPU_GPU_CV", "VDD_SOC"}),
    ("agx-orin-jp6", "jetson-agx-orin/1", {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}, {"VDDQ_VDD2_1V8AO"}),
    ("thor-jp7", "jetson-thor/1", {"VIN"}, {"VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"}),
]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    def make(board, power=8.0):
        return JetsonTree(tmp_path, board, power).use(monkeypatch)

    return make


@pytest.fixture
def opened():
    meters = []

    def open_meter(argument=""):
        meters.append(ina.open_meter(argument))
        return meters[-1]

    yield open_meter
    for meter in meters:
        meter.close()


def total_w(meter):
    headline = {channel.domain for channel in meter.info.channels if channel.headline}
    return sum(reading.power_w for reading in meter.read() if reading.domain in headline)


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def channel(meter, domain):
    return next(channel for channel in meter.info.channels if channel.domain == domain)


@pytest.mark.parametrize("expected", TOTALS, ids=lambda expected: expected[0])
def test_the_total_of_a_board_is_the_sum_of_the_rails_of_its_rule(tree, opened, expected):
    board, rule, headline, others = expected
    files = tree(board, Steps((0, 8.0), (2, 20.0)))
    meter = opened()
    assert meter.info.rule == rule
    assert {entry.domain for entry in meter.info.channels if entry.headline} == headline
    assert {entry.domain for entry in meter.info.channels if not entry.headline} == others
    assert total_w(meter) == pytest.approx(files.shown_w(8.0)) == pytest.approx(8.0, rel=1e-3)
    files.advance(2.5)
    assert total_w(meter) == pytest.approx(files.shown_w(20.0)) == pytest.approx(20.0, rel=1e-3)
    assert files.energy_j(0, 3) == pytest.approx(36.0, rel=1e-3)


def test_a_tx2_keeps_the_rails_of_its_carrier_board_besides_the_module(tree, opened):
    tree("tx2-jp4", 9.5)
    meter = opened()
    assert meter.info.rule == "jetson-tx2/1"
    assert total_w(meter) == pytest.approx(9.5)
    powers = {reading.domain: reading.power_w for reading in meter.read()}
    assert len(powers) == 9
    assert powers["VDD_MUX"] == pytest.approx(9.5 * 1.25)


def test_readings_are_stamped_when_they_are_made(tree, opened):
    tree("agx-orin-jp6")
    meter = opened()
    before = now_ns()
    stamps = [reading.t_ns for reading in meter.read()]
    assert before <= stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= now_ns()


def test_figures_of_an_ina3221_follow_its_shunt_and_voltage(tree, opened):
    tree("agx-orin-jp6")
    gpu = channel(opened(), "VDD_GPU_SOC")
    # 40 uV over 2 mOhm at 20 V.
    assert gpu.quantum == pytest.approx(0.4)
    assert gpu.offset_w == pytest.approx(0.8)
    assert gpu.most_w == pytest.approx(0.1638 / 0.002 * 26)
    assert gpu.gain_rel == 0.015
    assert gpu.update_s == 0.007


def test_jetpack_4_tells_shunt_and_averaging_in_the_device_tree(tree, opened):
    tree("nano-jp4")
    meter = opened()
    rail = channel(meter, "POM_5V_IN")
    assert rail.quantum == pytest.approx(40e-6 / 0.005 * 5)
    # Three channels, 512 averaged, twice 140 us.
    assert rail.update_s == pytest.approx(3 * 512 * 280e-6)
    assert meter.info.period_s == pytest.approx(rail.update_s / 2)


def test_a_jetpack_4_sensor_whose_setting_is_hidden_counts_as_slow(tree, opened):
    tree("tx2-jp4")
    assert channel(opened(), "VDD_IN").update_s == pytest.approx(0.43008)


@pytest.mark.parametrize(
    ("interval", "samples", "update_s"),
    [
        ("7", "1", 0.007),
        ("0", "1", 0.0005),
        ("845", "128", 0.845),
        ("", "128", 0.0066 * 128),
        ("", "5", 0.0066),
        ("-3", "", 0.0066),
        ("9" * 30, "1024", 6.7584),
        ("soon", "many", 0.0066),
    ],
)
def test_a_sensor_is_not_read_faster_than_it_has_new_values(tree, opened, interval, samples, update_s):
    folder = tree("orin-nx-jp6").folder("1-0040")
    (folder / "update_interval").write_text(interval)
    (folder / "samples").write_text(samples)
    meter = opened()
    assert channel(meter, "VDD_IN").update_s == pytest.approx(update_s)
    assert meter.info.period_s == pytest.approx(max(0.1, update_s / 2))


def test_thor_has_its_power_from_the_ina238_in_microwatts(tree, opened):
    files = tree("thor-jp7", 31.0)
    files.path("VIN", "amps").unlink()
    meter = opened()
    assert total_w(meter) == pytest.approx(31.0)
    assert channel(meter, "VIN").gain_rel == 0.017
    assert channel(meter, "VIN").quantum == 0.0
    assert any("shunts cannot be read" in note for note in meter.info.notes)
    (files.folder("2-0044") / "shunt_resistor").write_text("2000\n")
    assert channel(opened(), "VIN").quantum == pytest.approx(5e-6 / 0.002 * 20)


def test_an_ina238_without_power_is_voltage_times_current(tree, opened):
    tree("thor-jp7", 31.0).path("VIN", "watts").unlink()
    assert total_w(opened()) == pytest.approx(31.0)


def test_an_ina238_elsewhere_is_not_taken_for_the_input(tmp_path, monkeypatch, opened):
    board = Board(("vendor,board",), {"2-0044": "ina238"}, {"VIN": 1.0}, total=("VIN",))
    JetsonTree(tmp_path, board, 5.0).use(monkeypatch)
    with pytest.raises(MeterError, match="ina238@2-0044"):
        ina.open_meter("")
    assert total_w(opened("ina238@2-0044")) == pytest.approx(5.0)


def test_sensors_that_only_their_class_shows_are_found_too(tree, opened):
    files = tree("agx-orin-jp6")
    for address in ("1-0040", "1-0041"):
        (files.sys / "bus" / "i2c" / "drivers" / "ina3221" / address).unlink()
    meter = opened()
    assert meter.info.rule == "jetson-agx-orin/1"
    assert "INA3221 at 1-0040, INA3221 at 1-0041 with 4 rails" in meter.info.detail


def test_channels_that_are_not_connected_off_or_sums_are_no_rails(tree, opened):
    files = tree("orin-nx-jp6")
    (files.folder("1-0040") / "in3_enable").write_text("0\n")
    assert [entry.domain for entry in opened().info.channels] == ["VDD_IN", "VDD_CPU_GPU_CV"]


def test_two_rails_of_one_name_are_told_apart_and_make_no_total(tree, opened):
    files = tree("agx-orin-jp6")
    (files.folder("1-0041") / "in2_label").write_text("VDD_CPU_CV\n")
    with pytest.raises(MeterError) as failure:
        ina.open_meter("")
    assert "VDD_CPU_CV@1-0040.1, VDD_CPU_CV@1-0041.2" in failure.value.reason
    assert total_w(opened("VDD_CPU_CV@1-0040.1+VDD_GPU_SOC")) == pytest.approx(6.0)


def test_a_machine_without_rails_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
    with pytest.raises(MeterError, match="bus/i2c/drivers"):
        ina.open_meter("")
    state = ina.probe()
    assert (state.name, state.readable, state.remedy) == ("ina", False, None)


def test_a_jetson_without_rails_is_told_to_load_the_driver(tmp_path, monkeypatch):
    JetsonTree(tmp_path, Board(("nvidia,tegra234",), {}, {})).use(monkeypatch)
    assert "modprobe ina3221" in ina.probe().remedy


def test_the_probe_says_what_was_found_and_which_rule_holds(tree):
    tree("agx-orin-jp6")
    state = ina.probe()
    assert state.readable
    assert state.detail == "INA3221 at 1-0040, INA3221 at 1-0041 with 4 rails, total by jetson-agx-orin/1"


def test_a_rail_that_vanishes_is_a_break_until_it_is_back(tree, opened):
    files = tree("agx-orin-jp6", 12.0)
    meter = opened()
    files.vanish("VDD_CPU_CV")
    readings = {reading.domain: reading.power_w for reading in meter.read()}
    assert readings["VDD_CPU_CV"] is None
    assert readings["VDD_GPU_SOC"] == pytest.approx(6.0)
    files.advance(1.0)
    assert total_w(meter) == pytest.approx(12.0)


def test_a_meter_all_of_whose_rails_vanish_is_lost(tree, opened):
    files = tree("orin-nx-jp6")
    meter = opened()
    files.vanish()
    with pytest.raises(MeterLostError, match="1-0040"):
        meter.read()
    files.advance(1.0)
    assert total_w(meter) == pytest.approx(8.0)


@pytest.mark.parametrize("content", [b"", b"-", b"7 mA", b"0x10", b"\xff\xfe", b"1.5", b"9" * 63, b"nan", b"1\n2"])
def test_what_is_no_number_is_a_break(tree, opened, content):
    files = tree("orin-nx-jp6")
    meter = opened()
    files.path("VDD_IN", "amps").write_bytes(content)
    readings = {reading.domain: reading.power_w for reading in meter.read()}
    assert readings["VDD_IN"] is None
    assert readings["VDD_SOC"] == pytest.approx(2.0)


@given(volts=st.binary(max_size=80), amps=st.binary(max_size=80))
def test_no_content_of_the_files_makes_reading_raise(tmp_path_factory, volts, amps):
    folder = tmp_path_factory.mktemp("rail")
    with pytest.MonkeyPatch.context() as monkeypatch:
        files = JetsonTree(folder, "orin-nx-jp6").use(monkeypatch)
        meter = ina.open_meter("")
        files.path("VDD_IN", "volts").write_bytes(volts)
        files.path("VDD_IN", "amps").write_bytes(amps)
        power_w = meter.read()[0].power_w
        meter.close()
    assert power_w is None or abs(power_w) < 1e24


@given(label=st.text(max_size=80))
def test_no_label_makes_looking_for_rails_raise(tmp_path_factory, label):
    folder = tmp_path_factory.mktemp("label")
    with pytest.MonkeyPatch.context() as monkeypatch:
        files = JetsonTree(folder, "orin-nx-jp6").use(monkeypatch)
        (files.folder("1-0040") / "in3_label").write_bytes(label.encode(errors="surrogatepass"))
        meter = ina.open_meter("VDD_IN") if label.strip() != "VDD_IN" else None
        if meter:
            assert len(meter.read()) in {2, 3}
            meter.close()


def test_a_rail_of_the_total_that_cannot_be_read_is_named_with_its_reason(tree):
    files = tree("orin-nx-jp6")
    files.path("VDD_IN", "amps").unlink()
    files.path("VDD_IN", "amps").mkdir()
    with pytest.raises(MeterError, match=r"VDD_IN, .*curr1_input: Is a directory"):
        ina.open_meter("")


def test_another_rail_that_cannot_be_read_is_left_out(tree, opened):
    tree("orin-nx-jp6").path("VDD_SOC", "amps").write_text("")
    assert [entry.domain for entry in opened().info.channels] == ["VDD_IN", "VDD_CPU_GPU_CV"]


def test_a_closed_meter_holds_no_files(tree):
    tree("agx-orin-jp6")
    before = open_files()
    meter = ina.open_meter("")
    meter.read()
    assert open_files() > before
    meter.close()
    meter.close()
    assert open_files() == before


def test_the_notes_say_what_the_total_does_not_see(tree, opened):
    tree("agx-orin-jp6")
    notes = " ".join(opened().info.notes)
    assert "carrier board" in notes
    assert "VDDQ_VDD2_1V8AO is kept but not added" in notes


def test_every_board_of_the_fakes_is_measured(tree):
    assert {board for board, *_ in TOTALS} | {"tx2-jp4"} == set(BOARDS)
