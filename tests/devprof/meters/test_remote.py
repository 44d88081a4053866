import contextlib
import itertools
import json
import socket
import struct
import threading
import time

import pytest
from fake_meters_chip import PATIENCE_S, ScriptedMeter, SteadyMeter, until
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters import remote, serve
from devprof.meters.base import Channel, MeterError, MeterInfo, MeterLostError, Reading
from devprof.meters.remote import parse_address
from devprof.meters.wire import (
    DEFAULT_PORT,
    encode,
    greeting_of,
)

S = 1_000_000_000


def other_hosts_clock(offset_s=5000.0, drift=80e-6):
    """Began long before this host's clock, and gains on it."""
    start = time.monotonic_ns()
    return lambda: round(offset_s * 1e9) + start + round((time.monotonic_ns() - start) * (1 + drift))


@contextlib.contextmanager
def shared(meter, clock=time.monotonic_ns):
    """A server in a thread of its own; gives its address, and the error that ended it, if any."""
    over, addresses, errors = threading.Event(), [], []
    known = threading.Event()

    def ready(*address):
        addresses.append(address)
        known.set()

    def run():
        try:
            serve.serve(meter, "127.0.0.1", 0, until=over.is_set, ready=ready, clock=clock)
        except MeterError as error:
            errors.append(error)
            known.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert known.wait(PATIENCE_S)
        yield f"{addresses[0][0]}:{addresses[0][1]}", errors
    finally:
        over.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextlib.contextmanager
def opened(argument, **settings):
    meter = remote.open_meter(argument, **settings)
    try:
        yield meter
    finally:
        meter.close()


def test_the_meter_of_another_host_is_described():
    with shared(ScriptedMeter()) as (address, _), opened(address) as meter:
        assert meter.info.source == "tcp+bench"
        assert meter.info.rule == "bench-supply/1"
        assert meter.info.channels == ScriptedMeter().info.channels
        assert meter.info.detail == f"model 1, shared by {address}"
        assert meter.info.notes[0] == "a note"
        assert "known to within" in meter.info.notes[1]


@pytest.mark.parametrize(("offset_s", "drift"), [(5000.0, 80e-6), (-3000.0, -500e-6), (0.0, 0.0)])
def test_stamps_are_converted_within_the_bound_that_is_said(offset_s, drift, monkeypatch):
    monkeypatch.setattr(remote, "_NEXT_NS", 100_000_000)
    clock = other_hosts_clock(offset_s, drift)
    truth = {}

    class Witness(SteadyMeter):
        def read(self):
            local_ns = time.monotonic_ns()
            readings = super().read()
            truth[readings[0].t_ns] = (local_ns, time.monotonic_ns())
            return [Reading(t.t_ns, t.domain, t.power_w, t.t_ns / 1e9) for t in readings]

    with shared(Witness(12.5, clock), clock) as (address, _), opened(address) as meter:
        found = []
        until(lambda: found.extend(meter.read()) or len(found) >= 30)
        assert 0 < meter.clock_error_s < 0.05
        bound_ns = meter.clock_error_s * 1e9
    powers = [reading for reading in found if reading.domain == "supply"]
    assert {reading.power_w for reading in powers} == {12.5}
    # The fake's joules are its stamps in seconds, from the first that arrived.
    joules = [reading for reading in found if reading.domain == "total"]
    assert joules[0].energy_j == 0.0
    stamps = sorted(truth)
    first = next(n for n, stamp in enumerate(stamps) if truth[stamp][1] + bound_ns >= joules[0].t_ns)
    for stamp, reading in zip(stamps[first:], joules, strict=False):
        before, after = truth[stamp]
        assert before - bound_ns <= reading.t_ns <= after + bound_ns
        assert reading.energy_j == pytest.approx((stamp - stamps[first]) / 1e9, abs=1e-6)
    for readings in (powers, joules):
        assert all(a.t_ns < b.t_ns for a, b in itertools.pairwise(readings))


