"""The operator's side, with a script in the place of Flower's command."""

import json
import sys

import pytest
from fleet_parts import make_order

from devprof.errors import DevprofError
from strategies.fleet.launch import PYPROJECT, InterruptedRunError, launch
from strategies.fleet.lines import event_line, result_file
from strategies.fleet.order import Order

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STARTED = "Successfully started run 42\n"
RESULT = {"event": "result", "nodes": [], "host": "h", "output": "", "shared": True}


@pytest.fixture
def flwr(tmp_path):
    """Makes a command that leaves its arguments and files in a folder, prints lines, and ends."""

    def make(*lines, code=0, then="pass"):
        script = tmp_path / "flwr.py"
        script.write_text(
            "import json, sys, time, pathlib\n"
            "app, config = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[-1])\n"
            f"pathlib.Path({str(tmp_path / 'seen.json')!r}).write_text(json.dumps(\n"
            "    [sys.argv[1:], (app / 'pyproject.toml').read_text(), config.read_text()]))\n"
            f"sys.stdout.write({''.join(lines)!r})\nsys.stdout.flush()\n{then}\nsys.exit({code})\n"
        )
        return [sys.executable, str(script)]

    return make


@pytest.fixture
def order(tmp_path):
    (tmp_path / "out").mkdir()
    return make_order(tmp_path / "out")


def run(order, program, *, superlink=None, on_line=lambda line: None):
    events = []
    return launch(order, superlink=superlink, on_event=events.append, on_line=on_line, program=program), events


def test_the_result_and_what_comes_before_are_told_apart(order, flwr):
    lines = []
    note = {"event": "note", "text": "asking"}
    program = flwr(
        STARTED, "INFO : hello\n", event_line("t0", note), event_line("other", note), event_line("t0", RESULT)
    )
    result, events = run(order, program, on_line=lines.append)
    assert result == RESULT
    assert events == [note]
    assert lines == [STARTED.strip(), "INFO : hello", event_line("other", note).strip()]


@pytest.mark.parametrize("superlink", [None, "site-a"])
def test_flower_is_given_the_app_the_order_and_the_superlink(order, flwr, tmp_path, superlink):
    run(order, flwr(event_line("t0", RESULT)), superlink=superlink)
    words, project, config = json.loads((tmp_path / "seen.json").read_text())
    assert words[0] == "run"
    assert words[2:-1] == [*([superlink] if superlink else []), "--stream", "--run-config"]
    assert project == PYPROJECT
    components = tomllib.loads(project)["tool"]["flwr"]["app"]["components"]
    assert components == {
        "serverapp": "strategies.fleet.server_app:app",
        "clientapp": "strategies.fleet.client_app:app",
    }
    assert Order.from_text(tomllib.loads(config)["order"]) == order


def test_the_probe_is_there_while_the_run_lasts_and_gone_afterwards(order, flwr, tmp_path):
    probe = tmp_path / "out" / ".fleet-t0"
    program = flwr(event_line("t0", RESULT), then=f"assert pathlib.Path({str(probe)!r}).exists()")
    run(order, program)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_result_beside_the_rows_is_enough_where_the_log_was_cut(order, flwr, tmp_path):
    kept = result_file(tmp_path / "out", "t0")
    kept.parent.mkdir()
    kept.write_text(json.dumps(RESULT))
    assert run(order, flwr(STARTED, event_line("t0", RESULT)[:40]))[0] == RESULT


def test_a_failure_of_the_server_app_is_the_error(order, flwr):
    program = flwr(STARTED, event_line("t0", {"event": "error", "text": "the folder cannot be written"}))
    with pytest.raises(DevprofError, match="the SuperLink's part failed: the folder cannot be written"):
        run(order, program)


@pytest.mark.parametrize(
    ("lines", "hint"), [((STARTED, "ModuleNotFoundError\n"), "installed on the SuperLink"), (("no such",), "flwr run")]
)
def test_without_a_result_the_log_is_the_error(order, flwr, lines, hint):
    with pytest.raises(DevprofError, match=hint) as raised:
        run(order, flwr(*lines, code=3))
    assert "exit code 3" in str(raised.value)
    assert lines[-1].strip() in str(raised.value)


def test_an_interruption_says_how_to_stop_the_run_and_leaves_nothing(order, flwr, tmp_path):
    def interrupt(line):
        raise KeyboardInterrupt

    program = flwr(STARTED, then="time.sleep(600)")
    with pytest.raises(InterruptedRunError, match="'flwr stop 42 site-a'"):
        run(order, program, superlink="site-a", on_line=interrupt)
    assert list((tmp_path / "out").iterdir()) == []
