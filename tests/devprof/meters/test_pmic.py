import math
import os
import subprocess
import sys

import pytest
from fake_boards import FakeBoard, raspberry_pi
from fake_meters_chip import RAILS, FakeClock, FakePi5, adc_text
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters import pmic
from devprof.meters.base import MeterError, MeterLostError
from devprof.meters.pmic import Rail, parse_adc


@pytest.fixture
def pi(tmp_path, monkeypatch):
    """A Pi 5 of 4 W, below a root that has nothing else."""
    board = FakePi5(tmp_path)
    FakeBoard(tmp_path, monkeypatch)
    return board


def values(readings):
    return {reading.domain: reading.power_w for reading in readings}


def test_the_total_is_the_plain_sum_of_the_rails(pi):
    meter = pmic.open_meter("")
    assert [channel.domain for channel in meter.info.channels] == [*(rail[0] for rail in RAILS), "pmic_sum"]
    assert [channel.domain for channel in meter.info.channels if channel.headline] == ["pmic_sum"]
    assert {channel.kind for channel in meter.info.channels} == {"sensor"}
    assert meter.info.rule == "pi5-pmic-sum/1"
    assert meter.info.period_s == 0.1
    assert meter.info.detail == "Raspberry Pi 5 Model B Rev 1.0, vcgencmd pmic_read_adc"
    found = values(meter.read())
    assert found["pmic_sum"] == pytest.approx(4.0, rel=1e-6)
    assert found["VDD_CORE"] == pytest.approx(4.0 * 0.54, rel=1e-6)
    assert found["pmic_sum"] == math.fsum(found[rail[0]] for rail in RAILS)
    assert "EXT5V" not in found
    meter.close()


def test_the_fit_is_a_rule_of_its_own_beside_the_plain_sum(pi):
    meter = pmic.open_meter("calibrated")
    assert meter.info.rule == "pi5-pmic-fit/1"
    assert [channel.domain for channel in meter.info.channels if channel.headline] == ["pmic_fit"]
    found = values(meter.read())
    assert found["pmic_sum"] == pytest.approx(4.0, rel=1e-6)
    assert found["pmic_fit"] == 1.1451 * found["pmic_sum"] + 0.5879
    assert any("a community's fit of one board" in note for note in meter.info.notes)


def test_power_is_followed(tmp_path, monkeypatch):
    board = FakePi5(tmp_path, power_w=lambda t_s: 3.0 + t_s)
    FakeBoard(tmp_path, monkeypatch)
    meter = pmic.open_meter("")
    for t_s in (0.0, 1.0, 5.0):
        board.advance(t_s)
        assert values(meter.read())["pmic_sum"] == pytest.approx(3.0 + t_s, rel=1e-6)


def test_the_stamp_lies_within_the_run_of_the_tool_and_its_cost_is_said(pi):
    clock = FakeClock(look_ns=4_000_000)
    meter = pmic.open_meter("", clock=clock)
    assert any("4.0 ms when opened" in note for note in meter.info.notes)
    before = clock.t_ns
    assert {reading.t_ns for reading in meter.read()} == {before + 6_000_000}


def test_a_rail_that_vanishes_is_a_break_and_so_is_the_sum_until_it_is_back(pi):
    meter = pmic.open_meter("calibrated")
    pi.say(adc_text(4.0, RAILS[1:]))
    found = values(meter.read())
    assert [domain for domain, power_w in found.items() if power_w is None] == ["3V7_WL_SW", "pmic_sum", "pmic_fit"]
    pi.advance(0.0)
    assert values(meter.read())["pmic_sum"] == pytest.approx(4.0, rel=1e-6)


@pytest.mark.parametrize("answer", ["", "garbage", 'error=1 error_msg="Command not registered"'])
def test_an_answer_without_rails_is_a_break_of_all(pi, answer):
    meter = pmic.open_meter("")
    pi.say(answer)
    found = values(meter.read())
    assert len(found) == len(RAILS) + 1
    assert set(found.values()) == {None}


