"""``devprof meter align``: a logger that nobody reached while the run was measured gives it its energy."""

import json

import pytest
from click.testing import CliRunner
from fake_meters_log import NS, UTC_NS, Logger, Power, shown_run, write_log
from makers import make_run

from devprof.cli import main
from devprof.measure.runspans import RunSpans
from devprof.records import Measurement, PowerSample
from devprof.store.folder import read_records, write_run

SPANS = shown_run(10**12, window_s=20.0, jitter=0.05)
BEGIN_NS = SPANS.spans_ns["idle-before"][0] - 30 * NS
LENGTH_S = (SPANS.spans_ns["idle-after"][1] - BEGIN_NS) / NS + 30.0
TRUE_J = Power([SPANS]).energy_j(*SPANS.spans_ns["window"])


@pytest.fixture
def folder(tmp_path):
    write_run(tmp_path / "runs", make_run("20260101T1-aa", steps=50, spans=SPANS.to_json()))
    return tmp_path / "runs"


@pytest.fixture
def log_file(tmp_path):
    logger = Logger(Power([SPANS]), BEGIN_NS, offset_ns=UTC_NS - 10**12 + 5 * NS, ppm=50)
    return write_log(tmp_path / "log.csv", logger, LENGTH_S, "iso")


@pytest.fixture
def align(folder):
    def invoke(log, *options, run="latest", code=0):
        arguments = ["meter", "align", str(log), run, "-o", str(folder), *map(str, options)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == code, result.output
        return result

    return invoke


def stored(folder):
    (run,) = read_records(folder, "runs", Measurement)
    return run


def test_a_run_gets_its_energy_and_its_readings(align, folder, log_file):
    told = json.loads(align(log_file, "--json", run="20260101").stdout)
    run = stored(folder)
    assert run.energy_j == told["energy_j"] == pytest.approx(TRUE_J, rel=told["energy_error_rel"])
    assert (run.energy_source, run.steps, run.step_s) == ("csv", 50, 0.25)
    assert told["ahead_s"] == pytest.approx(5.0, abs=0.05)
    assert 0 < told["error_s"] < 0.05
    assert told["likeness"] > 0.95
    assert told["drift_ppm"] == pytest.approx(50, abs=1000)
    assert told["log"]["clock"] == "utc"
    power = read_records(folder, "power", PowerSample)
    assert {one.source for one in power} == {"csv"}
    assert len(power) > 5000


def test_what_was_found_is_said_in_words(align, log_file):
    text = align(log_file).stdout
    assert "run       20260101T1-aa: seed:cnn full batch 4 on board" in text
    assert "one every 10 ms; clock: utc" in text
    assert "s after the first row, ±" in text
    assert "its clock is 5.0" in text
    assert "s ahead; it gains" in text
    assert "energy    180 J in 20 s, ±" in text
    assert "per step  3.6 J" in text
    assert "power     9 W; idle: 5 W" in text


def test_an_energy_is_replaced_only_by_force(align, folder, log_file):
    align(log_file)
    assert "has energy already, of csv: --force replaces it" in align(log_file, code=1).output
    align(log_file, "--force")
    assert stored(folder).energy_j == pytest.approx(TRUE_J, rel=0.01)
    assert len({(one.t_ns, one.domain) for one in read_records(folder, "power", PowerSample)}) == len(
        read_records(folder, "power", PowerSample)
    )


def test_a_log_without_names_and_times_is_described(align, folder, tmp_path):
    logger = Logger(Power([SPANS]), BEGIN_NS, period_s=0.02)
    path = tmp_path / "log.csv"
    path.write_text("".join(f"{watts * 1e3:.1f};0\n" for _, watts in logger.rows(LENGTH_S)))
    description = tmp_path / "meter.toml"
    description.write_text(
        'format = 1\nsource = "csv:log.csv"\nmodel = "USB meter"\ndelimiter = ";"\n'
        '[[channels]]\npower = {column = 1, unit = "mW"}\ngain_rel = 0.01\n'
    )
    assert "--period" in align(path, "--columns", description, code=1).output
    align(path, "--columns", description, "--period", "20ms")
    run = stored(folder)
    assert run.energy_j == pytest.approx(TRUE_J, rel=0.01)
    assert run.meter.startswith("USB meter, log.csv, its clock known to")
    assert run.energy_error_rel >= 0.0099


def test_warnings_and_notes_go_to_stderr(align, folder, log_file):
    with log_file.open("a") as file:
        file.write("broken,row,here\n")
    begin, end = SPANS.spans_ns["idle-after"]
    result = align(log_file)
    assert "1 rows could not be read; the last: " in result.stderr
    power = Power([SPANS], [(begin, end + NS, 6.0)])
    write_log(log_file, Logger(power, BEGIN_NS, period_s=0.02), LENGTH_S)
    assert "idle-drift: idle power before and after" in align(log_file, "--force").stderr
    assert json.loads(stored(folder).warnings) == ["idle-drift"]


def test_what_is_not_found_changes_nothing(align, folder, log_file, tmp_path):
    before = (folder / "runs" / "20260101T1-aa.parquet").read_bytes()
    other = write_log(tmp_path / "other.csv", Logger(Power([]), BEGIN_NS), LENGTH_S)
    assert "the pattern of the run is not in the log" in align(other, code=1).output
    assert "unknown run 'x'" in align(log_file, run="x", code=2).output
    assert "--period must be positive" in align(log_file, "--period", "0s", code=2).output
    assert (folder / "runs" / "20260101T1-aa.parquet").read_bytes() == before
    assert not (folder / "power").exists()


def test_a_run_without_a_pattern_names_the_option(align, folder, log_file):
    write_run(folder, make_run("20270101T1-bb", started_utc="2027-01-01T00:00:00+00:00"))
    assert "nothing is known of the parts of the run 20270101T1-bb" in align(log_file, code=1).output


@pytest.mark.slow
def test_a_real_run_is_found_in_a_log_of_its_power(tmp_path, align, folder):
    """The log is made afterwards, of what the run says it did: 9 W wherever it worked, 5 W else, by another clock."""
    folder.joinpath("runs", "20260101T1-aa.parquet").unlink()
    command = ["measure", "seed:net", "--image-size", "8", "--threads", "1", "--sync-pattern", "--min-time", "3s"]
    result = CliRunner().invoke(main, [*command, "--idle", "1s", "--meter", "none", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    run = stored(folder)
    assert (run.energy_source, run.energy_j) == ("none", None)
    spans = RunSpans.from_json(run.spans)
    names = ["idle-before", "warm-up", "sync-before", "settle", "window", "phases", "sync-after", "idle-after"]
    assert list(spans.timed_ns) == names
    moments = [moment for name in names for moment in spans.spans_ns[name]]
    assert moments == sorted(moments)
    assert all(len(loads) == 3 for loads in spans.loads_ns.values())
    (begin_ns, begin_utc_ns), (end_ns, end_utc_ns) = spans.clocks_ns
    assert begin_ns <= moments[0] < moments[-1] <= end_ns
    assert abs((end_utc_ns - begin_utc_ns) - (end_ns - begin_ns)) < 0.1 * NS

    power = Power([spans])
    logger = Logger(power, moments[0] - 20 * NS, offset_ns=-123_456_789_012, ppm=-180, noise_w=0.05)
    log = write_log(tmp_path / "log.csv", logger, (moments[-1] - moments[0]) / NS + 40.0)
    told = json.loads(align(log, "--json").stdout)
    truth = power.energy_j(*spans.spans_ns["window"])
    assert abs(told["energy_j"] - truth) <= told["energy_error_rel"] * truth
    assert told["energy_error_rel"] < 0.02
    assert told["idle_before_w"] == pytest.approx(5.0, abs=0.2)
    assert stored(folder).energy_j == told["energy_j"]
    assert (
        abs(told["window_at_s"] - (logger.clock(spans.spans_ns["window"][0]) - logger.clock(logger.begin_ns)) / NS)
        <= (told["error_s"])
    )
