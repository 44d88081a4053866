"""Emulation without control groups: the ways that are tried, what each is told, and why none works."""

import os
import signal
import sys

import pytest

from devprof.device import emulate
from devprof.device.emulate import Limits, check, run
from devprof.errors import DevprofError

MIB = 1 << 20
HALF = Limits(cpus=0.5, memory_bytes=256 * MIB)
FAKE_SYSTEMD = """#!/bin/sh
# Notes how it was called; tells the one who looks at the limits what the test wants; runs everything else.
printf '%s\\n' "$@" >> {log}
case "$*" in *devprof.device.limits*) {answer}; exit $? ;; esac
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def no_groups(tmp_path, monkeypatch):
    """A sysfs without control groups, which nobody can write."""
    monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path / "sys"))


@pytest.fixture
def fake_systemd(tmp_path, monkeypatch):
    """Put a ``systemd-run`` on the PATH; returns the file with its arguments."""

    def install(answer):
        folder = tmp_path / "bin"
        folder.mkdir()
        log = tmp_path / "calls"
        (folder / "systemd-run").write_text(FAKE_SYSTEMD.format(log=log, answer=answer))
        (folder / "systemd-run").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return log

    return install


@pytest.mark.usefixtures("no_groups")
class TestSystemd:
    def test_it_is_told_both_limits_and_runs_the_command(self, fake_systemd, capfd, monkeypatch):
        monkeypatch.setattr(emulate.os, "geteuid", lambda: 1000)
        log = fake_systemd(f"echo '[0.5, {256 * MIB}]'")
        ended = run(["sh", "-c", "echo inside; exit 3"], HALF)
        assert (ended.exit_code, ended.oom_kills, ended.way) == (3, None, "systemd-run")
        assert capfd.readouterr().out == "inside\n"
        calls = log.read_text().splitlines()
        limits = ["CPUQuota=50.00%", "CPUQuotaPeriodSec=10000us", f"MemoryMax={256 * MIB}", "MemorySwapMax=0"]
        properties = ["Delegate=yes", *limits]
        expected = [
            "--user",
            "--scope",
            "--quiet",
            "--collect",
            *(part for entry in properties for part in ("-p", entry)),
        ]
        assert calls[-len(expected) - 4 :] == [*expected, "--", "sh", "-c", "echo inside; exit 3"]

    def test_root_asks_the_systems_own_systemd(self, fake_systemd, monkeypatch):
        monkeypatch.setattr(emulate.os, "geteuid", lambda: 0)
        log = fake_systemd("echo '[0.5, null]'")
        assert check(Limits(cpus=0.5)) == "systemd-run"
        assert "--user" not in log.read_text()

    def test_a_small_memory_does_not_kill_the_look_at_the_limits(self, fake_systemd):
        log = fake_systemd(f"echo '[null, {128 * MIB}]'")
        assert run(["true"], Limits(memory_bytes=8 * MIB)).exit_code == 0
        assert [line for line in log.read_text().splitlines() if "MemoryMax" in line] == [
            f"MemoryMax={128 * MIB}",
            f"MemoryMax={8 * MIB}",
        ]

    @pytest.mark.parametrize("answer", ["[null, null]", "[2.0, 268435456]"])
    def test_limits_that_it_takes_and_ignores_are_found_out(self, fake_systemd, answer):
        fake_systemd(f"echo '{answer}'")
        with pytest.raises(DevprofError, match="controller 'cpu' does not enforce them"):
            check(HALF)

    def test_its_refusal_and_that_of_the_groups_are_both_told(self, fake_systemd):
        fake_systemd("echo 'Failed to connect to bus: No medium found' >&2; false")
        with pytest.raises(
            DevprofError, match=r"Control groups: no control.*systemd-run: Failed to connect to bus.*Run as root"
        ):
            run(["true"], HALF)

    def test_silence_is_not_waited_for_forever(self, fake_systemd, monkeypatch):
        monkeypatch.setattr(emulate, "_PROBE_TIMEOUT_S", 0.05)
        fake_systemd("exec sleep 5")
        with pytest.raises(DevprofError, match=r"no answer within 0.05 s"):
            check(HALF)

    def test_its_absence_is_told(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(DevprofError, match="systemd-run: not installed"):
            check(HALF)

    def test_cores_need_neither(self):
        assert check(Limits(cores=1)) == "CPU affinity"


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("limits", "text"),
        [
            (Limits(cpus=4096), "4096 CPUs cannot be emulated"),
            (Limits(cores=4096), "4096 cores cannot be emulated"),
            (Limits(memory_bytes=1 << 50), "GiB of memory cannot be emulated"),
        ],
    )
    def test_a_device_larger_than_this_one(self, limits, text):
        with pytest.raises(DevprofError, match=text):
            run(["true"], limits)

    def test_a_command_that_is_not_there(self):
        with pytest.raises(FileNotFoundError, match="no command 'no-such-command'"):
            run(["no-such-command"], Limits(cores=1))

    def test_a_file_that_is_no_program(self, tmp_path):
        (tmp_path / "notes").write_text("x")
        with pytest.raises(PermissionError, match="not executable"):
            run([str(tmp_path / "notes")], Limits(cores=1))

    @pytest.mark.parametrize(("first_line", "code"), [("#!/no/such/interpreter", 127), ("no first line", 126)])
    def test_a_script_that_the_kernel_cannot_start(self, tmp_path, capfd, first_line, code):
        (tmp_path / "script").write_text(first_line)
        (tmp_path / "script").chmod(0o755)
        assert run([str(tmp_path / "script")], Limits(cores=1)).exit_code == code
        assert str(tmp_path / "script") in capfd.readouterr().err


class TestCores:
    def test_whole_cores_are_taken_before_second_threads(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
        monkeypatch.setattr(emulate.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
        for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
            topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(siblings)
        assert emulate._pick_cores(2) == {0, 2}
        assert emulate._pick_cores(3) == {0, 1, 2}

    def test_the_command_sees_that_many(self, capfd):
        script = "import os; print(len(os.sched_getaffinity(0)))"
        assert run([sys.executable, "-c", script], Limits(cores=1)).exit_code == 0
        assert capfd.readouterr().out == "1\n"


def test_the_callers_signals_and_affinity_are_as_before():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.sched_getaffinity(0)
    run(["true"], Limits(cores=1))
    assert (signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.sched_getaffinity(0)) == before
