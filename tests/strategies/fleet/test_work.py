"""A node's commands: what they are, how they end, and that nothing of them is left."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from strategies.fleet.watched import end_when_orphaned
from strategies.fleet.wire import Job
from strategies.fleet.work import WATCHED, commands_of, work

PRINT_AND_END = "import sys; print('asked', *sys.argv[2:]); sys.exit({code})"


def program(code):
    """In the place of devprof: arguments are the parent's id and the words of the command."""
    return (sys.executable, "-c", code)


def test_measuring_models_is_one_command_whose_last_words_are_the_nodes_own(tmp_path):
    job = Job(60.0, measure_options=("--min-time", "1", "--output", "/etc"), models=("seed:net", "-x"))
    (command,) = commands_of(job, tmp_path / "out", "my board", tmp_path)
    assert command == [
        *("measure", "--min-time", "1", "--output", "/etc"),
        *("--device", "my board", "--output", str(tmp_path / "out"), "--", "seed:net", "-x"),
    ]


def test_a_calibration_comes_first_and_alone_is_enough(tmp_path):
    job = Job(600.0, models=("seed:net",), calibration_s=60.0, calibrate_options=("--threads", "1"))
    first, second = commands_of(job, tmp_path, None, tmp_path)
    assert first == ["calibrate", "--threads", "1", "--time", "60.0", "--output", str(tmp_path)]
    assert second[0] == "measure"
    assert len(commands_of(Job(600.0, calibration_s=60.0), tmp_path, None, tmp_path)) == 1


@pytest.mark.parametrize(("name", "file"), [("mine", "mine.toml"), ("../../mine", "suite.toml"), ("", "suite.toml")])
def test_a_suite_of_the_operators_own_is_written_where_the_node_says(tmp_path, name, file):
    (command,) = commands_of(
        Job(60.0, suite=name, suite_toml='models = ["seed:net"]'), tmp_path / "out", None, tmp_path
    )
    assert command[command.index("--suite") + 1] == str(tmp_path / file)
    assert (tmp_path / file).read_text() == 'models = ["seed:net"]'


def test_a_suite_that_the_node_has_goes_by_its_name(tmp_path):
    (command,) = commands_of(Job(60.0, suite="quick"), tmp_path, None, tmp_path)
    assert command[1:3] == ["--suite", "quick"]


def test_commands_that_end_well_are_done_and_what_they_print_is_kept(tmp_path):
    done = work(
        [["a", "1"], ["b", "2"]], budget_s=60.0, log=tmp_path / "log", watched=program(PRINT_AND_END.format(code=0))
    )
    assert (done.outcome, done.message) == ("done", None)
    assert done.output == "asked a 1\nasked b 2\n"


@pytest.mark.parametrize(("fails", "outcome"), [("calibrate", "done"), ("measure", "error")])
def test_a_command_that_fails_is_named_with_its_last_line_and_the_others_run(tmp_path, fails, outcome):
    code = f"import sys; print('Error: no \\x1b[1mroom'); sys.exit(sys.argv[2] == {fails!r})"
    done = work([["calibrate"], ["measure"]], budget_s=60.0, log=tmp_path / "log", watched=program(code))
    assert (done.outcome, done.message) == (outcome, f"devprof {fails} ended with exit code 1: Error: no [1mroom")
    assert done.output.count("no ") == 2


def test_a_command_that_is_killed_crashed(tmp_path):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = work([["measure"]], budget_s=60.0, log=tmp_path / "log", watched=program(code))
    assert (done.outcome, done.message) == ("crashed", "devprof measure was killed by signal 9: no output")


def test_a_command_that_takes_too_long_is_asked_to_end_and_no_other_begins(tmp_path):
    code = "import signal, sys; signal.signal(15, lambda *_: (print('stored'), sys.exit(1))); print('on', flush=True); signal.pause()"
    done = work([["calibrate"], ["measure"]], budget_s=4.0, log=tmp_path / "log", watched=program(code))
    assert done.outcome == "timeout"
    assert done.message == (
        "devprof calibrate was ended when the budget of time was used up; "
        "devprof measure was not begun: the budget of time was too short"
    )
    assert done.output == "on\nstored\n"


def test_what_does_not_want_to_end_is_killed_with_its_children(tmp_path):
    child = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    code = f"import signal, subprocess, sys; signal.signal(15, signal.SIG_IGN); p = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True); print(p.pid, flush=True); p.wait()"
    done = work([["measure"]], budget_s=4.0, log=tmp_path / "log", watched=program(code))
    assert done.outcome == "timeout"
    assert not psutil.pid_exists(int(done.output)) or psutil.Process(int(done.output)).status() == psutil.STATUS_ZOMBIE


def test_without_time_nothing_begins(tmp_path):
    done = work([["measure"]], budget_s=0.0, log=tmp_path / "log", watched=program("raise SystemExit(3)"))
    assert (done.outcome, done.output) == ("timeout", "")
    assert "was not begun" in done.message


def test_the_default_program_is_devprof(tmp_path):
    done = work([["summary", str(tmp_path / "nowhere")]], budget_s=60.0, log=tmp_path / "log")
    assert done.outcome == "error"
    assert "nowhere" in done.message


def test_an_orphan_asks_itself_to_end():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("end"))
    try:
        end_when_orphaned(7, parent_id=iter([7, 7, 1]).__next__, look_every_s=0.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["end"]


@pytest.mark.slow
def test_what_a_dead_client_app_left_ends_by_itself_with_what_it_started(tmp_path):
    words = ["measure", "seed:net", "--image-size", "8", "--min-time", "500s", "--output", str(tmp_path / "runs")]
    start = f"subprocess.Popen([*{WATCHED!r}, str(os.getpid()), *{words!r}], stdin=subprocess.DEVNULL)"
    script = f"import os, subprocess, sys; print({start}.pid, flush=True); sys.stdin.read()"
    starter = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    left = psutil.Process(int(starter.stdout.readline()))
    end = time.monotonic() + 60
    while not left.children():
        assert time.monotonic() < end
        time.sleep(0.1)
    family = [left, *left.children()]
    starter.communicate()
    gone, alive = psutil.wait_procs(family, timeout=60)
    for process in alive:
        process.kill()
    assert set(gone) == set(family)
