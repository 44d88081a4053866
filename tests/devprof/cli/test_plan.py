"""Planning on the command line, from a cost model of made-up measurements and fleets as TOML."""

import csv
import io
import json
import re
from dataclasses import fields

import pytest
from click.testing import CliRunner
from makers import make_run

from devprof.cli import main
from devprof.cli.fleetfile import read_fleet
from devprof.costmodel.model import CostModel
from devprof.errors import DevprofError
from devprof.plan.planner import PlannerSettings, plan_round
from devprof.plan.settings import ClientState
from devprof.records import Link
from devprof.store.folder import load_runs, write_records
from strategies.estimators import CostModelEstimator

SPEED = {"seed:cnn": 0.2, "seed:mlp": 0.05, "seed:net": 0.3, "seed:lstm": 0.1}
FLEET = """
model = "seed:mlp"
payload = "1MB"

[settings]
local_epochs = 2
batch_sizes = [8, 16]
step_noise = 0.0

[[clients]]
name = "desk"
device = "board"
count = 3
samples = [100, 200]
up_mbps = 8
down_mbps = 8

[[clients]]
device = "slow"
samples = 160
processor = "cpu"
memory = "8G"
"""


def runs_of(device, factor, **changes):
    values = {"device": device, "rss_peak_bytes": 300_000_000, "data": "memory"} | changes
    return [
        make_run(
            f"{device}-{model}-{size}", model=model, batch_size=size, step_s=factor * speed * (1 + size / 8), **values
        )
        for model, speed in SPEED.items()
        for size in (4, 16)
    ]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """``board``, ``slow`` (five times slower), and ``loader``, which waits for its data beside its steps."""
    folder = tmp_path_factory.mktemp("runs")
    loading = make_run(
        "loader-x", device="loader", model="seed:mlp", step_s=0.15, batch_size=16, data="jpeg", data_s=0.16
    )
    write_records(folder, "runs", "x", [*runs_of("board", 1), *runs_of("slow", 5), *runs_of("loader", 1), loading])
    path = folder / "cost.skops"
    CostModel.fit(load_runs(folder)).save(path)
    return path


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "fleet.toml"

    def write(text=FLEET):
        path.write_text(text)
        return path

    return write


