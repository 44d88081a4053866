"""The commands as a user types them; measuring is real, on the smallest networks."""

import csv
import importlib.util
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from makers import make_run

from devprof.cli import COMMANDS, main
from devprof.records import Measurement
from devprof.store.folder import read_records, write_records, write_run

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.fixture
def run():
    def invoke(*arguments, code=0):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def folder(tmp_path):
    """Measurements of three families at two batch sizes, made by a simple law."""
    work = {"seed:cnn": 0.2, "seed:mlp": 0.05, "seed:net": 0.3, "seed:lstm": 0.1}
    rows = [(model, size) for model in work for size in (4, 16)]
    for number, (model, size) in enumerate(rows):
        write_run(
            tmp_path / "runs",
            make_run(
                f"r{number}",
                model=model,
                batch_size=size,
                step_s=work[model] * (1 + size / 8),
                rss_peak_bytes=300_000_000,
            ),
        )
    return tmp_path / "runs"


@pytest.fixture
def cost_model(run, folder, tmp_path):
    run("fit", folder, "-o", tmp_path / "cost.skops")
    return tmp_path / "cost.skops"


# A command of commands: its own page has no options.
GROUPS = (["fleet", "measure"], ["fleet", "status"], ["meter", "align"])


class TestHelp:
    @pytest.mark.parametrize(
        "words", [*([name] for name in COMMANDS if name not in {"fleet", "meter"}), *GROUPS], ids=" ".join
    )
    def test_every_command_says_what_it_is_for(self, run, words):
        result = run(*words, "--help")
        assert "--json" in result.stdout
        assert len(result.stdout.splitlines()) > 8

    def test_the_first_page_lists_them_all(self, run):
        text = run("--help").stdout
        assert all(name in text for name in COMMANDS)

    def test_the_version_is_the_distributions(self, run):
        assert run("--version").stdout.startswith("devprof 0.")

    def test_an_unknown_command_is_wrong_usage(self, run):
        assert "No such command 'measrue'" in run("measrue", code=2).stderr


class TestDoctor:
    def test_it_says_what_works_and_why_the_rest_does_not(self, run):
        checks = json.loads(run("doctor", "--json").stdout)["checks"]
        by_name = {check["name"]: check for check in checks}
        assert by_name["step time"]["ok"]
        assert all(check["detail"] for check in checks)
        assert any(name.startswith("rapl") for name in by_name)

    def test_a_missing_extra_comes_with_its_command(self, run, monkeypatch):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "altair" else real(name))
        assert "pip install 'devprof[report]'" in run("doctor").stdout


