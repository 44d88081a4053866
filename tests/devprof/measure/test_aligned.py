"""Energy of a run out of a log: what a meter beside it would have said."""

import dataclasses
import json

import pytest
from fake_meters_log import NS, UTC_NS, Logger, Power, shown_run, write_log
from makers import make_run

from devprof.errors import MeasureError
from devprof.measure.aligned import align_run, patterns_of
from devprof.meters.align import AlignError
from devprof.meters.logfile import read_log

SPANS = shown_run(10**12, window_s=20.0, jitter=0.05)
BEGIN_NS = SPANS.spans_ns["idle-before"][0] - 30 * NS
LENGTH_S = (SPANS.spans_ns["idle-after"][1] - BEGIN_NS) / NS + 30.0


def make(spans=SPANS, **changes):
    return make_run(**{"spans": spans.to_json(), "steps": 100, "energy_source": "none"} | changes)


@pytest.fixture
def log_of(tmp_path):
    def write(power=None, style="relative", period=None, length_s=LENGTH_S, **logger):
        own = Logger(power or Power([SPANS]), BEGIN_NS, **logger)
        return read_log(write_log(tmp_path / "log.csv", own, length_s, style), period_s=period), own

    return write


def test_the_energy_is_the_true_one_within_its_bound(log_of):
    log, logger = log_of(offset_ns=-(10**12), ppm=120, noise_w=0.1)
    found = align_run(make(), log)
    columns = found.columns
    truth = logger.power.energy_j(*SPANS.spans_ns["window"])
    assert abs(columns["energy_j"] - truth) <= columns["energy_error_rel"] * truth
    assert columns["energy_error_rel"] < 0.02
    assert columns["energy_per_step_j"] == columns["energy_j"] / 100
    assert columns["idle_power_w"] == pytest.approx(5.0, abs=0.1)
    assert columns["energy_net_j"] == pytest.approx(80.0, rel=0.02)
    assert (columns["energy_source"], columns["energy_rule"], columns["energy_end"]) == ("csv", "rows-sum/1", "bound")
    assert columns["meter"].startswith("log.csv, its clock known to 0.0")
    assert (columns["power_coverage"], columns["sampler_cpu_s"]) == (1.0, None)
    assert found.window_at_s == pytest.approx(54.0, abs=1.0)
    assert found.ahead_s is None


def test_raw_rows_are_kept_on_the_runs_clock_from_its_first_span_to_its_last(log_of):
    log, _ = log_of(period_s=0.05, offset_ns=5 * NS)
    power = align_run(make(), log).power
    first, last = SPANS.spans_ns["idle-before"][0], SPANS.spans_ns["idle-after"][1]
    assert first - NS < power[0].t_ns < first < last < power[-1].t_ns < last + NS
    assert {(one.run_id, one.source, one.domain) for one in power} == {("r1", "csv", "device")}
    window = [one.power_w for one in power if SPANS.spans_ns["window"][0] + NS < one.t_ns < SPANS.spans_ns["window"][1]]
    assert set(window) == {9.0}


def test_a_wrong_clock_of_the_day_is_told(log_of):
    # The logger's clock of the day is an hour ahead, less 5 s.
    log, _ = log_of(style="iso", offset_ns=UTC_NS - 10**12 + 3595 * NS)
    found = align_run(make(), log)
    assert log.clock == "utc"
    assert found.ahead_s == pytest.approx(3595.0, abs=0.05)


def test_a_clock_of_the_day_that_is_off_by_more_than_an_hour_is_refused(log_of):
    log, _ = log_of(style="iso", offset_ns=UTC_NS - 10**12 + 3800 * NS)
    with pytest.raises(AlignError, match=r"by its clock the log begins \d+ s after the run"):
        align_run(make(), log)


def test_rows_without_a_time_are_aligned_by_their_number_and_a_wrong_period_is_mended(log_of):
    with pytest.raises(AlignError, match="--period") as caught:
        align_run(make(), log_of(style="bare", period_s=0.0204, period=0.02)[0])
    better_s = float(str(caught.value).rpartition("--period ")[2].removesuffix("ms")) / 1e3
    log, logger = log_of(style="bare", period_s=0.0204, period=better_s)
    columns = align_run(make(), log).columns
    truth = logger.power.energy_j(*SPANS.spans_ns["window"])
    assert abs(columns["energy_j"] - truth) <= columns["energy_error_rel"] * truth


