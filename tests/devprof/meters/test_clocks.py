from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from devprof.meters.clocks import MAX_DRIFT, ClockMap, OffsetEstimate, Ping, exchange, map_between, offset_of, refined

MS, S = 1_000_000, 1_000_000_000


class Remote:
    """A clock that began somewhere else and gains some parts per million on the local one; stamps are whole."""

    def __init__(self, offset_ns, drift_ppm=0):
        self.offset_ns = offset_ns
        self.rate = 1 + Fraction(drift_ppm, 1_000_000)

    def at(self, local_ns):
        return (local_ns * self.rate + self.offset_ns).__floor__()

    def ping(self, t0, there_ns, inside_ns, back_ns):
        arrived = t0 + there_ns
        return Ping(t0, self.at(arrived), self.at(arrived + inside_ns), arrived + inside_ns + back_ns)

    def true_offset_ns(self, local_ns):
        return local_ns * (self.rate - 1) + self.offset_ns


offsets = st.integers(-(10**16), 10**16)
drifts = st.integers(-900, 900)
delays = st.integers(0, 50 * MS)
trips = st.tuples(delays, st.integers(0, 5 * MS), delays)
bursts = st.lists(trips, min_size=1, max_size=5)


def burst(remote, start_ns, ways):
    pings = []
    for there, inside, back in ways:
        pings.append(remote.ping(start_ns, there, inside, back))
        start_ns = pings[-1].t3 + 1
    return pings


def test_an_exchange_of_equal_ways_finds_the_offset():
    ping = Remote(7 * S).ping(1000, 2 * MS, MS, 2 * MS)
    assert ping.round_trip_ns == 4 * MS
    estimate = offset_of([ping])
    assert (estimate.at_ns, estimate.offset_ns) == (1000 + 2_500_000, 7 * S)
    assert estimate.error_ns == 2 * MS + 2_500 + 1


def test_the_exchange_with_the_least_round_trip_decides():
    remote = Remote(-3 * S)
    slow, fast = remote.ping(0, 40 * MS, 0, 0), remote.ping(S, 100_000, 0, 0)
    estimate = offset_of([slow, fast])
    assert abs(estimate.offset_ns + 3 * S) <= estimate.error_ns < 52_000


def test_an_exchange_takes_its_own_stamps():
    now = iter([5, 25])
    assert exchange(lambda: (110, 112), lambda: next(now)) == Ping(5, 110, 112, 25)


@pytest.mark.parametrize("ping", [Ping(10, 0, 0, 5), Ping(0, 10, 5, 9), Ping(0, 0, 100 * MS, 90 * MS)])
def test_exchanges_that_cannot_be_are_left_out(ping):
    assert not ping.sane
    with pytest.raises(ValueError, match="time went forward"):
        offset_of([ping])
    good = Ping(0, 5, 5, 2)
    assert offset_of([ping, good]) == offset_of([good])


def test_no_exchange_at_all():
    with pytest.raises(ValueError, match="no exchange"):
        offset_of([])


@given(offsets, drifts, st.integers(0, 10**15), bursts)
def test_the_true_offset_lies_within_the_bound(offset, drift, start, ways):
    remote = Remote(offset, drift)
    pings = burst(remote, start, ways)
    estimate = offset_of(pings)
    # Remote stamps are whole numbers: they are up to one below the true time.
    assert abs(estimate.offset_ns - remote.true_offset_ns(estimate.at_ns)) <= estimate.error_ns + 1
    best = min(ping.round_trip_ns for ping in pings)
    longest = max(ping.t3 - ping.t0 for ping in pings)
    assert estimate.error_ns <= max(0, best) / 2 + MAX_DRIFT * longest / 2 + 3