class TestMeasure:
    @pytest.mark.slow
    def test_a_sweep_stores_rows_and_a_second_one_adds_none(self, run, tmp_path):
        command = ("measure", "seed:mlp", "--mode", "full,head", "--min-time", "50ms", "-o", tmp_path / "m", "--json")
        first = json.loads(run(*command).stdout)
        assert [row["status"] for row in first["runs"]] == ["ok", "ok"]
        assert first["runs"][0]["energy_j"] is None
        second = run(*command)
        assert json.loads(second.stdout)["runs"] == []
        assert "2 of 2 configurations were finished already" in second.stderr
        assert len(read_records(tmp_path / "m", "runs", Measurement)) == 2

    @pytest.mark.slow
    def test_failures_are_rows_the_sweep_goes_on_and_they_can_be_tried_again(self, run, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
        names = ("faulty_models:killed", "faulty_models:good")
        command = ("measure", *names, "--batch-size", 2, "--min-time", "50ms", "-o", tmp_path / "m", "--json")
        assert [row["status"] for row in json.loads(run(*command).stdout)["runs"]] == ["killed", "ok"]
        again = json.loads(run(*command, "--retry-failed").stdout)["runs"]
        assert [row["model"] for row in again] == ["faulty_models:killed"]

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on(self, tmp_path, number):
        script = "import sys; from devprof.cli import main; sys.exit(main())"
        sizes = ["--batch-size", "1,2,3", "--min-time", "50ms", "-o", str(tmp_path / "m")]
        command = [sys.executable, "-c", script, "measure", "seed:mlp", *sizes]
        sweep = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("m/runs/[!.]*.parquet")) and time.monotonic() < deadline:
            assert sweep.poll() is None
        sweep.send_signal(number)
        _, errors = sweep.communicate(timeout=60)
        assert sweep.returncode == 1, errors
        assert "The same command goes on from here" in errors
        finished = len(read_records(tmp_path / "m", "runs", Measurement))
        assert 1 <= finished < 3
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"{finished} of 3 configurations were finished already" in done.stderr
        rows = read_records(tmp_path / "m", "runs", Measurement)
        assert sorted(row.batch_size for row in rows) == [1, 2, 3]

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("seed:cn",), "closest: seed:cnn"),
            (("--suite", "quik"), "closest: quick"),
            ((), "either MODEL names or --suite"),
            (("seed:cnn", "--suite", "quick"), "either MODEL names or --suite"),
            (("seed:cnn", "--mode", "half"), "'half' is not one of full, head"),
            (("seed:cnn", "--batch-size", "4,x"), "'x' is not a whole number"),
            (("seed:cnn", "--batch-size", "0"), "at least 1"),
            (("seed:cnn", "--min-time", "soon"), "not a quantity"),
            (("seed:cnn", "--task", ""), "'' is not one of"),
        ],
    )
    def test_wrong_usage_is_named_and_exits_with_2(self, run, tmp_path, arguments, reason):
        result = run("measure", *arguments, "-o", tmp_path / "m", code=2)
        assert reason in " ".join(result.stderr.split())

    def test_a_mistyped_timm_model_finds_the_closest(self, run, tmp_path):
        result = run("measure", "resnet81", "-o", tmp_path / "m", code=2)
        assert "resnet18" in result.stderr

    def test_without_torch_the_command_that_installs_it_is_named(self, run, tmp_path, monkeypatch):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
        assert "pip install 'devprof[train]'" in run("measure", "seed:cnn", "-o", tmp_path / "m", code=1).stderr

    def test_a_folder_that_cannot_be_written_is_found_before_anything_is_measured(self, run, tmp_path):
        (tmp_path / "file").write_text("")
        result = run("measure", "seed:cnn", "-o", tmp_path / "file" / "m", code=1)
        assert "cannot be written" in result.stderr


class TestImport:
    def test_what_was_left_out_is_said(self, run, tmp_path):
        table = tmp_path / "t.csv"
        table.write_text(
            "device,processor,model,mode,batch_size,step_s,colour\na,cpu,m,full,1,2,red\na,cpu,m,full,1,-2,red\n"
        )
        result = run("import", table, "-o", tmp_path / "out")
        assert "imported 1 runs" in result.stdout
        assert "line 3: step_s is -2" in result.stderr
        assert "colour" in result.stderr

    def test_json(self, run, tmp_path):
        table = tmp_path / "t.csv"
        table.write_text("device,processor,model,mode,batch_size,step_s\na,cpu,m,full,1,2\n")
        assert json.loads(run("import", table, "-o", tmp_path / "out", "--json").stdout)["imported"] == 1


