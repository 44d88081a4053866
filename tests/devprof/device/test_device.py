import pytest

from devprof.meters import probe


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


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
