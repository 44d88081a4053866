"""Rounds on the command line and in tables, from a cost model of made-up measurements."""

import csv
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from makers import make_run

from devprof.cli import main
from devprof.cli.rounds import ROUND_COLUMNS, RoundOptions, add_rounds
from devprof.costmodel.model import CostModel
from devprof.plan.roundtime import round_time
from devprof.records import Link
from devprof.store.folder import load_runs, write_records

PARAMETERS = 1_707_274
SPEED = {"seed:cnn": 0.2, "seed:mlp": 0.05, "seed:net": 0.3, "seed:lstm": 0.1}


def runs_of(device, **changes):
    values = {"device": device, "rss_peak_bytes": 300_000_000, "data": "memory"} | changes
    return [
        make_run(f"{device}-{model}-{size}", model=model, batch_size=size, step_s=speed * (1 + size / 8), **values)
        for model, speed in SPEED.items()
        for size in (4, 16)
    ]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Three boards: nothing but steps is known of ``board``, loading and heat of ``hot``; ``loader`` loads in its steps."""
    folder = tmp_path_factory.mktemp("runs")
    hot = make_run("hot-1", device="hot", model="seed:mlp", step_s=1.25 * 0.05 * 3, batch_size=16, data="memory")
    extra = [
        make_run("hot-2", device="hot", model="seed:mlp", step_s=0.2, batch_size=16, data="jpeg", data_s=0.032),
        type(hot)(**{name: getattr(hot, name) for name in hot.__slots__} | {"throttled": "confirmed"}),
    ]
    loader = runs_of("loader", data="jpeg", data_s=0.01)
    write_records(folder, "runs", "x", [*runs_of("board"), *runs_of("hot"), *extra, *loader])
    path = folder / "cost.skops"
    CostModel.fit(load_runs(folder)).save(path)
    return path


@pytest.fixture
def model(fitted):
    return CostModel.load(fitted)


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ["predict", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def ask(fitted, *more, device="board", code=0):
    arguments = (fitted, "--device", device, "--model", "seed:mlp", "--batch-size", 16, *more)
    return json.loads(run(*arguments).stdout) if code == 0 else run(*arguments, code=code)


class TestOneClient:
    def test_the_last_batch_of_an_epoch_is_a_step_at_its_own_size(self, fitted, model):
        full, rest = model.predict_sizes("board", "seed:mlp", "full", [16, 4])
        told = ask(fitted, "--epochs", 2, "--samples", 100)
        assert told["round_steps"] == 14
        assert told["round_train_s"] == pytest.approx(2 * (6 * full.step_s + rest.step_s))
        assert told["round_s_lo"] == pytest.approx(2 * (6 * full.step_s_lo + rest.step_s_lo))
        assert told["round_notes"] == []
        assert "round_data_s" not in told
        dropped = ask(fitted, "--epochs", 2, "--samples", 100, "--drop-last")
        assert dropped["round_steps"] == 12
        assert dropped["round_s"] == pytest.approx(12 * full.step_s)

    def test_loading_and_heat_as_told(self, fitted):
        bare = ask(fitted, "--epochs", 1, "--samples", 64)
        told = ask(fitted, "--epochs", 1, "--samples", 64, "--data-loading", 0.001, "--thermal-factor", 1.5)
        assert told["round_train_s"] == pytest.approx(1.5 * bare["round_train_s"])
        assert told["round_data_s"] == pytest.approx(1.5 * 0.064)
        assert told["round_s"] == pytest.approx(1.5 * (bare["round_s"] + 0.064))

    def test_loading_and_heat_as_measured_with_a_note(self, fitted):
        told = ask(fitted, "--epochs", 1, "--samples", 64, device="hot")
        assert told["data_s_per_sample"] == pytest.approx(0.002)
        assert told["thermal_factor"] == pytest.approx(1.25)
        assert told["round_data_s"] == pytest.approx(1.25 * 64 * 0.002)
        assert told["round_notes"] == [
            "hot: data loading of 0.002 s per sample: median of 1 runs with data jpeg",
            "hot: thermal factor of 1.25: median of 1 configurations that were measured throttled and not",
        ]
        cool = ask(fitted, "--epochs", 1, "--samples", 64, "--thermal-factor", 1, "--data-loading", 0, device="hot")
        assert cool["round_notes"] == []
        assert told["round_train_s"] == pytest.approx(1.25 * cool["round_train_s"])

    def test_loading_that_is_in_the_steps_is_not_counted_twice(self, fitted):
        told = ask(fitted, "--epochs", 1, "--samples", 64, device="loader")
        assert "round_data_s" not in told
        assert "the measured steps include it" in told["round_notes"][0]

    def test_observed_rounds_were_hot_already(self, fitted, model, tmp_path):
        expected = model.predict("hot", "seed:mlp", "full", 16).step_s
        model.adapt("hot", [{"model": "seed:mlp", "batch_size": 16, "step_s": 1.3 * expected}] * 4)
        model.save(tmp_path / "adapted.skops")
        told = ask(tmp_path / "adapted.skops", "--epochs", 1, "--samples", 64, device="hot")
        assert told["basis"] == "observed"
        assert told["round_s"] == pytest.approx(4 * 1.3 * expected, rel=0.03)
        assert [note.rpartition(": ")[2] for note in told["round_notes"]] == ["observed rounds correct the steps"] * 2

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (("--thermal-factor", 0.5), "--thermal-factor"),
            (("--thermal-factor", "nan"), "thermal_factor must be at least 1"),
            (("--data-loading", -1), "--data-loading"),
            (("--up-mbps", 5), "--up-mbps goes with --down-mbps"),
        ],
    )
    def test_impossible_options_are_wrong_usage(self, fitted, arguments, reason):
        assert reason in ask(fitted, "--epochs", 1, "--samples", 10, *arguments, code=2).stderr


def table(*rows):
    base = {"device": "board", "model": "seed:mlp", "batch_size": 16, "epochs": 2, "samples": 100}
    return pd.DataFrame([base | row for row in rows])


class TestTable:
    def test_rows_are_as_each_alone(self, model):
        link = {"up_mbps": 10.0, "down_mbps": 40.0, "latency_s": 0.2}
        rows = [
            {"startup_s": 3.0, "payload_bytes": 1e6, **link},
            {"samples": 5, "data_s_per_sample": 0.01, "thermal_factor": 1.5},
            {"model": "seed:cnn", "samples": 96, **link},
        ]
        answers, notes = add_rounds(model, table(*rows), RoundOptions())
        cnn = 4 * round(model.features("board", "seed:cnn", "full").parameters)
        full, small, rest = model.predict_sizes("board", "seed:mlp", "full", [16, 5, 4])
        expected = [
            (full, rest, 100, 1e6, Link(**link), {"startup_s": 3.0}),
            (full, small, 5, 4 * PARAMETERS, None, {"data_s_per_sample": 0.01, "thermal_factor": 1.5}),
            (model.predict("board", "seed:cnn", "full", 16), None, 96, cnn, Link(**link), {}),
        ]
        for at, (step, partial, samples, payload, own_link, more) in enumerate(expected):
            alone = round_time(
                step,
                epochs=2,
                samples=samples,
                batch_size=16,
                payload_bytes=payload,
                link=own_link or Link(math.inf, math.inf),
                partial=partial,
                **more,
            )
            assert answers.loc[at, list(ROUND_COLUMNS)].tolist() == pytest.approx(
                [alone.total_s, alone.total_lo_s, alone.total_hi_s]
            )
        assert notes == []
        assert answers.error.isna().all()

    def test_rows_without_a_round_get_nulls_and_their_step(self, model):
        answers, _ = add_rounds(model, table({"epochs": None}, {"samples": ""}, {}), RoundOptions())
        assert answers.round_s.isna().tolist() == [True, True, False]
        assert answers.step_s.notna().all()
        assert answers.error.isna().all()

    def test_tables_without_rounds_are_as_they_were(self, model):
        plain = table({}, {}).drop(columns="epochs")
        answers, _ = add_rounds(model, plain, RoundOptions())
        assert answers.equals(model.predict_frame(plain))

    @pytest.mark.parametrize(
        ("column", "value", "reason"),
        [
            ("epochs", 0, "epochs must be a whole number from 1 to 2147483647, got 0"),
            ("epochs", "many", "epochs must be a number, got 'many'"),
            ("samples", 2.5, "samples must be a whole number"),
            ("samples", math.inf, "samples must be a whole number"),
            ("up_mbps", -1.0, "up_mbps goes with down_mbps"),
            ("payload_bytes", -1.0, "payload_bytes must be at least 0 and finite, got -1"),
            ("thermal_factor", 0.5, "thermal_factor must be at least 1 and finite, got 0.5"),
            ("data_s_per_sample", math.inf, "data_s_per_sample must be at least 0 and finite, got inf"),
            ("startup_s", -3, "startup_s must be"),
            ("device", "nowhere", "unknown device"),
        ],
    )
    def test_an_impossible_row_has_an_error_and_nulls(self, model, column, value, reason):
        answers, _ = add_rounds(model, table({}, {column: value}, {}).set_index(pd.Index([7, 7, 7])), RoundOptions())
        assert answers.error.notna().tolist() == [False, True, False]
        assert reason in answers.error.iloc[1]
        for name in ("round_s", "round_s_hi", "step_s", "memory_bytes", "basis"):
            assert answers[name].isna().tolist() == [False, True, False], name

    def test_options_and_measurements_hold_where_rows_say_nothing(self, model):
        rows = table({"device": "hot"}, {"device": "hot", "thermal_factor": 1.0, "data_s_per_sample": 0.0}, {})
        answers, notes = add_rounds(model, rows, RoundOptions(startup_s=5.0))
        own, told, plain = (answers.round_s - 5.0).tolist()
        assert own == pytest.approx(1.25 * (told + 2 * 100 * 0.002))
        assert [note.split(":")[0] for note in notes] == ["hot", "hot"]
        step, rest = model.predict_sizes("board", "seed:mlp", "full", [16, 4])
        assert plain == pytest.approx(2 * (6 * step.step_s + rest.step_s))
        dropped, _ = add_rounds(
            model, rows, RoundOptions(up_mbps=8.0, down_mbps=8.0, drop_last=True, payload_bytes=10**6)
        )
        assert dropped.round_s[2] == pytest.approx(2 * 6 * step.step_s + 2.0)

    def test_an_empty_table_stays_empty(self, model):
        answers, notes = add_rounds(model, table({}).iloc[:0], RoundOptions())
        assert (len(answers), notes) == (0, [])
        assert set(ROUND_COLUMNS) <= set(answers.columns)

    def test_csv_in_csv_out(self, fitted, tmp_path):
        queries = tmp_path / "q.csv"
        queries.write_text(
            "device,model,batch_size,epochs,samples,round_s\nhot,seed:mlp,16,1,64,9\nboard,seed:mlp,16,,,9\nboard,seed:mlp,16,-1,5,9\n"
        )
        done = run(fitted, "--table", queries)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert float(rows[0]["round_s_lo"]) < float(rows[0]["round_s"]) < float(rows[0]["round_s_hi"])
        assert (rows[1]["round_s"], rows[1]["error"], rows[2]["step_s"]) == ("", "", "")
        assert "epochs must be" in rows[2]["error"]
        assert "thermal factor of 1.25" in done.stderr
        assert "1 of 3 rows could not be predicted" in done.stderr

    def test_epochs_and_samples_of_a_table_are_its_columns(self, fitted, tmp_path):
        (tmp_path / "q.csv").write_text("device,model,batch_size\nboard,seed:mlp,16\n")
        assert "columns of the table" in run(fitted, "--table", tmp_path / "q.csv", "--epochs", 1, code=2).stderr

    def test_a_hundred_thousand_rows_ask_the_model_once_per_kind(self, model, monkeypatch):
        asked = []
        ask = CostModel.predict_sizes
        monkeypatch.setattr(CostModel, "predict_sizes", lambda *a, **b: (asked.append(a), ask(*a, **b))[1])
        rng = np.random.default_rng(0)
        count = 100_000
        rows = pd.DataFrame(
            {
                "device": rng.choice(["board", "hot"], count),
                "model": rng.choice(["seed:mlp", "seed:cnn"], count),
                "batch_size": rng.choice([8, 16], count),
                "epochs": rng.integers(1, 5, count),
                "samples": rng.integers(1, 5000, count),
            }
        )
        answers, _ = add_rounds(model, rows, RoundOptions())
        assert answers.round_s.notna().all()
        assert len(asked) == 2 * 4
