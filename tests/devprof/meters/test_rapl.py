import errno
import itertools
import platform
import shutil

import pytest
from fake_meters_kernel import RANGE_UJ, FakeRapl, Steps, refuse, show
from hypothesis import given
from hypothesis import strategies as st

from devprof import paths
from devprof.meters import kernelfile, rapl
from devprof.meters.base import MeterError, MeterLostError, WrappingCounter
from devprof.meters.kernelfile import whole_number


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "_ROOT", tmp_path)
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path / "sys"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("model name\t: Intel(R) Core(TM) i7-1\nflags\t\t: fpu sse2\n")
    return tmp_path / "sys"


def opened(tree=None, period_s=0.003):
    """The meter, over a tree that goes on while the test of mirrors waits."""
    waited = itertools.count(1)
    return rapl.open_meter("", sleep=lambda _: tree.advance(next(waited) * period_s) if tree else None)


def joules(meter):
    return {reading.domain: reading.energy_j for reading in meter.read()}


def sockets(sysfs, *numbers):
    for cpu, number in enumerate(numbers):
        show(sysfs / "devices/system/cpu" / f"cpu{cpu}/topology/physical_package_id", number)


def headline(meter):
    return [channel.domain for channel in meter.info.channels if channel.headline]


def test_one_socket_counts_joules_from_its_opening(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0})
    tree.advance(3.0)
    meter = opened(tree)
    assert joules(meter) == {"package-0": 0.0}
    tree.advance(5.0)
    assert joules(meter) == {"package-0": 40.0}
    info = meter.info
    assert (info.source, info.rule, info.detail) == ("rapl", "rapl-packages/1", "Intel(R) Core(TM) i7-1")
    (channel,) = info.channels
    assert channel.kind == "counter"
    assert channel.update_s == 0.001
    assert channel.gain_rel is None
    meter.close()


def test_the_unit_follows_from_the_counters_end(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "psys": 30.0})
    tree.folder("psys").joinpath("max_energy_range_uj").write_text("4294967295000000\n")
    quanta = [channel.quantum for channel in opened(tree).info.channels]
    assert quanta == pytest.approx([2**-14, 1.0], rel=1e-4)


def test_packages_are_added_and_nothing_else_is(sysfs):
    watts = {"package-0": 20.0, "package-0/core": 12.0, "package-0/dram": 3.0, "psys": 60.0, "package-1": 25.0}
    tree = FakeRapl(sysfs, watts | {"package-1/dram": 2.0})
    sockets(sysfs, 0, 1, 0, 1)
    meter = opened(tree)
    assert headline(meter) == ["package-0", "package-1"]
    tree.advance(1.0)
    first = joules(meter)
    tree.advance(3.0)
    then = joules(meter)
    assert {domain: then[domain] - first[domain] for domain in then} == {
        domain: 2.0 * tree.watts[domain].power_w(0) for domain in then
    }
    assert set(then) == {*watts, "package-1/dram"}
    assert sum(then[domain] - first[domain] for domain in headline(meter)) == tree.true_j(3.0) - tree.true_j(1.0)
    assert any("psys" in note and "not added" in note for note in meter.info.notes)


@pytest.mark.parametrize("nested", [False, True])
def test_zones_beside_and_inside_each_other_are_found_once(sysfs, nested):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-0/dram": 3.0, "package-0/core": 1.0}, nested=nested)
    if nested:
        inner = sysfs / "class/powercap/intel-rapl/intel-rapl:0"
        inner.symlink_to(tree.folder("package-0"))
    assert {channel.domain for channel in opened(tree).info.channels} == set(tree.watts)