class TestFitAndPredict:
    def test_errors_by_family_are_printed(self, run, folder, tmp_path):
        result = run("fit", folder, "-o", tmp_path / "cost.skops")
        assert "leave-one-family-out" in result.stdout
        assert "fitted to 8 of 8 runs on board" in result.stdout

    def test_the_card_is_written_stored_and_told(self, run, folder, tmp_path):
        result = run("fit", folder, "-o", tmp_path / "cost.skops", "--card", tmp_path / "card.md")
        assert "Not for:" in result.stdout
        assert "devices other than board" in result.stdout
        card = (tmp_path / "card.md").read_text()
        assert card.startswith("# Cost model card")
        assert run("predict", tmp_path / "cost.skops", "--card").stdout == card
        told = json.loads(run("fit", folder, "-o", tmp_path / "cost.skops", "--json").stdout)
        stored = json.loads(run("predict", tmp_path / "cost.skops", "--card", "--json").stdout)
        assert {key: told[key] for key in stored} == stored
        assert told["data"][0]["models"] == ["seed:cnn", "seed:lstm", "seed:mlp", "seed:net"]

    def test_a_card_that_cannot_be_written_is_an_error(self, run, folder, tmp_path):
        result = run("fit", folder, "-o", tmp_path / "cost.skops", "--card", tmp_path / "none" / "card.md", code=1)
        assert "cannot write the card" in result.stderr

    def test_a_damaged_file_is_named_and_the_rest_is_fitted(self, run, folder, tmp_path):
        bad = write_records(folder, "runs", "bad", [make_run("r99")])
        bad.write_bytes(b"junk")
        assert "8 of 8 runs" in run("fit", folder, "-o", tmp_path / "cost.skops").stdout

    def test_a_folder_without_runs_says_what_to_do(self, run, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "devprof measure" in run("fit", tmp_path / "empty", "-o", tmp_path / "c.skops", code=1).stderr
        assert "there is no folder" in run("fit", tmp_path / "none", "-o", tmp_path / "c.skops", code=1).stderr

    def test_a_step_and_a_round(self, run, cost_model):
        query = ("predict", cost_model, "--device", "board", "--model", "seed:mlp", "--batch-size", 8)
        step = json.loads(run(*query).stdout)
        assert step["step_s_lo"] <= step["step_s"] <= step["step_s_hi"]
        assert step["basis"] == "known-pair"
        assert step["energy_per_step_j"] is step["energy_per_step_j_hi"] is step["power_w"] is None
        whole = json.loads(
            run(*query, "--epochs", 2, "--samples", 100, "--up-mbps", 10, "--down-mbps", 40, "--startup", "3s").stdout
        )
        assert whole["payload_bytes"] == 4 * 1_707_274
        transfers = whole["payload_bytes"] * 8e-6 * (1 / 10 + 1 / 40)
        assert whole["round_steps"] == 26
        assert "round_energy_j" not in whole
        # The last batch of each epoch has four samples, and is priced as such.
        last = json.loads(run(*query[:-1], 4).stdout)
        assert whole["round_s"] == pytest.approx(2 * (12 * step["step_s"] + last["step_s"]) + 3 + transfers)
        assert whole["round_s_lo"] <= whole["round_s"] <= whole["round_s_hi"]

    def test_energy_of_a_step_and_of_the_training_steps_of_a_round(self, run, tmp_path):
        work = {"seed:cnn": 0.2, "seed:mlp": 0.05, "seed:net": 0.3}
        for number, (model, size) in enumerate((model, size) for model in work for size in (4, 16)):
            step_s = work[model] * (1 + size / 8)
            power = {"energy_source": "ina3221", "power_w": 5.0, "energy_per_step_j": 5 * step_s, "power_coverage": 1.0}
            if model == "seed:net":
                power["power_coverage"] = 0.5
            write_run(tmp_path / "runs", make_run(f"r{number}", model=model, batch_size=size, step_s=step_s, **power))
        fitted = run("fit", tmp_path / "runs", "-o", tmp_path / "cost.skops")
        assert "Errors of energy per step" in fitted.stdout
        assert "Errors of mean power" in fitted.stdout
        assert "did not use the power of 2 run(s): power_coverage is below 0.95" in fitted.stderr
        query = ("predict", tmp_path / "cost.skops", "--device", "board", "--model", "seed:mlp", "--batch-size", 8)
        step = json.loads(run(*query).stdout)
        assert step["power_w"] == pytest.approx(5.0, rel=0.01)
        assert step["energy_per_step_j_lo"] <= step["energy_per_step_j"] <= step["energy_per_step_j_hi"]
        whole = json.loads(run(*query, "--epochs", 2, "--samples", 96).stdout)
        assert whole["round_energy_j"] == pytest.approx(24 * step["energy_per_step_j"])
        last = json.loads(run(*query[:-1], 4).stdout)
        cut = json.loads(run(*query, "--epochs", 2, "--samples", 100).stdout)
        assert cut["round_energy_j"] == pytest.approx(2 * (12 * step["energy_per_step_j"] + last["energy_per_step_j"]))

    def test_memory_decides_what_fits(self, run, cost_model):
        query = ("predict", cost_model, "--device", "board", "--model", "seed:mlp", "--memory")
        assert json.loads(run(*query, "64M").stdout)["fits"] is False
        assert json.loads(run(*query, "64G").stdout)["fits"] is True
        assert json.loads(run(*query, "64M").stdout)["largest_batch"] == 0
        assert json.loads(run(*query, "64G").stdout)["largest_batch"] > 16
        assert "largest_batch" not in json.loads(run(*query[:-1]).stdout)

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("--device", "baord", "--model", "seed:cnn"), "closest: board"),
            (("--device", "board", "--model", "seed:cn"), "closest: seed:cnn"),
            (("--device", "board"), "give --device and --model"),
            (("--device", "board", "--model", "seed:cnn", "--epochs", 1), "--epochs goes with --samples"),
            (("--device", "board", "--model", "seed:cnn", "--memory", "lots"), "not a quantity"),
        ],
    )
    def test_wrong_queries_exit_with_2(self, run, cost_model, arguments, reason):
        assert reason in run("predict", cost_model, *arguments, code=2).stderr

    def test_a_table_keeps_its_rows_and_says_what_is_wrong_with_them(self, run, cost_model, tmp_path):
        table = tmp_path / "q.csv"
        table.write_text(
            "device,model,batch_size,memory_limit_bytes\n"
            f"board,seed:cnn,4,{64 << 30}\nboard,seed:cn,4,{64 << 30}\nboard,seed:net,,\n"
        )
        result = run("predict", cost_model, "--table", table)
        rows = list(csv.DictReader(io.StringIO(result.stdout)))
        assert float(rows[0]["step_s"]) > 0
        assert rows[0]["fits"] == "True"
        assert int(rows[0]["largest_batch"]) >= 4
        assert rows[1]["largest_batch"] == ""
        assert "closest" in rows[1]["error"]
        assert "batch_size is empty" in rows[2]["error"]
        assert "2 of 3 rows could not be predicted" in result.stderr

    def test_a_file_that_is_no_cost_model_is_refused_by_name(self, run, tmp_path):
        (tmp_path / "x.skops").write_bytes(b"nothing")
        result = run("predict", tmp_path / "x.skops", "--device", "a", "--model", "b", code=1)
        assert "x.skops" in result.stderr


