"""A run is found in a log whose clock nobody knows: within the bound, or not at all."""

import pytest
from fake_meters_log import NS, Logger, Power, shown_run
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.measure.aligned import patterns_of
from devprof.meters.align import AlignError, Samples, align

LEAD_S = 20.0


def samples(logger, seconds, update_s=0.0):
    rows = logger.rows(seconds)
    return Samples([t_ns for t_ns, _ in rows], [watts for _, watts in rows], update_s)


def length_s(run):
    return (run.spans_ns["idle-after"][1] - run.spans_ns["idle-before"][0]) / NS


def logged(run, *, others=(), lead_s=LEAD_S, tail_s=LEAD_S, more=(), **logger):
    """A log of a run, and its logger."""
    begin_ns = run.spans_ns["idle-before"][0] - round(lead_s * NS)
    writer = Logger(Power([run, *more], others), begin_ns, **logger)
    ends = [one.spans_ns["idle-after"][1] for one in (run, *more)]
    return samples(writer, (max(ends) - begin_ns) / NS + tail_s), writer


def window_of(run):
    return tuple(run.spans_ns["window"])


def found_in(run, log, **options):
    return align(log, patterns_of(run), window_of(run), **options)


def errors_s(run, found, logger):
    """By how much the window's edges are off."""
    return [abs(found.remote_ns(edge) - logger.clock(edge)) / NS for edge in window_of(run)]


others = st.lists(st.tuples(st.floats(-LEAD_S, 60.0), st.floats(0.2, 20.0), st.floats(5.0, 15.0)), max_size=6)


@settings(deadline=None, max_examples=60)
@given(
    period_s=st.sampled_from([0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1.0, 1.05]) | st.floats(0.01, 1.0),
    offset_ns=st.integers(-(10**16), 10**16),
    ppm=st.integers(-200, 200),
    noise_w=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    phase_s=st.floats(0.0, 1.0),
    events=others,
    seed=st.integers(0, 1000),
)
def test_the_true_offset_lies_within_the_bound_or_the_log_is_rejected(
    *, period_s, offset_ns, ppm, noise_w, phase_s, events, seed
):
    run = shown_run(5 * 10**14, window_s=max(12.0, 100 * period_s), jitter=0.05, seed=seed)
    begin, end = run.spans_ns["idle-before"][0], run.spans_ns["idle-after"][1]
    # Other loads come before the run and after it.
    loads = [
        (begin + round(at_s * NS), min(begin, begin + round((at_s + length) * NS)), watts)
        if at_s < 0
        else (end + round(at_s * NS), end + round((at_s + length) * NS), watts)
        for at_s, length, watts in events
    ]
    log, logger = logged(
        run,
        others=loads,
        lead_s=LEAD_S + phase_s,
        period_s=period_s,
        offset_ns=offset_ns,
        ppm=ppm,
        noise_w=noise_w,
        seed=seed,
    )
    try:
        found = found_in(run, log)
    except AlignError:
        return
    assert max(errors_s(run, found, logger)) <= found.error_s
    # The bound of the map holds at every moment of the run.
    for t_ns in (begin, *window_of(run), end):
        remote_ns = logger.clock(t_ns)
        assert abs(found.clock.local_ns(remote_ns) - t_ns) <= found.clock.error_ns(remote_ns)


@pytest.mark.parametrize(("period_s", "most_s"), [(0.01, 0.03), (0.04, 0.07), (0.1, 0.13), (0.25, 0.3), (1.0, 1.1)])
@pytest.mark.parametrize("noise_w", [0.0, 0.2])
def test_a_clean_log_is_found_to_about_its_period(period_s, most_s, noise_w):
    run = shown_run(10**12, window_s=max(12.0, 120 * period_s), jitter=0.05)
    log, logger = logged(run, period_s=period_s, offset_ns=-7 * 10**12, ppm=150, noise_w=noise_w)
    found = found_in(run, log)
    assert max(errors_s(run, found, logger)) <= found.error_s <= most_s
    assert found.likeness > 0.85
    assert found.drift == pytest.approx(150e-6, abs=2 * found.error_s / length_s(run) * 2)


def test_one_pattern_alone_tells_no_drift():
    run = shown_run(window_s=12.0, after=False)
    log, logger = logged(run, offset_ns=NS, ppm=-100)
    found = found_in(run, log)
    assert found.drift is None
    assert max(errors_s(run, found, logger)) <= found.error_s