@given(offsets, drifts, bursts, bursts, st.integers(0, 60 * S))
def test_two_looks_together_are_never_worse_than_the_second(offset, drift, first, second, pause):
    remote = Remote(offset, drift)
    before = offset_of(burst(remote, 0, first))
    now = offset_of(burst(remote, S + pause, second))
    both = refined(before, now)
    assert both.at_ns == now.at_ns
    assert both.error_ns <= now.error_ns + 1
    assert abs(both.offset_ns - remote.true_offset_ns(both.at_ns)) <= both.error_ns + 1


def test_a_busy_network_does_not_spoil_what_was_known():
    before, now = OffsetEstimate(0, 1000, 100_000), OffsetEstimate(S, 20 * MS, 25 * MS)
    both = refined(before, now)
    assert both.error_ns == 100_000 + MS + 1
    assert both.offset_ns == 1000


def test_looks_that_contradict_each_other_give_a_bound_for_both():
    both = refined(OffsetEstimate(0, 0, 1000), OffsetEstimate(S, 60 * S, 1000))
    low, high = both.bounds_at(S)
    assert low <= 0
    assert high >= 60 * S


@given(
    st.builds(Remote, offsets, drifts),
    st.tuples(bursts, bursts),
    st.integers(0, 600 * S),
    st.lists(st.integers(-30 * S, 700 * S), min_size=1),
)
def test_stamps_are_converted_within_the_bound(remote, looks, pause, moments):
    first, second = looks
    before = offset_of(burst(remote, 0, first))
    after = offset_of(burst(remote, S + pause, second))
    for clock_map in (map_between(before), map_between(before, after), map_between(before, refined(before, after))):
        for moment in moments:
            stamp = remote.at(moment)
            assert abs(clock_map.local_ns(stamp) - moment) <= clock_map.error_ns(stamp) + 2


@given(drifts, st.integers(10, 1000))
def test_drift_is_found_and_used(drift, seconds):
    remote = Remote(5 * S, drift)
    before = offset_of([remote.ping(0, 1000, 0, 1000)])
    after = offset_of([remote.ping(seconds * S, 1000, 0, 1000)])
    found = map_between(before, after)
    assert found.drift == pytest.approx(drift * 1e-6, abs=1e-9)
    # In the middle and as long again after the end, the error is that of the stamps.
    for moment in (seconds * S // 2, 2 * seconds * S):
        assert abs(found.local_ns(remote.at(moment)) - moment) < 10_000
    assert map_between(before).drift == 0.0


@given(offsets, drifts, st.integers(0, 600 * S))
def test_the_bound_widens_with_the_distance_from_the_looks(offset, drift, moment):
    remote = Remote(offset, drift)
    look = offset_of([remote.ping(0, MS, 0, MS)])
    clock_map = map_between(look)
    near, far = clock_map.error_ns(remote.at(moment)), clock_map.error_ns(remote.at(moment + 10 * S))
    assert far >= near + 8 * MS


def test_a_map_keeps_the_order_of_stamps():
    clock_map = map_between(OffsetEstimate(0, 0, 1), OffsetEstimate(S, 500_000, 1))
    stamps = range(-10, 10)
    assert [clock_map.local_ns(stamp) for stamp in stamps] == sorted(clock_map.local_ns(stamp) for stamp in stamps)


def test_a_clock_that_was_set_is_no_drift():
    clock_map = map_between(OffsetEstimate(0, 0, 1000), OffsetEstimate(S, 60 * S, 1000))
    assert clock_map.drift == pytest.approx(MAX_DRIFT)
    assert clock_map.error_ns(61 * S) >= 59 * S


def test_a_map_needs_its_looks_in_order():
    look = OffsetEstimate(5, 0, 1)
    with pytest.raises(ValueError, match="later"):
        map_between(look, OffsetEstimate(5, 0, 1))
    assert map_between(look) == ClockMap(look, look)


@given(st.integers(-(10**18), 10**18), st.integers(1, 10**9))
def test_large_stamps_lose_no_nanoseconds(offset, error):
    assume(abs(offset) > 1)
    clock_map = map_between(OffsetEstimate(0, offset, error))
    assert clock_map.local_ns(offset + 123) == 123