class TestReport:
    def test_a_page_and_its_figures(self, run, folder, cost_model, tmp_path):
        result = run(
            "report", folder, "--cost-model", cost_model, "--title", "Boards & more", "-o", tmp_path / "page", "--json"
        )
        told = json.loads(result.stdout)
        assert set(told["figures"]) == {"step_time", "memory", "predicted_vs_measured"}
        page = Path(told["page"]).read_text()
        assert "Boards &amp; more" in page
        assert "not how well the fit describes it" in page
        # All that was fitted is shown as predicted without it.
        assert "in the fit: no test" not in page
        assert "new model family" in page

    def test_runs_in_another_setting_are_not_compared(self, run, folder, cost_model, tmp_path):
        write_run(folder, make_run("odd", model="seed:net", batch_size=4, processor="cuda", step_s=0.3))
        result = run("report", folder, "--cost-model", cost_model, "-o", tmp_path / "page")
        assert "no prediction for 1 run(s) on board: the cost model is for another setting of it" in result.stderr

    def test_what_was_not_in_the_fit_is_predicted(self, run, folder, cost_model, tmp_path):
        write_run(folder, make_run("new", model="seed:net", batch_size=8, step_s=0.6))
        page = Path(
            json.loads(run("report", folder, "--cost-model", cost_model, "-o", tmp_path / "page", "--json").stdout)[
                "page"
            ]
        ).read_text()
        assert "Other batch sizes known: over 9 predictions" in page

    def test_nothing_to_report_is_an_error(self, run, tmp_path):
        assert "nothing to report" in run("report", tmp_path, "-o", tmp_path / "page", code=1).stderr

    def test_a_missing_extra_is_one_clear_error(self, run, folder, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "altair", None)
        result = run("report", folder, "-o", tmp_path / "page", code=1)
        assert "pip install 'devprof[report]'" in result.stderr
