import json

import pytest
from click.testing import CliRunner
from fake_boards import FakeBoard, desktop, jetson_orin, raspberry_pi

from devprof.cli import main


def doctor(*arguments):
    result = CliRunner().invoke(main, ["doctor", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def checks():
    def read():
        return {check["name"]: check for check in json.loads(doctor("--json"))["checks"]}

    return read


def test_facts_come_in_groups_with_sizes_for_people(tmp_path, monkeypatch):
    jetson_orin(tmp_path, monkeypatch)
    rows = [line.split() for line in doctor().splitlines() if line.strip()]
    assert ["board", "board", "NVIDIA", "Jetson", "Orin", "Nano", "Developer", "Kit"] in rows
    assert ["power_mode", "15W"] in rows
    assert ["memory", "memory_bytes", "7.93", "GiB"] in rows


def test_json_has_facts_and_state_whole(tmp_path, monkeypatch):
    jetson_orin(tmp_path, monkeypatch)
    answer = json.loads(doctor("--json"))
    assert answer["device"]["memory_bytes"].isdecimal()
    assert answer["device"]["power_mode"] == "15W"
    assert answer["state"]["gpu_frequency_hz"] == 306e6


def test_heat_and_clocks_are_shown_where_there_are_any(tmp_path, monkeypatch, checks):
    desktop(tmp_path, monkeypatch)
    found = checks()
    assert found["temperature"]["detail"] == "61.0 °C now: x86_pkg_temp 61.0 °C"
    assert found["frequency"]["detail"] == "3000 MHz now, at most 4700 MHz"
    assert found["throttling (cpu)"]["detail"] == "by the counters of throttling, the CPU's frequency"


def test_a_throttled_board_is_told_so(tmp_path, monkeypatch, checks):
    raspberry_pi(tmp_path, monkeypatch).vcgencmd("frequency(48)=600000000", "throttled=0x50001")
    assert checks()["throttling (cpu)"]["detail"].endswith("now confirmed: firmware reports under-voltage")


def test_a_pi_whose_firmware_does_not_answer_is_told_what_to_do(tmp_path, monkeypatch, checks):
    raspberry_pi(tmp_path, monkeypatch)
    frequency = checks()["frequency"]
    assert not frequency["ok"]
    assert "join the group video" in frequency["detail"]


def test_where_nothing_can_tell_it_says_that_rows_are_null(tmp_path, monkeypatch, checks):
    FakeBoard(tmp_path, monkeypatch)
    found = checks()
    for name in ("throttling (cpu)", "temperature", "frequency", "free memory", "swapping", "other programs"):
        assert not found[name]["ok"]
        assert found[name]["detail"]


def test_a_gpu_has_a_line_of_its_own(tmp_path, monkeypatch, checks):
    board = desktop(tmp_path, monkeypatch)
    board.write("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: NVIDIA A\n")
    monkeypatch.setattr("devprof.device.state.nvml_reasons", lambda: None)
    assert "nvidia-ml-py" in checks()["throttling (cuda)"]["detail"]
    monkeypatch.setattr("devprof.device.state.nvml_reasons", lambda: ("hw_thermal_slowdown",))
    assert "now confirmed" in checks()["throttling (cuda)"]["detail"]


def test_long_lists_are_shortened_for_people_only(tmp_path, monkeypatch, checks):
    board = FakeBoard(tmp_path, monkeypatch)
    for number in range(40):
        board.zone(number, f"zone-{number}", 40_000)
    detail = checks()["temperature"]["detail"]
    assert len(detail) == 100
    assert detail.endswith("…")
    assert len(json.loads(doctor("--json"))["state"]["zones"]) == 40
