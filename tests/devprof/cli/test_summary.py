import json

import pytest
from click.testing import CliRunner
from makers import make_run

from devprof.cli import main
from devprof.cli import summary as module
from devprof.store.folder import write_records


@pytest.fixture
def folder(tmp_path):
    runs = [make_run(f"{size}-{index}", batch_size=size, repeat=index) for size in (1, 2) for index in range(3)]
    runs += [make_run("one", batch_size=3, step_s_ci_low=0.24, step_s_ci_high=0.26, energy_per_step_j=1.25)]
    runs += [make_run("bad", batch_size=3, status="oom", step_s=None)]
    write_records(tmp_path, "runs", "x", runs)
    return tmp_path


def summary(*arguments, code=0):
    done = CliRunner().invoke(main, ["summary", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def test_a_table_has_a_line_per_configuration_and_says_what_to_do(folder):
    done = summary(folder)
    assert "8 runs, 0 steps, 0 power samples" in done.stdout
    assert "250 ms … 250 ms" in done.stdout
    assert "240 ms … 260 ms" in done.stdout
    assert "1.25 J" in done.stdout
    assert "1 oom" in done.stdout
    assert "1 of 3 lines stand on one process" in done.stderr
    assert "--repeats 3" in done.stderr


def test_json_has_everything(folder):
    done = json.loads(summary(folder, "--json").stdout)
    assert [(line["batch_size"], line["processes"], line["failed"]) for line in done["lines"]] == [
        (1, 3, {}),
        (2, 3, {}),
        (3, 1, {"oom": 1}),
    ]
    assert done["lines"][2]["interval"] == "one process"
    assert done["lines"][2]["between_rel"] is None
    assert (done["folders"][0]["runs"], done["configurations"], done["skipped"]) == (8, 3, {})


def test_lines_by_other_columns(folder):
    (line,) = json.loads(summary(folder, "--json", "--by", "device,mode").stdout)["lines"]
    assert (line["device"], line["mode"], line["processes"]) == ("board", "full", 7)
    assert "not one of" in summary(folder, "--by", "colour", code=2).stderr


def test_a_pipe_gets_all_lines_and_a_limit_says_how_many_are_left(folder, monkeypatch):
    monkeypatch.setattr(module, "_TERMINAL_LINES", 1)
    assert summary(folder).stdout.count("seed:cnn") == 3
    done = summary(folder, "--limit", 1)
    assert done.stdout.count("seed:cnn") == 1
    assert "2 more lines; show them with --limit 3" in done.stderr


def test_a_table_too_long_to_draw_has_the_same_cells(folder, monkeypatch):
    drawn = [line.split() for line in summary(folder).stdout.splitlines() if "seed:cnn" in line]
    monkeypatch.setattr(module, "_MOST_DRAWN", 1)
    lines = summary(folder).stdout.splitlines()
    assert [line.split() for line in lines if "seed:cnn" in line] == drawn
    assert lines[1].index("model") == lines[2].index("seed:cnn")


def test_an_empty_folder_says_what_to_do(tmp_path):
    assert "devprof measure" in summary(tmp_path).stderr


def test_a_broken_file_is_named(folder):
    (folder / "runs" / "broken.parquet").write_text("")
    assert "broken.parquet" in summary(folder).stderr
    assert list(json.loads(summary(folder, "--json").stdout)["skipped"]) == [str(folder / "runs" / "broken.parquet")]


def test_a_missing_folder_is_an_error(tmp_path):
    assert "there is no folder" in summary(tmp_path / "none", code=1).stderr