def test_several_clients_get_the_same():
    clock = other_hosts_clock()
    with shared(SteadyMeter(3.0, clock), clock) as (address, _), opened(address) as one, opened("//" + address) as two:
        assert until(one.read)[0].power_w == 3.0
        assert until(two.read)[0].power_w == 3.0


def test_breaks_and_values_that_are_no_numbers_arrive_as_breaks():
    meter = ScriptedMeter()
    with shared(meter) as (address, _), opened(address) as client:
        now = time.monotonic_ns()
        meter.script.append(
            [Reading(now, "supply"), Reading(now + 1, "supply", float("nan")), Reading(now + 2, "else", 1.0)]
        )
        found = until(client.read)
    assert [(reading.domain, reading.power_w, reading.energy_j) for reading in found] == [("supply", None, None)] * 2


def test_a_meter_that_is_lost_there_is_lost_here_after_its_last_values():
    meter = ScriptedMeter()
    with shared(meter) as (address, errors), opened(address) as client:
        meter.script += [[Reading(time.monotonic_ns(), "supply", 5.0)], None]
        found = []
        with pytest.raises(MeterLostError, match="the meter was lost: unplugged"):
            until(lambda: found.extend(client.read()))
        assert [reading.power_w for reading in found] == [5.0]
        with pytest.raises(MeterLostError):
            client.read()
    assert isinstance(errors[0], MeterLostError)


def test_a_server_that_ends_is_a_lost_meter():
    with contextlib.ExitStack() as server:
        address, _ = server.enter_context(shared(ScriptedMeter()))
        with opened(address) as client:
            client.read()
            server.close()
            with pytest.raises(MeterLostError, match=f"the connection to {address} is lost: it hung up"):
                until(client.read)
        client.close()
        with pytest.raises(MeterLostError, match="is closed"):
            client.read()


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(MeterError, match=f"no meter at 127.0.0.1:{port}") as caught:
        remote.open_meter(f"127.0.0.1:{port}")
    assert "devprof meter serve" in caught.value.remedy


def test_the_probe_says_how_it_is_named():
    state = remote.probe()
    assert (state.name, state.readable) == ("tcp", True)
    assert "tcp:HOST:PORT" in state.detail


# --- A server by hand, for what the real one never says ---------------------------------------------------------------------