def test_a_tool_that_fails_once_is_a_break_of_all(pi, monkeypatch):
    meter = pmic.open_meter("")
    pi.tool("exit 255")
    assert set(values(meter.read()).values()) == {None}
    monkeypatch.setattr(pmic, "_TIMEOUT_S", 0.05)
    pi.tool("while :; do :; done")
    assert set(values(meter.read()).values()) == {None}
    pi.tool(f"echo half; kill -9 $$; : {os.getpid()}")
    assert set(values(meter.read()).values()) == {None}
    (pi.folder / "bin" / "vcgencmd").write_text("no program")
    assert set(values(meter.read()).values()) == {None}


def test_a_tool_that_is_removed_is_a_lost_meter(pi):
    meter = pmic.open_meter("")
    (pi.folder / "bin" / "vcgencmd").unlink()
    with pytest.raises(MeterLostError, match="vcgencmd is gone"):
        meter.read()


@pytest.mark.parametrize(
    ("compatible", "model"),
    [
        ("raspberrypi,5-compute-module\0brcm,bcm2712\0", "Raspberry Pi Compute Module 5 Rev 1.0"),
        ("raspberrypi,500\0brcm,bcm2712\0", "Raspberry Pi 500 Rev 1.0"),
    ],
)
def test_all_boards_of_the_generation_are_known(pi, compatible, model):
    pi.describe(compatible, model)
    assert pmic.probe().readable
    assert pmic.open_meter("").info.detail.startswith(model)


def test_older_boards_are_refused(tmp_path, monkeypatch):
    raspberry_pi(tmp_path, monkeypatch, generation=4).tool("vcgencmd", "exit 0")
    with pytest.raises(MeterError, match="before the Pi 5 cannot measure their current: use an external meter"):
        pmic.open_meter("")
    assert not pmic.probe().readable


def test_other_machines_are_refused(tmp_path, monkeypatch):
    FakeBoard(tmp_path, monkeypatch)
    with pytest.raises(MeterError, match="not a Raspberry Pi 5"):
        pmic.open_meter("")


def test_without_the_tool_its_package_is_named(pi):
    (pi.folder / "bin" / "vcgencmd").unlink()
    with pytest.raises(MeterError, match="vcgencmd is not on PATH: sudo apt install raspi-utils"):
        pmic.open_meter("")
    assert pmic.probe().remedy.startswith("sudo apt install")


def test_an_argument_that_is_unknown_is_refused(pi):
    with pytest.raises(MeterError, match="knows no 'calibratd': --meter pmic or --meter pmic:calibrated"):
        pmic.open_meter("calibratd")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo Can\\'t open device file: /dev/vcio >&2; exit 1", "(Can't open device file: /dev/vcio)"),
        ("exit 3", "(exit status 3)"),
        ("echo", "(no rail with current and voltage in its answer '')"),
    ],
)
def test_a_tool_that_does_not_answer_says_what_helps(pi, monkeypatch, script, reason):
    pi.tool(script)
    with pytest.raises(MeterError) as caught:
        pmic.open_meter("")
    assert caught.value.reason == f"vcgencmd pmic_read_adc failed {reason}"
    assert "--device /dev/vcio" in caught.value.remedy
    (pi.folder / "dev").mkdir()
    (pi.folder / "dev" / "vcio").touch()
    with pytest.raises(MeterError, match="sudo rpi-eeprom-update -a"):
        pmic.open_meter("")
    monkeypatch.setattr(pmic.os, "access", lambda path, mode: not str(path).endswith("vcio"))
    with pytest.raises(MeterError, match="sudo usermod -aG video"):
        pmic.open_meter("")
    assert pmic.probe() == pmic.SourceState(
        "pmic",
        "Raspberry Pi 5 (power management chip)",
        False,
        "/dev/vcio is not readable",
        "sudo usermod -aG video $USER, and log in again",
    )


