import subprocess
import sys

import pytest

from devprof.device import identity, state
from devprof.device.memory import current_rss_bytes, peak_rss_bytes, reset_peak_rss, total_memory_bytes
from devprof.meters import probe


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def test_the_key_changes_with_threads_and_processor_and_not_with_the_kernel(monkeypatch):
    facts = {"cpu": "A", "machine": "aarch64", "memory_bytes": str(8 << 30), "os": "Linux 6.1", "cores_physical": "4"}
    monkeypatch.setattr(identity, "board_facts", lambda: dict(facts))
    device = identity.identify(threads=2)
    facts["os"], facts["memory_bytes"] = "Linux 6.2", str((8 << 30) - (50 << 20))
    assert identity.identify(threads=2).key == device.key
    assert identity.identify(threads=4).key != device.key
    assert identity.identify(threads=2, processor="cuda").key != device.key
    facts["memory_bytes"] = str(4 << 30)
    assert identity.identify(threads=2).key != device.key


def test_a_board_is_named_by_its_board_and_a_pc_by_its_processor(monkeypatch):
    facts = {"board": "Raspberry Pi 5 Model B Rev 1.0", "cpu": "Cortex-A76", "machine": "aarch64"}
    monkeypatch.setattr(identity, "board_facts", lambda: facts)
    assert identity.identify().name == "Raspberry Pi 5 Model B Rev 1.0"
    facts |= {
        "board": "Vendor Box 12",
        "cpu": "Intel(R) Core(TM) i7-1 CPU @ 2.5GHz",
        "machine": "x86_64",
        "cores_physical": "4",
    }
    assert identity.identify().name == "Intel Core i7-1, 4 cores"
    assert identity.identify(name="mine").name == "mine"


def test_this_machine_has_facts():
    assert {"cpu", "machine", "memory_bytes"} <= set(identity.board_facts())
    assert identity.default_threads() >= 1
    assert identity.installed_version("no-such-distribution") is None


def test_the_hottest_zone_counts_and_switched_off_ones_do_not(sysfs):
    assert state.temperature_c() is None
    sysfs("class/thermal/thermal_zone0/temp", "45500\n")
    sysfs("class/thermal/thermal_zone1/temp", "-256000\n")
    sysfs("class/thermal/thermal_zone2/temp", "oops")
    assert state.temperature_c() == 45.5


def test_the_governor_is_read(sysfs):
    assert state.governor() is None
    sysfs("devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n")
    assert state.governor() == "schedutil"


def sources():
    return {source.name.split()[0]: source for source in probe.probe_sources()}


def test_power_sources_are_found_where_they_are(sysfs):
    assert not any(source.readable for name, source in sources().items() if name != "nvml")
    sysfs("class/hwmon/hwmon3/name", "ina3221\n")
    sysfs("class/powercap/intel-rapl:0/energy_uj", "1")
    sysfs("class/powercap/intel-rapl:0:0/energy_uj", "1")
    sysfs("class/power_supply/BAT0/type", "Battery\n")
    sysfs("class/power_supply/BAT0/status", "Discharging\n")
    found = sources()
    assert found["ina"].readable
    assert found["rapl"].detail == "1 package counter(s)"
    assert found["battery"].readable
    sysfs("class/power_supply/BAT0/status", "Charging\n")
    assert "unplug" in sources()["battery"].detail


def test_a_counter_that_may_not_be_read_says_what_to_do(sysfs, monkeypatch):
    sysfs("class/powercap/intel-rapl:0/energy_uj", "1")
    monkeypatch.setattr(probe.os, "access", lambda *_: False)
    source = sources()["rapl"]
    assert not source.readable
    assert "udev" in source.detail


def test_the_memory_peak_is_of_this_process_and_can_be_reset():
    script = (
        "from devprof.device.memory import *\n"
        "block = bytearray(120 << 20); del block\n"
        "high = peak_rss_bytes(); done = reset_peak_rss(); print(done, high > 120 << 20, peak_rss_bytes() < 100 << 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


def test_memory_of_process_and_machine_are_bytes():
    assert 1 << 20 < current_rss_bytes() <= peak_rss_bytes() < total_memory_bytes()
    assert reset_peak_rss() in {True, False}