@contextlib.contextmanager
def scripted_server(talk):
    """A listener whose first connection is given to a function."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)

        def run():
            link, _ = listener.accept()
            with link, contextlib.suppress(OSError):
                link.settimeout(PATIENCE_S)
                talk(link)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


INFO = MeterInfo("bench", "bench/1", (Channel("supply", "sensor"),))


def answering(then, *, greeting=None, pings=20):
    """Greets, answers some questions for the time, and then does something."""

    def talk(link):
        stream = link.makefile("rwb")
        stream.readline()
        stream.write(greeting or greeting_of(INFO))
        stream.flush()
        for _ in range(pings):
            question = json.loads(stream.readline())
            now = time.monotonic_ns()
            stream.write(encode({"pong": question["ping"], "t1": now, "t2": now}))
            stream.flush()
        then(link)

    return talk


def nothing(link):
    pass


@contextlib.contextmanager
def told(*lines, hang_up=False):
    """An open meter whose server says some lines once it is open, and hangs up at the end of the block or at once."""
    go_on, over = threading.Event(), threading.Event()

    def talk(link):
        assert go_on.wait(PATIENCE_S)
        link.sendall(b"".join(lines))
        if not hang_up:
            over.wait(PATIENCE_S)

    with scripted_server(answering(talk)) as address:
        try:
            with opened(address) as meter:
                go_on.set()
                yield meter
        finally:
            go_on.set()
            over.set()


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (
            b'{"devprof-meter":2,"info":{}}\n',
            "speaks format 2 of devprof-meter, this devprof speaks 1: install the same",
        ),
        (b'{"hello":1}\n', "speaks format None of devprof-meter"),
        (b'{"devprof-meter":1,"info":{}}\n', "does not speak as a server of meters does: a meter that is none"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak as a server of meters does: a line that is no JSON"),
        (b'{"error":"busy"}\n', "says: busy"),
        (b"[" * 100_000 + b"\n", "a line that is no JSON"),
        (b"x" * ((1 << 20) + 2), "a line of more than 1048576 bytes"),
    ],
)
def test_a_server_that_is_no_meter_is_refused(greeting, reason):
    with (
        scripted_server(answering(nothing, greeting=greeting, pings=0)) as address,
        pytest.raises(MeterError) as caught,
    ):
        remote.open_meter(address)
    assert reason in str(caught.value)


def test_a_server_that_hangs_up_at_once():
    with scripted_server(nothing) as address, pytest.raises(MeterError):
        remote.open_meter(address)


def test_a_server_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(remote, "_CONNECT_S", 0.05)
    over = threading.Event()
    with scripted_server(lambda _link: over.wait(PATIENCE_S)) as address:
        with pytest.raises(MeterError, match="does not greet"):
            remote.open_meter(address)
        over.set()


def test_a_server_that_does_not_tell_the_time_is_given_up(monkeypatch):
    monkeypatch.setattr(remote, "_CONNECT_S", 0.5)
    over = threading.Event()
    with scripted_server(answering(lambda _link: over.wait(PATIENCE_S), pings=2)) as address:
        with pytest.raises(MeterError, match="answered 2 of 20 questions"):
            remote.open_meter(address)
        over.set()


def test_half_lines_are_put_together():
    line = encode({"readings": [[time.monotonic_ns(), "supply", "w", 7.0]]})

    def halves(link):
        link.sendall(line[:20])
        first.set()
        assert go_on.wait(PATIENCE_S)
        link.sendall(line[20:])
        done.wait(PATIENCE_S)

    first, go_on, done = threading.Event(), threading.Event(), threading.Event()
    with scripted_server(answering(halves)) as address, opened(address) as meter:
        assert first.wait(PATIENCE_S)
        assert meter.read() == []
        go_on.set()
        assert [reading.power_w for reading in until(meter.read)] == [7.0]
        done.set()


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[1]\n",
        b'{"readings":5}\n',
        b'{"readings":[5]}\n',
        b'{"readings":[[1,"supply","w",NaN]]}\n',
        b'{"readings":[[1,"supply","w","5"]]}\n',
        b'{"readings":[[1,"supply","w",true]]}\n',
        b'{"readings":[[1,"supply","v",5]]}\n',
        b'{"readings":[[1.5,"supply","w",5]]}\n',
        b'{"readings":[[true,"supply","w",5]]}\n',
        b'{"readings":[[' + b"9" * 30 + b',"supply","w",5]]}\n',
        b'{"readings":[[1,"supply","w",1' + b"0" * 400 + b"]]}\n",
        b'{"readings":[[' + b"9" * 5000 + b',"supply","w",5]]}\n',
        b'{"something":1}\n',
        b"\xff\xfe\n",
    ],
)
def test_nonsense_of_a_server_is_a_lost_meter(line):
    with told(line) as meter, pytest.raises(MeterLostError):
        until(meter.read)


def test_a_server_that_hangs_up_is_a_lost_meter_after_its_last_values():
    line = encode({"readings": [[time.monotonic_ns(), "supply", "w", 7.0]]})
    with told(line, hang_up=True) as meter:
        found = []
        with pytest.raises(MeterLostError, match="it hung up"):
            until(lambda: found.extend(meter.read()))
        assert [reading.power_w for reading in found] == [7.0]


class Hands:
    """A clock that shows real time plus what was added by hand."""

    def __init__(self):
        self.added_ns = 0

    def __call__(self):
        return time.monotonic_ns() + self.added_ns


def test_a_server_that_falls_silent_is_a_lost_meter(monkeypatch):
    monkeypatch.setattr(remote, "_PATIENCE_NS", 1_000_000)
    clock, over = Hands(), threading.Event()
    with scripted_server(answering(lambda _link: over.wait(PATIENCE_S))) as address:
        with opened(address, clock=clock) as meter:
            assert meter.read() == []
            clock.added_ns += 6 * S
            assert meter.read() == []
            clock.added_ns += 11 * S
            with pytest.raises(MeterLostError, match="does not answer any more"):
                meter.read()
        over.set()


def test_a_connection_that_is_reset_is_a_lost_meter():
    def reset(link):
        assert opened_here.wait(PATIENCE_S)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    opened_here = threading.Event()
    with scripted_server(answering(reset)) as address, opened(address) as meter:
        opened_here.set()
        with pytest.raises(MeterLostError, match="is lost"):
            until(meter.read)


def test_a_connection_that_takes_no_more_questions_is_a_lost_meter():
    with told() as meter:
        assert meter.read() == []
        meter._link.shutdown(socket.SHUT_WR)
        meter._next_ns = 0
        with pytest.raises(MeterLostError, match="is lost"):
            meter.read()


def test_a_reader_that_slept_is_no_silence_of_the_server():
    clock = Hands()
    with shared(ScriptedMeter()) as (address, _), opened(address, clock=clock) as meter:
        clock.added_ns += 60 * S
        assert meter.read() == []


def test_a_clock_that_jumps_shows_in_the_bound():
    clock = Hands()
    with shared(SteadyMeter(1.0, clock), clock) as (address, _), opened(address) as meter:
        until(meter.read)
        assert meter.clock_error_s < 0.1
        clock.added_ns += 3600 * S
        meter._next_ns = 0
        until(lambda: meter.read() and meter.clock_error_s > 1000)


def test_a_new_map_does_not_turn_the_order_of_stamps():
    over, go_on = threading.Event(), threading.Event()
    stamps = []

    def talk(link):
        now = time.monotonic_ns()
        stamps.extend((now, now + 1))
        link.sendall(encode({"readings": [[now, "supply", "w", 1.0]]}))
        assert go_on.wait(PATIENCE_S)
        link.sendall(encode({"readings": [[now + 1, "supply", "w", 2.0]]}))
        over.wait(PATIENCE_S)

    with scripted_server(answering(talk)) as address, opened(address) as meter:
        (first,) = until(meter.read)
        offset = meter._last_offset
        later = type(offset)(offset.at_ns + S, offset.offset_ns + 500_000, offset.error_ns)
        meter._map = remote.map_between(meter._first_offset, later)
        before_s = meter.clock_error_s
        go_on.set()
        (second,) = until(meter.read)
        over.set()
        assert second.t_ns == first.t_ns + 1
        assert meter.clock_error_s > before_s


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("meters.lan:9000", ("meters.lan", 9000)),
        ("//meters.lan:9000", ("meters.lan", 9000)),
        ("//10.0.0.7:9000/", ("10.0.0.7", 9000)),
        ("10.0.0.7", ("10.0.0.7", DEFAULT_PORT)),
        ("[fe80::1%eth0]:9000", ("fe80::1%eth0", 9000)),
        ("[::1]", ("::1", DEFAULT_PORT)),
    ],
)
def test_addresses(argument, address):
    assert parse_address(argument) == address


@pytest.mark.parametrize(
    "argument", ["", "//", ":9000", "host:", "host:0", "host:65536", "host:x", "a b:1", "::1", "///h:1"]
)
def test_what_is_no_address_is_refused(argument):
    with pytest.raises(MeterError, match="is no address of a meter: --meter tcp:HOST:PORT"):
        remote.open_meter(argument)


@given(st.text())
def test_no_argument_makes_the_address_raise_anything_else(argument):
    try:
        host, port = parse_address(argument)
    except MeterError:
        return
    assert host
    assert 0 < port < 65536


def test_a_host_name_that_cannot_be_one():
    with pytest.raises(MeterError, match="no meter at"):
        remote.open_meter("a" * 300 + ":9000")