def test_a_tool_that_hangs_at_opening_is_ended(pi, monkeypatch):
    monkeypatch.setattr(pmic, "_TIMEOUT_S", 0.05)
    pi.tool("while :; do :; done")
    with pytest.raises(MeterError, match=r"no answer within 0\.05 s"):
        pmic.open_meter("")


def test_the_probe_starts_nothing(pi):
    pi.tool("echo started > $0.started")
    state = pmic.probe()
    assert state.readable
    assert state.detail == f"{pi.folder}/bin/vcgencmd pmic_read_adc"
    assert not (pi.folder / "bin" / "vcgencmd.started").exists()


def test_another_process_reads_the_fake_board(tmp_path):
    board = FakePi5(tmp_path, power_w=lambda t_s: 2.5)
    script = "from devprof.meters.pmic import open_meter; print(open_meter('').read()[-1].power_w)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | board.environment(), capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == pytest.approx(2.5, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "rails"),
    [
        ("   VDD_CORE_A current(7)=1.23400000A\n   VDD_CORE_V volt(15)=0.72000000V\n", {"VDD_CORE": Rail(1.234, 0.72)}),
        ("VDD_CORE_A current (7) = 1.234 A\r\nVDD_CORE_V\tvolt=0.72", {"VDD_CORE": Rail(1.234, 0.72)}),
        ("EXT5V_V volt(24)=5.1487V", {"EXT5V": Rail(None, 5.1487)}),
        ("HDMI_A current(22)=0A", {"HDMI": Rail(0.0, None)}),
        ("HDMI_A current(22)=-0.001A", {"HDMI": Rail(-0.001, None)}),
        ("HDMI_A current(22)=0.5A\nHDMI_A current(22)=0.25A", {"HDMI": Rail(0.25, None)}),
        ("HDMI_A volt(22)=0.5V", {}),
        ("HDMI_A current(22)=0.5V", {}),
        ("HDMI_A current(22)=nanA", {}),
        ("HDMI_A current(22)=1e400A", {}),
        ("HDMI_A current(22)=" + "9" * 400 + "A", {}),
        ("HDMI current(22)=1A", {}),
        ("x HDMI_A current(22)=1A", {}),
        ("", {}),
    ],
)
def test_variants_of_the_answer(text, rails):
    assert parse_adc(text) == rails


def test_a_rail_has_a_power_only_with_both_parts():
    assert Rail(2.0, 0.5).power_w == 1.0
    assert Rail(None, 0.5).power_w is None
    assert Rail(2.0).power_w is None


@given(st.text() | st.from_regex(r"(\w+_[AV] (current|volt)(\(\d*\))? ?= ?-?[\d.e]+[AV]?\n)+"))
def test_no_answer_makes_the_parser_raise(text):
    for rail in parse_adc(text).values():
        assert rail.current_a is None or math.isfinite(rail.current_a)
        assert rail.voltage_v is None or math.isfinite(rail.voltage_v)


numbers = st.floats(min_value=0, max_value=99).map(lambda value: round(value, 8))


@given(
    st.dictionaries(st.from_regex(r"[A-Z0-9]{1,8}(_[A-Z0-9]{1,4})?", fullmatch=True), st.tuples(numbers, numbers)),
    st.randoms(use_true_random=False),
)
def test_what_firmware_writes_is_read_back_in_any_order(rails, random):
    lines = [f"  {name}_A current({n})={amps:.8f}A" for n, (name, (amps, _)) in enumerate(rails.items())]
    lines += [f"  {name}_V volt({n})={volts:.8f}V" for n, (name, (_, volts)) in enumerate(rails.items())]
    random.shuffle(lines)
    assert parse_adc("\n".join(lines)) == {name: Rail(*parts) for name, parts in rails.items()}
