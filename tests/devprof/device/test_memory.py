import os
import subprocess
import sys

from fake_boards import FakeBoard

from devprof.device import memory

COUNTERS = (
    memory.current_rss_bytes,
    memory.peak_rss_bytes,
    memory.pss_bytes,
    memory.total_memory_bytes,
    memory.available_memory_bytes,
    memory.total_swap_bytes,
    memory.swapped_in_bytes,
)


def test_the_memory_peak_is_of_this_process_and_can_be_reset():
    script = (
        "from devprof.device.memory import *\n"
        "block = bytearray(120 << 20); del block\n"
        "high = peak_rss_bytes(); done = reset_peak_rss(); print(done, high > 120 << 20, peak_rss_bytes() < 100 << 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


def test_memory_of_process_and_machine_are_bytes():
    assert 1 << 20 < memory.current_rss_bytes() <= memory.peak_rss_bytes() < memory.total_memory_bytes()
    assert 0 < memory.available_memory_bytes() < memory.total_memory_bytes()
    assert memory.reset_peak_rss() in {True, False}


def test_the_proportional_share_is_not_above_resident_memory():
    # In a process of its own, because resident memory of this one may change between the two readings.
    script = "from devprof.device.memory import *; print(0 < pss_bytes() <= current_rss_bytes() + (1 << 20))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_counters_of_this_process_only_rise():
    before = memory.major_faults(), memory.minor_faults(), memory.involuntary_switches()
    assert all(count >= 0 for count in before)
    after = memory.major_faults(), memory.minor_faults(), memory.involuntary_switches()
    assert all(second >= first for first, second in zip(before, after, strict=True))


def test_kernel_files_are_read_in_their_units(tmp_path, monkeypatch):
    board = FakeBoard(tmp_path, monkeypatch)
    board.write("proc/self/status", "Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    board.write(
        "proc/self/smaps_rollup", "5500-7fff ---p 0 00:00 0  [rollup]\nRss: 1024 kB\nPss: 512 kB\nPss_Anon: 7 kB\n"
    )
    board.write("proc/meminfo", "MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 3072 kB\nSwapTotal: 0 kB\n")
    board.write("proc/vmstat", "pgpgin 5\npswpin 3\npswpout 9\n")
    assert [counter() >> 10 for counter in COUNTERS[:-1]] == [1024, 2048, 512, 4096, 3072, 0]
    assert memory.swapped_in_bytes() == 3 * os.sysconf("SC_PAGE_SIZE")


def test_what_the_kernel_does_not_say_is_none(tmp_path, monkeypatch):
    board = FakeBoard(tmp_path, monkeypatch)
    assert [counter() for counter in COUNTERS] == [None] * len(COUNTERS)
    assert memory.reset_peak_rss() is False
    board.write("proc/vmstat", "pswpin\npswpin_more 3\n")
    board.write("proc/meminfo", "MemTotal: much kB\n")
    assert memory.swapped_in_bytes() is None
    assert memory.total_memory_bytes() is None