def run(*arguments, code=0):
    done = CliRunner().invoke(main, ["plan", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


class TestPlan:
    def test_table_has_groups_and_the_four_ways(self, fitted, fleet):
        out = run(fitted, fleet()).stdout
        for word in ("desk", "slow", "wait for all", "drop at deadline", "one tau per processor", "planned"):
            assert word in out
        assert "Other deadlines" not in out
        more = run(fitted, fleet(), "--what-if").stdout
        assert "Other deadlines" in more
        assert "4 local epochs" in more

    def test_json_is_the_plan_of_every_client_and_what_choices_cost(self, fitted, fleet):
        told = json.loads(run(fitted, fleet(), "--json", "--what-if").stdout)
        assert told["payload_bytes"] == 10**6
        assert (told["clients"], told["participating"]) == (4, 4)
        assert [one["client"] for one in told["plan"]] == ["desk-1", "desk-2", "desk-3", "slow"]
        assert [one["name"] for one in told["choices"]] == [
            "wait for all", "drop at deadline", "one tau per processor", "planned",
        ]  # fmt: skip
        assert len(told["deadlines"]) == 8
        assert [one["local_epochs"] for one in told["epochs"]] == [1, 2, 4]
        for own in told["plan"]:
            assert own["predicted_hi_s"] <= told["deadline_s"] * (1 + 1e-9)
            assert own["predicted_energy_j"] is None
        desk, slow = told["groups"]
        cut = [own for own in told["plan"] if own["group"] == "desk" and own["reason"]]
        assert (desk["participating"], desk["reason_clients"], desk["reason"]) == (3, len(cut), cut[0]["reason"])
        assert slow["steps"][0] < slow["normal_steps"][0]
        assert told["notes"] == []

    def test_plan_is_that_of_python(self, fitted, fleet):
        told = json.loads(run(fitted, fleet(), "--json").stdout)
        link = Link(8, 8)
        states = [ClientState(f"desk-{i + 1}", "board", "board", 100 + 50 * i, link) for i in range(3)]
        states.append(ClientState("slow", "slow", "cpu", 160, Link(float("inf"), float("inf"))))
        wanted = PlannerSettings(local_epochs=2, batch_sizes=(8, 16), step_noise=0.0)
        plan = plan_round(states, CostModelEstimator(CostModel.load(fitted), "seed:mlp"), wanted, payload_bytes=10**6)
        assert told["deadline_s"] == pytest.approx(plan.deadline_s)
        assert [(one["steps"], one["batch_size"], one["reason"]) for one in told["plan"]] == [
            (own.local_steps, own.batch_size, own.reason) for own in plan.clients
        ]

    def test_csv_has_a_line_per_client(self, fitted, fleet, tmp_path):
        out = tmp_path / "plan.csv"
        run(fitted, fleet(), "-o", out)
        lines = list(csv.DictReader(out.open()))
        assert [line["client"] for line in lines] == ["desk-1", "desk-2", "desk-3", "slow"]
        assert lines[0]["predicted_energy_j"] == ""
        printed = run(fitted, fleet(), "-o", "-").stdout
        assert list(csv.DictReader(io.StringIO(printed))) == lines
        assert run(fitted, fleet(), "-o", "-", "--json", code=2)

    def test_unknown_device_is_named_and_probed(self, fitted, fleet):
        done = run(fitted, fleet(FLEET + '[[clients]]\ndevice = "bord"\nsamples = 10\n'), "--json")
        assert "unknown device 'bord'; closest: board" in done.stderr
        told = json.loads(done.stdout)
        assert told["plan"][-1]["reason"] == "no prediction: probing"
        assert told["plan"][-1]["predicted_s"] is None
        assert told["choices"][0]["clients"] == 4

    def test_nothing_known_is_a_normal_round_and_nothing_to_compare(self, fitted, fleet):
        text = 'model = "seed:mlp"\npayload = 1000\n[[clients]]\ndevice = "strange"\nsamples = 32\n'
        done = run(fitted, fleet(text))
        assert "no deadline, 1 of 1 clients" in done.stdout
        assert "nothing is predicted of any client" in done.stderr
        without = run(fitted, fleet(text.replace("payload = 1000\n", "")), code=1)
        assert "none of its devices is in the cost model, which knows board, slow, loader" in without.output

    def test_payload_is_that_of_the_model_by_default(self, fitted, fleet):
        told = json.loads(run(fitted, fleet(FLEET.replace('payload = "1MB"\n', "")), "--json").stdout)
        features = CostModel.load(fitted).features("board", "seed:mlp", "full")
        assert told["payload_bytes"] == 4 * features.parameters

    def test_measured_loading_makes_steps_longer(self, fitted, fleet):
        def waiting(device):
            told = json.loads(
                run(fitted, fleet(FLEET.replace('device = "slow"', f'device = "{device}"')), "--json").stdout
            )
            return told["choices"][0]["round_s"], told["notes"]

        plain_s, notes = waiting("board")
        assert notes == []
        loaded_s, notes = waiting("loader")
        assert "loader: data loading of 0.01 s per sample" in notes[0]
        assert loaded_s > plain_s

    def test_unknown_model_is_wrong_usage(self, fitted, fleet):
        assert "unknown model" in run(fitted, fleet(FLEET.replace("seed:mlp", "seed:nothing")), code=2).output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("payload =", "paylaod ="), "unknown key 'paylaod'; did you mean 'payload'?"),
        (('model = "seed:mlp"', ""), 'model is missing; add model = "..."'),
        (('model = "seed:mlp"', "model = 3"), "model must be a text in quotes, got 3"),
        (('payload = "1MB"', 'mode = "half"'), "mode must be one of full, head, got 'half'"),
        (('payload = "1MB"', 'payload = "1 parsec"'), "payload: unknown unit of size"),
        (('payload = "1MB"', "payload = true"), "payload must be a size such as"),
        (('payload = "1MB"', "num_classes = 1"), "num_classes must be a whole number from 2"),
        (("local_epochs = 2", "local_epochs = 2.5"), "[settings]: local_epochs must be a whole number, got 2.5"),
        (("local_epochs = 2", "local_epochs = true"), "local_epochs must be a whole number, got True"),
        (("local_epochs = 2", "local_epochs = 0"), "[settings]: local_epochs must be at least 1, got 0"),
        (("local_epochs = 2", "epochs = 2"), "[settings]: unknown key 'epochs'"),
        (("[8, 16]", "[8, 'x']"), "batch_sizes must be a list of whole numbers"),
        (("count = 3", "count = 0"), "[[clients]] number 1: count must be a whole number from 1"),
        (("samples = [100, 200]", "samples = [200, 100]"), "samples must be a whole number, or [least, most]"),
        (
            ("samples = [100, 200]", ""),
            "samples must be a whole number, or [least, most], from 0 to 10000000, got None",
        ),
        (("up_mbps = 8", "up_mbps = 0"), "up_mbps must be a number above 0, got 0"),
        (("up_mbps = 8", ""), "up_mbps goes with down_mbps"),
        (("up_mbps = 8", "up_mbps = 8\nstartup_s = -1"), "startup_s must be a number of at least 0, got -1"),
        (("up_mbps = 8", "up_mbps = 8\nlatency_s = inf"), "latency_s must be a number of at least 0, got inf"),
        (('device = "board"', ""), 'device is missing; add device = "..."'),
        (('memory = "8G"', 'memory = "much"'), "number 2: memory: 'much' is not a quantity"),
        (('device = "slow"', 'device = "slow"\nname = "desk"'), "two groups of clients are called 'desk'"),
        (("[[clients]]", "[[client]]"), "unknown key 'client'; did you mean 'clients'?"),
        (("model =", "model"), "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_file_and_key(change, said, fleet):
    path = fleet(FLEET.replace(*change))
    with pytest.raises(DevprofError, match=re.escape(said)) as raised:
        read_fleet(path)
    assert str(path) in str(raised.value)


def test_a_file_without_clients_says_how_to_add_some(fleet):
    with pytest.raises(DevprofError, match=r"add a table \[\[clients\]\]"):
        read_fleet(fleet('model = "seed:mlp"\n'))


def test_every_setting_can_be_given(fleet):
    wanted = PlannerSettings(
        local_epochs=2, batch_size=8, batch_sizes=(4, 8), min_steps=2, max_epochs=3, miss_risk=0.1, coverage=0.5, server_s=1.0,
        deadline_s=9.0, critical_batch_size=64.0, step_noise=0.2, energy_budget_j=50.0, allow_unknown_energy=True,
        turn_after_rounds=3, turn_factor=2.0,
    )  # fmt: skip
    values = {one.name: getattr(wanted, one.name) for one in fields(PlannerSettings)}
    assert all(value != one.default for one, value in zip(fields(PlannerSettings), values.values(), strict=True))
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
    path = fleet(f'model = "seed:mlp"\n[settings]\n{text}\n[[clients]]\ndevice = "board"\nsamples = 1\n')
    assert read_fleet(path).settings == wanted


def test_what_a_group_says_holds_for_each_of_its_clients(fleet):
    columns = read_fleet(fleet()).columns()
    assert columns.samples.tolist() == [100, 150, 200, 160]
    assert columns.device.tolist() == [0, 0, 0, 1]
    assert columns.up_mbps.tolist() == [8.0, 8.0, 8.0, float("inf")]
    assert columns.memory_limit_bytes.tolist()[3] == 8 * 2**30