def test_at_says_which_of_two_runs_is_meant(log_of):
    later = shown_run(10**12 + 70 * NS, window_s=20.0, jitter=0.05)
    log, _ = log_of(Power([SPANS, later]), length_s=LENGTH_S + 70.0)
    with pytest.raises(AlignError, match="--at"):
        align_run(make(), log)
    assert align_run(make(), log, at_s=37.0).window_at_s == pytest.approx(54.0, abs=1.0)
    assert align_run(make(), log, at_s=107.0).window_at_s == pytest.approx(124.0, abs=1.0)


def test_warnings_about_another_meter_give_way_to_those_about_this_one(log_of):
    begin, end = SPANS.spans_ns["idle-after"]
    power = Power([SPANS], [(begin, end + NS, 6.0)])
    run = make(warnings='["few-steps", "power-lost", "idle-drift"]')
    found = align_run(run, log_of(power)[0])
    assert json.loads(found.columns["warnings"]) == ["few-steps", "idle-drift"]
    assert [warning.code for warning in found.warnings] == ["idle-drift"]
    quiet = align_run(make(warnings='["power-lost"]'), log_of()[0])
    assert quiet.columns["warnings"] is None


def test_rows_that_cannot_be_true_are_counted(log_of):
    log, _ = log_of()
    place = next(place for place, t_ns in enumerate(log.t_ns) if t_ns > SPANS.spans_ns["window"][0] + NS)
    log.values[place] = (1e6,)
    found = align_run(make(), log)
    assert found.columns["power_rejected"] == 1
    assert [warning.code for warning in found.warnings] == ["power-rejected"]


def test_a_gap_in_the_window_is_refused(log_of):
    log, _ = log_of()
    begin = SPANS.spans_ns["window"][0]
    keep = [at for at, t_ns in enumerate(log.t_ns) if not begin + 5 * NS < t_ns < begin + 8 * NS]
    torn = dataclasses.replace(log, t_ns=[log.t_ns[at] for at in keep], values=[log.values[at] for at in keep])
    with pytest.raises(AlignError, match=r"values for 8[45]\.\d% of the run's window only"):
        align_run(make(), torn)


def test_what_the_log_lacks_is_told(log_of):
    log, _ = log_of()
    odd = dataclasses.replace(log, unreadable=3, last_unreadable="why", left_out=2, restarts=1)
    notes = " / ".join(align_run(make(), odd).notes)
    assert "3 rows could not be read; the last: why" in notes
    assert "2 rows whose time" in notes
    assert "started again 1 times" in notes


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (make(spans=shown_run()), None),
        (make_run(status="oom", spans=None), "it is one that ended as oom"),
        (make_run(spans=None), "an imported one"),
        (make(spans=dataclasses.replace(SPANS, loads_ns={})), "--sync-pattern"),
        (make(spans=dataclasses.replace(SPANS, loads_ns={"sync-before": [[5, 4]]})), "makes no sense"),
    ],
)
def test_a_run_that_showed_no_pattern_is_refused(log_of, run, reason):
    if reason is None:
        assert len(patterns_of(shown_run())) == 2
        return
    with pytest.raises(MeasureError, match=reason):
        align_run(run, log_of()[0])


def test_short_neighbours_of_a_pattern_are_left_out():
    spans = shown_run(phases_s=0.5, idle_s=0.0)
    spans.spans_ns["warm-up"][0] = spans.spans_ns["warm-up"][1] - NS // 2
    before, after = patterns_of(spans)
    assert [part.loaded for part in before.parts] == [False, True, False, True, False, True, False, True]
    assert [part.loaded for part in after.parts] == [True, False, True, False, True, False, True, False]
    # The window and the steps after it are one load.
    assert after.parts[0].end_ns == spans.spans_ns["phases"][1]
    assert after.parts[0].end_ns - after.parts[0].begin_ns == 4 * NS
