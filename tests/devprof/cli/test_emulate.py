"""``devprof emulate`` as a user types it; with the kernel's own control groups where this machine lets them be made."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from devprof.cli import main
from devprof.device.emulate import Ended, Limits, check
from devprof.errors import DevprofError

DEVPROF = (sys.executable, "-c", "from devprof.cli import main; main()")
ALLOCATE = "b = bytearray(300 << 20)"
# Its group's name, then "ready", then one line per signal; ends with code 3 on SIGTERM.
LISTENER = """
import os, signal, sys, time
def heard(number, frame):
    print("heard", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(3)
signal.signal(signal.SIGTERM, heard)
signal.signal(signal.SIGINT, heard)
print(open("/proc/self/cgroup").read().partition("devprof-emulate-")[2].split()[0], os.getpid(), flush=True)
while True:
    time.sleep(0.05)
"""


def emulate(*arguments, **options):
    command = [*DEVPROF, "emulate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def groups_named(ending):
    return [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(f"devprof-emulate-{ending}")]


def runs(pid):
    """Whether a process still does anything; one that is dead may wait long for a parent to notice."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def kernel():
    """Skip where this user cannot make control groups."""
    try:
        way = check(Limits(cpus=0.5, memory_bytes=256 << 20))
    except DevprofError as error:
        pytest.skip(str(error))
    if not way.startswith("control groups"):
        pytest.skip(f"limits are set by {way} here, which counts no kills")


@pytest.fixture
def listener(kernel):
    """A running emulation of a command that tells what it hears: (process of the emulation, group, process id inside)."""
    started = []

    def start():
        command = [*DEVPROF, "emulate", "--cpus", "1", "--memory", "64M", "--", sys.executable, "-c", LISTENER]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        ending, pid = process.stdout.readline().split()
        assert groups_named(ending)
        return process, ending, int(pid)

    yield start
    for process in started:
        process.terminate()
        process.stdout.close()
        process.wait(20)


@pytest.mark.usefixtures("kernel")
class TestKernel:
    def test_memory_beyond_the_limit_is_an_out_of_memory_kill(self):
        done = emulate("--memory", "64M", "--", sys.executable, "-c", ALLOCATE)
        assert done.returncode == 137
        assert done.stderr == "out-of-memory kills inside: 1\n"

    def test_memory_within_the_limit_is_none(self):
        done = emulate("--memory", "400M", "--json", "--", sys.executable, "-c", ALLOCATE)
        assert done.returncode == 0
        ended = json.loads(done.stderr)
        assert (ended["exit_code"], ended["oom_kills"]) == (0, 0)
        assert ended["way"].startswith("control groups")

    def test_a_command_survives_the_kill_of_its_child_and_the_kill_is_told(self):
        child = (
            f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', '{ALLOCATE}']).returncode == -9)"
        )
        done = emulate("--memory", "64M", "--", sys.executable, "-c", child)
        assert done.returncode == 1
        assert done.stderr == "out-of-memory kills inside: 1\n"

    def test_a_quarter_of_a_processor_takes_more_than_three_times_the_processor_time(self):
        script = (
            "import time\nstart = time.perf_counter(), time.process_time()\n"
            "while time.process_time() - start[1] < 0.2: pass\n"
            "print((time.perf_counter() - start[0]) / (time.process_time() - start[1]))"
        )
        done = emulate("--cpus", "0.25", "--", sys.executable, "-c", script)
        assert float(done.stdout) >= 3

    def test_the_command_can_read_its_limits(self):
        script = "from devprof.device.limits import *; print(cpu_limit(), memory_limit_bytes(), oom_kills_here())"
        done = emulate("--cpus", "0.3", "--memory", "64M", "--", sys.executable, "-c", script)
        assert done.stdout == f"0.3 {64 << 20} 0\n"

    def test_emulations_nest(self):
        script = "from devprof.device.limits import *; print(cpu_limit(), memory_limit_bytes())"
        inner = (*DEVPROF, "emulate", "--memory", "64M", "--", sys.executable, "-c", script)
        assert emulate("--cpus", "0.5", "--", *inner).stdout == f"0.5 {64 << 20}\n"

    def test_a_sigterm_reaches_the_command_and_the_group_is_removed(self, listener):
        process, ending, _ = listener()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "heard SIGTERM\n"
        assert process.wait(20) == 3
        assert groups_named(ending) == []

    def test_a_sigint_that_the_command_survives_ends_nothing(self, listener):
        process, _, _ = listener()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "heard SIGINT\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 3

    def test_what_a_killed_emulation_left_is_swept_by_the_next(self, listener):
        process, ending, inside = listener()
        process.kill()
        process.wait(20)
        assert groups_named(ending)
        assert emulate("--cpus", "1", "--memory", "64M", "--", "true").returncode == 0
        assert groups_named(ending) == []
        assert not runs(inside)

    def test_what_the_command_left_running_is_killed(self):
        done = emulate("--cpus", "1", "--", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!")
        assert done.returncode == 0
        assert not runs(int(done.stdout))


class TestCommand:
    @pytest.mark.parametrize(
        ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    )
    def test_the_exit_code_is_the_commands(self, script, code):
        assert emulate("--cores", "1", "--", "sh", "-c", script).returncode == code

    def test_stdin_stdout_and_stderr_are_the_commands(self):
        done = emulate("--cores", "1", "--", "sh", "-c", "cat; echo said >&2", input="hello")
        assert (done.stdout, done.stderr) == ("hello", "said\n")

    def test_a_pipe_that_nobody_reads_ends_the_command_quietly(self):
        line = f"{sys.executable} -c 'from devprof.cli import main; main()' emulate --cores 1 -- yes | head -n 1"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("y\n", "")

    def test_options_after_the_command_are_the_commands(self):
        assert emulate("--cores", "1", "echo", "--memory", "-x").stdout == "--memory -x\n"

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["--", "true"], "give a limit"),
            (["--cores", "1"], "give a command"),
            (["--cores", "1", "--check", "true"], "leave the command out"),
            (["--cpus", "0", "true"], "--cpus"),
            (["--memory", "lots", "true"], "512M"),
            (["--memory", "512", "true"], "Give a unit"),
        ],
    )
    def test_wrong_usage(self, arguments, text):
        result = CliRunner().invoke(main, ["emulate", *arguments])
        assert result.exit_code == 2
        assert text in result.output

    def test_a_missing_command_is_127_and_a_file_without_permission_126(self, tmp_path):
        (tmp_path / "notes").write_text("x")
        for program, code in (("no-such-command", 127), (str(tmp_path / "notes"), 126)):
            result = CliRunner().invoke(main, ["emulate", "--cores", "1", "--", program])
            assert result.exit_code == code
            assert program in result.output

    def test_a_machine_where_nothing_can_be_limited_says_why(self, tmp_path, monkeypatch):
        monkeypatch.setenv("DEVPROF_SYSFS", str(tmp_path))
        monkeypatch.setenv("PATH", str(Path("/bin")))
        monkeypatch.setattr("devprof.device.emulate._systemd_refusal", lambda limits: "no bus")
        result = CliRunner().invoke(main, ["emulate", "--cpus", "0.5", "--", "true"])
        assert result.exit_code == 1
        assert "systemd-run: no bus" in result.output

    def test_a_kill_that_nobody_counted_is_told_with_the_limit(self, monkeypatch):
        monkeypatch.setattr("devprof.cli.emulate.run", lambda line, limits: Ended(137, None, "systemd-run"))
        result = CliRunner().invoke(main, ["emulate", "--memory", "64M", "--", "true"])
        assert result.exit_code == 137
        assert "perhaps for its limit of 64 MiB: systemd-run counts no such kills" in result.stderr

    def test_check_names_the_way_of_each_limit(self, monkeypatch):
        def answer(limits):
            if limits.memory_bytes:
                raise DevprofError("no memory controller")
            return "CPU affinity"

        monkeypatch.setattr("devprof.cli.emulate.check", answer)
        shown = CliRunner().invoke(main, ["emulate", "--check", "--json"])
        assert shown.exit_code == 1
        rows = {row["limit"]: row for row in json.loads(shown.stdout)}
        assert rows["cores"] == {"limit": "cores", "asked": 1, "works": True, "way": "CPU affinity", "detail": ""}
        assert rows["memory_bytes"]["detail"] == "no memory controller"
        table = CliRunner().invoke(main, ["emulate", "--check", "--memory", "1G"]).stdout
        assert "1 GiB" in table
        assert "no memory controller" in table
        assert "cores" not in table