def test_the_second_tree_is_read_only_for_what_the_first_lacks(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-0/dram": 3.0}, mmio=["package-0", "package-0/dram"])
    meter = opened(tree)
    meter.read()
    tree.set("package-0", tree.start_uj["package-0"] + 7_000_000)
    assert joules(meter) == {"package-0": 7.0, "package-0/dram": 0.0}
    assert not any("memory access" in note for note in meter.info.notes)
    shutil.rmtree(tree.folder("package-0/dram"))
    meter = opened(tree)
    meter.read()
    tree.set("package-0/dram", tree.start_uj["package-0/dram"] + 77 + 2_000_000, "intel-rapl-mmio")
    assert joules(meter) == {"package-0": 0.0, "package-0/dram": 2.0}
    assert any("package-0/dram" in note and "memory access" in note for note in meter.info.notes)


def test_a_counter_that_the_first_tree_cannot_read_is_read_from_the_second(sysfs, monkeypatch):
    tree = FakeRapl(sysfs, {"package-0": 20.0}, mmio=["package-0"])
    refuse(monkeypatch, errno.EACCES, tree.counter("package-0"))
    meter = opened(tree)
    meter.read()
    tree.set("package-0", tree.start_uj["package-0"] + 77 + 5_000_000, "intel-rapl-mmio")
    assert joules(meter) == {"package-0": 5.0}


def test_two_zones_of_one_name_in_one_tree_are_two(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-1": 30.0})
    tree.folder("package-1").joinpath("name").write_text("package-0\n")
    assert headline(opened(tree)) == ["package-0", "package-0@intel-rapl:1"]


def test_a_wrap_between_two_readings_is_exact(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 1.0}, start_uj={"package-0": RANGE_UJ - 999_999})
    meter = opened(tree)
    meter.read()
    tree.set("package-0", 500_000)
    assert joules(meter) == {"package-0": 1.5}


def test_many_wraps_of_a_small_counter_are_exact_when_it_is_read_in_each(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-0/dram": 3.0}, range_uj=4_999_999)
    meter = opened(tree)
    meter.read()
    for step in range(1, 41):
        tree.advance(step / 10)
        now = joules(meter)
    assert now == pytest.approx({"package-0": 80.0, "package-0/dram": 12.0}, abs=1e-9)


def test_a_wrap_of_one_zone_leaves_the_others_alone(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-0/dram": 3.0})
    tree.folder("package-0/dram").joinpath("max_energy_range_uj").write_text("9999999\n")
    tree.set("package-0/dram", 9_000_000)
    meter = opened(tree)
    meter.read()
    tree.set("package-0/dram", 1_000_000)
    tree.set("package-0", tree.start_uj["package-0"] + 20_000_000)
    assert joules(meter) == {"package-0": 20.0, "package-0/dram": 2.0}


@pytest.mark.parametrize("text", [None, "0\n", "-1\n", "many\n", "9" * 5000])
def test_without_a_known_end_a_fall_is_a_break_of_that_zone(sysfs, text):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-0/dram": 3.0})
    end = tree.folder("package-0/dram") / "max_energy_range_uj"
    end.unlink() if text is None else end.write_text(text)
    tree.set("package-0/dram", 9_000_000)
    meter = opened(tree)
    assert any("gap: package-0/dram" in note for note in meter.info.notes)
    meter.read()
    tree.set("package-0/dram", 10)
    tree.set("package-0", tree.start_uj["package-0"] + 1_000_000)
    assert joules(meter) == {"package-0": 1.0, "package-0/dram": None}
    tree.set("package-0/dram", 2_000_010)
    assert joules(meter) == {"package-0": 1.0, "package-0/dram": 2.0}


@pytest.mark.parametrize("text", ["", "none", "-5", "1.5", "0x10", "9" * 22])
def test_text_that_is_no_count_is_one_break_and_counting_goes_on(sysfs, text):
    tree = FakeRapl(sysfs, {"package-0": 20.0})
    meter = opened(tree)
    meter.read()
    tree.set("package-0", tree.start_uj["package-0"] + 5_000_000)
    assert joules(meter) == {"package-0": 5.0}
    tree.set("package-0", text)
    assert joules(meter) == {"package-0": None}
    assert joules(meter) == {}
    tree.set("package-0", 40)
    assert joules(meter) == {"package-0": 5.0}
    tree.set("package-0", 1_000_040)
    assert joules(meter) == {"package-0": 6.0}


def test_a_gap_in_which_the_counter_may_have_gone_round_is_a_break(sysfs, monkeypatch):
    tree = FakeRapl(sysfs, {"package-0": 20.0})
    now = [0]
    monkeypatch.setattr(kernelfile, "now_ns", lambda: now[0])
    meter = opened(tree)
    meter.read()
    now[0] += 131_000_000_000
    tree.set("package-0", tree.start_uj["package-0"] + 5_000_000)
    assert joules(meter) == {"package-0": 5.0}
    now[0] += 132_000_000_000
    tree.set("package-0", tree.start_uj["package-0"] + 6_000_000)
    assert joules(meter) == {"package-0": None}
    tree.set("package-0", tree.start_uj["package-0"] + 8_000_000)
    assert joules(meter) == {"package-0": 7.0}


def test_stamps_lie_around_the_reading_and_do_not_fall(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-1": 3.0})
    meter = opened(tree)
    before = kernelfile.now_ns()
    stamps = [reading.t_ns for _ in range(5) for reading in meter.read()]
    assert before <= stamps[0]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= kernelfile.now_ns()


def test_a_zone_that_vanishes_is_one_break_and_goes_on_when_it_is_back(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-1": 30.0})
    meter = opened(tree)
    meter.read()
    tree.advance(1.0)
    meter.read()
    tree.counter("package-1").unlink()
    tree.set("package-0", tree.start_uj["package-0"] + 30_000_000)
    assert joules(meter) == {"package-0": pytest.approx(30.0, abs=0.5), "package-1": None}
    assert list(joules(meter)) == ["package-0"]
    tree.advance(2.0)
    back = joules(meter)["package-1"]
    tree.advance(3.0)
    assert joules(meter)["package-1"] == pytest.approx(back + 30.0)


def test_everything_gone_is_an_error_and_a_break_when_it_is_back(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0})
    meter = opened(tree)
    meter.read()
    folder = tree.folder("package-0")
    folder.rename(folder.with_name("away"))
    for path in folder.with_name("away").iterdir():
        path.unlink()
    for _ in range(2):
        with pytest.raises(MeterLostError, match="gone"):
            meter.read()
    folder.mkdir()
    tree.advance(9.0)
    assert [reading.energy_j for reading in meter.read()] == [None, 0.0]
    tree.advance(10.0)
    assert joules(meter) == {"package-0": 20.0}
    meter.close()
    meter.close()
    with pytest.raises(MeterLostError, match="closed"):
        meter.read()


def test_a_file_that_was_replaced_is_opened_again(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0})
    meter = opened(tree)
    meter.read()
    fresh = tree.counter("package-0").with_name("fresh")
    fresh.write_text(f"{tree.start_uj['package-0'] + 4_000_000}\n")
    fresh.replace(tree.counter("package-0"))
    assert joules(meter) == {"package-0": 4.0}


def test_mirrored_dies_are_counted_once(sysfs):
    watts = {"package-0-die-0": Steps(40.0), "package-1-die-0": Steps(30.0)}
    mirrors = {"package-0-die-1": "package-0-die-0", "package-1-die-1": "package-1-die-0"}
    tree = FakeRapl(sysfs, watts, mirrors=mirrors)
    sockets(sysfs, 0, 0, 1, 1)
    meter = opened(tree)
    assert headline(meter) == ["package-0-die-0", "package-1-die-0"]
    assert "package-0-die-1 shows the counter of package-0-die-0 and is left out." in meter.info.notes
    tree.advance(1.0)
    first = joules(meter)
    tree.advance(2.0)
    assert {domain: value - first[domain] for domain, value in joules(meter).items()} == pytest.approx(
        {"package-0-die-0": 40.0, "package-1-die-0": 30.0}
    )


def test_mirrors_that_wrap_while_they_are_compared_are_still_mirrors(sysfs):
    tree = FakeRapl(
        sysfs,
        {"package-0-die-0": 40.0},
        mirrors={"package-0-die-1": "package-0-die-0"},
        start_uj={"package-0-die-0": RANGE_UJ - 400_000},
    )
    assert headline(opened(tree)) == ["package-0-die-0"]


def test_mirrors_that_follow_a_moment_later_are_still_mirrors(sysfs):
    tree = FakeRapl(
        sysfs,
        {"package-0-die-0": 40.0, "package-0-die-1": 40.0},
        start_uj={"package-0-die-0": 9_000_000, "package-0-die-1": 8_950_000},
    )
    assert headline(opened(tree)) == ["package-0-die-0"]


def test_equal_counters_that_part_are_two(sysfs):
    tree = FakeRapl(
        sysfs, {"package-0": 40.0, "package-1": 90.0}, start_uj={"package-0": 5_000_000, "package-1": 5_000_000}
    )
    assert headline(opened(tree)) == ["package-0", "package-1"]


def test_counters_at_zero_are_no_mirrors(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 0.0, "package-1": 0.0}, start_uj={"package-0": 0, "package-1": 0})
    assert headline(opened(tree)) == ["package-0", "package-1"]


def test_equal_counters_that_stand_still_are_refused(sysfs):
    FakeRapl(sysfs, {"package-0": 0.0, "package-1": 0.0}, start_uj={"package-0": 5, "package-1": 5})
    with pytest.raises(MeterError, match="package-0 and package-1 are equal and do not move"):
        opened()


def test_the_test_of_mirrors_is_short_and_needs_two_packages(sysfs):
    waits = []
    tree = FakeRapl(sysfs, {"package-0": 20.0, "psys": 30.0})
    rapl.open_meter("", sleep=waits.append)
    assert waits == []
    shutil.rmtree(tree.root)
    FakeRapl(sysfs, {"package-0": 20.0, "package-1": 30.0})
    rapl.open_meter("", sleep=waits.append)
    assert 0.01 < sum(waits) < 0.05


def test_counters_of_root_alone_name_the_commands(sysfs, monkeypatch):
    tree = FakeRapl(sysfs, {"package-0": 20.0})
    refuse(monkeypatch, errno.EACCES, tree.counter("package-0"))
    with pytest.raises(MeterError, match="may not be read") as caught:
        opened()
    remedy = caught.value.remedy
    assert str(sysfs / "class/powercap/intel-rapl*:*/energy_uj") in remedy
    assert "sudo" in remedy
    assert 'SUBSYSTEM=="powercap"' in remedy
    state = rapl.probe()
    assert (state.name, state.readable, state.remedy) == ("rapl", False, remedy)


def test_one_of_two_packages_unreadable_is_named_and_no_half_total(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-1": 30.0})
    tree.counter("package-1").unlink()
    tree.counter("package-1").mkdir()
    with pytest.raises(MeterError, match=r"package-1 cannot be read .*directory.*no total"):
        opened()
    assert not rapl.probe().readable


def test_a_socket_without_a_zone_is_no_half_total(sysfs):
    FakeRapl(sysfs, {"package-0": 20.0})
    sockets(sysfs, 0, 0, 1, 1)
    with pytest.raises(MeterError, match="2 sockets, but powercap has a package zone for 1"):
        opened()


def test_a_part_that_cannot_be_read_is_left_out_and_noted(sysfs):
    tree = FakeRapl(sysfs, {"package-0": 20.0, "package-0/dram": 3.0})
    tree.set("package-0/dram", "nothing")
    meter = opened(tree=None)
    assert [channel.domain for channel in meter.info.channels] == ["package-0"]
    assert "package-0/dram is left out, it cannot be read: its text is no number." in meter.info.notes


def test_a_tree_without_packages_is_no_total(sysfs):
    FakeRapl(sysfs, {"psys": 20.0})
    with pytest.raises(MeterError, match="no package zone"):
        opened()


def test_other_processors_have_no_rapl(sysfs, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    state = rapl.probe()
    assert "x86" in state.detail
    assert state.remedy is None


def test_a_missing_module_is_to_be_loaded(sysfs):
    (sysfs / "class/powercap/intel-rapl").mkdir(parents=True)
    assert rapl.probe().remedy == "sudo modprobe intel_rapl_msr"


def test_a_virtual_machine_is_named(sysfs, tmp_path):
    (tmp_path / "proc/cpuinfo").write_text("flags\t\t: fpu sse2 hypervisor avx\n")
    (tmp_path / ".dockerenv").touch()
    with pytest.raises(MeterError, match="virtual machine"):
        opened()


def test_a_container_is_told_how_to_see_the_tree(sysfs, tmp_path):
    (tmp_path / ".dockerenv").touch()
    assert "--volume /sys:/host/sys:ro" in rapl.probe().remedy


def test_links_to_a_hidden_tree_are_a_container(sysfs):
    folder = sysfs / "class/powercap"
    folder.mkdir(parents=True)
    (folder / "intel-rapl:0").symlink_to("../../devices/virtual/powercap/intel-rapl/intel-rapl:0")
    with pytest.raises(MeterError, match="this container hides"):
        opened()


def test_what_is_readable_is_listed(sysfs):
    FakeRapl(sysfs, {"package-0": 20.0, "package-0/dram": 3.0})
    state = rapl.probe()
    assert state.readable
    assert state.detail == "package-0, package-0/dram"


def test_an_argument_is_refused(sysfs):
    FakeRapl(sysfs, {"package-0": 20.0})
    with pytest.raises(MeterError, match="no argument"):
        rapl.open_meter("package-0")


def test_no_descriptor_is_left_open(sysfs, monkeypatch):
    held = set()
    real_open, real_close = kernelfile.os.open, kernelfile.os.close

    def opening(*arguments, **named):
        fd = real_open(*arguments, **named)
        held.add(fd)
        return fd

    def closing(fd):
        held.discard(fd)
        real_close(fd)

    monkeypatch.setattr(kernelfile.os, "open", opening)
    monkeypatch.setattr(kernelfile.os, "close", closing)
    tree = FakeRapl(
        sysfs, {"package-0": 20.0, "package-0/dram": 3.0}, mmio=["package-0"], mirrors={"package-1": "package-0"}
    )
    rapl.probe()
    assert held == set()
    meter = opened(tree)
    meter.read()
    assert len(held) == 2
    meter.close()
    assert held == set()
    tree.counter("package-1").unlink()
    with pytest.raises(MeterError):
        opened()
    assert held == set()


@given(st.text())
def test_only_whole_numbers_are_numbers(text):
    value = whole_number(text)
    assert value is None or text.strip("\x00 \t\r\n").lstrip("+-").lstrip("0") in (
        str(abs(value)),
        "" if value == 0 else None,
    )


@given(st.integers(10, 10**6), st.lists(st.integers(0, 9), min_size=1), st.integers(0, 10**6))
def test_steps_shorter_than_a_round_add_up_whatever_wraps(range_uj, tenths, start):
    counter = WrappingCounter(1e-6, range_uj + 1)
    true, total = start % (range_uj + 1), 0
    counter.add(true)
    for tenth in tenths:
        step = tenth * (range_uj + 1) // 10
        total += step
        true = (true + step) % (range_uj + 1)
        assert counter.add(true) == total * 1e-6