def test_a_meter_whose_values_are_old_is_believed_to_their_age():
    run = shown_run(window_s=70.0, jitter=0.05)
    log, logger = logged(run, period_s=0.1, offset_ns=NS)
    late = [log.watts[max(0, number // 5 * 5 - 1)] for number in range(len(log.watts))]
    found = found_in(run, Samples(log.t_ns, late, update_s=0.5))
    assert 0.5 < found.error_s < 0.7
    assert max(errors_s(run, found, logger)) <= found.error_s


def test_a_meter_that_averages_delays_pattern_and_run_alike():
    run = shown_run(window_s=60.0, jitter=0.05)
    log, logger = logged(run, period_s=0.01, offset_ns=NS)
    mean = [sum(log.watts[max(0, number - 49) : number + 1]) / min(50, number + 1) for number in range(len(log.watts))]
    found = found_in(run, Samples(log.t_ns[::50], mean[::50]))
    assert max(errors_s(run, found, logger)) <= found.error_s


class TestTwoRuns:
    """The same workload twice: the patterns are as far apart in both."""

    first = shown_run(0, window_s=15.0)
    second = shown_run(100 * NS, window_s=15.0)

    def test_of_two_equal_runs_none_is_taken(self):
        log, _ = logged(self.first, more=[self.second])
        with pytest.raises(AlignError, match=r"at 2 places of the log: 27\.\d s, 127\.\d s.*--at"):
            found_in(self.second, log)

    @pytest.mark.parametrize("run", [first, second])
    def test_one_that_is_pointed_at_is_taken(self, run):
        log, logger = logged(self.first, more=[self.second], offset_ns=10**12)
        near_ns = logger.clock(run.spans_ns["sync-before"][0]) + 3 * NS
        found = found_in(run, log, near_ns=near_ns)
        assert max(errors_s(run, found, logger)) <= found.error_s
        assert found.notes == ()

    def test_the_one_at_which_both_clocks_of_the_day_agree_is_taken_and_that_is_said(self):
        log, logger = logged(self.first, more=[self.second], offset_ns=10**15)
        found = found_in(self.second, log, expected_ns=10**15 + NS)
        assert max(errors_s(self.second, found, logger)) <= found.error_s
        assert "both clocks of the day agree" in found.notes[0]

    def test_clocks_that_agree_with_neither_decide_nothing(self):
        log, _ = logged(self.first, more=[self.second], offset_ns=10**15)
        with pytest.raises(AlignError, match="at 2 places"):
            found_in(self.second, log, expected_ns=10**15 + 40 * NS)

    def test_a_run_of_another_length_is_another_run(self):
        other = shown_run(100 * NS, window_s=15.3)
        log, logger = logged(self.first, more=[other], period_s=0.1)
        for run in (self.first, other):
            assert max(errors_s(run, found_in(run, log), logger)) < 0.1


class TestRejected:
    run = shown_run(0, window_s=20.0)

    def reason(self, log, run=run, **options):
        with pytest.raises(AlignError) as caught:
            found_in(run, log, **options)
        return str(caught.value)

    def test_a_log_of_something_else(self):
        log, _ = logged(self.run, noise_w=1.0)
        other = Samples(log.t_ns, [5.0 + number // 100 % 7 for number in range(len(log.t_ns))])
        assert "not in the log; the likest place" in self.reason(other)

    def test_a_log_without_any_change(self):
        log, _ = logged(self.run)
        assert "not in the log" in self.reason(Samples(log.t_ns, [5.0] * len(log.t_ns)))

    def test_a_load_that_draws_less_than_the_pauses(self):
        log, _ = logged(self.run)
        assert "not in the log" in self.reason(Samples(log.t_ns, [-watts for watts in log.watts]))

    def test_a_log_that_is_shorter_than_the_run(self):
        log, _ = logged(self.run)
        assert "0.0 s long, the run with its patterns" in self.reason(Samples(log.t_ns[:3], log.watts[:3]))

    @pytest.mark.parametrize("cut", [slice(0, 6000), slice(3000, None)])
    def test_a_log_that_ends_too_early_or_begins_too_late(self, cut):
        log, _ = logged(self.run, tail_s=60.0, lead_s=20.0)
        assert "not in the log" in self.reason(Samples(log.t_ns[cut], log.watts[cut]))

    def test_a_log_that_ends_in_the_window_of_a_run_with_one_pattern(self):
        run = shown_run(0, window_s=20.0, after=False)
        log, logger = logged(run)
        end = next(place for place, t_ns in enumerate(log.t_ns) if t_ns > logger.clock(window_of(run)[1] - 2 * NS))
        reason = self.reason(Samples(log.t_ns[:end], log.watts[:end]), run)
        assert "does not cover the run's window: it ends 2.0 s before the end" in reason

    def test_a_log_of_another_day(self):
        log, _ = logged(self.run)
        assert "by its clock the log ends" in self.reason(log, expected_ns=10**13)
        assert "by its clock the log begins" in self.reason(log, expected_ns=-(10**13))

    def test_a_log_with_a_gap_in_the_pattern(self):
        log, _ = logged(self.run)
        keep = [place for place in range(len(log.t_ns)) if not 2950 < place < 3450]
        reason = self.reason(Samples([log.t_ns[place] for place in keep], [log.watts[place] for place in keep]))
        assert "s into the log, but the log has values around" in reason

    def test_a_bound_of_more_than_a_hundredth_of_the_window_names_the_window_that_would_do(self):
        log, _ = logged(self.run, period_s=0.5)
        reason = self.reason(log)
        assert "only, over 1 % of its window of 20 s: measure it with --min-time" in reason
        least_s = int(reason.partition("--min-time ")[2].partition("s")[0])
        longer = shown_run(0, window_s=least_s + 1)
        assert found_in(longer, logged(longer, period_s=0.5)[0]).error_s <= least_s / 100

    def test_a_logger_that_is_slower_than_the_pattern(self):
        log, _ = logged(self.run, period_s=2.0)
        assert "a new value every 2 s, and the pattern changes every 2 s" in self.reason(log)

    @pytest.mark.parametrize("rate", [-0.02, 0.015])
    def test_a_clock_that_runs_too_fast_or_too_slow_names_the_true_period(self, rate):
        log, _ = logged(self.run, period_s=0.05, ppm=rate * 1e6)
        reason = self.reason(log)
        assert f"{abs(rate):.2%} {'fast' if rate > 0 else 'slow'}" in reason
        assert float(reason.partition("--period ")[2].removesuffix("ms")) == pytest.approx(50, rel=5e-3)
