import contextlib
import itertools
import json
import logging
import selectors
import socket
import struct
import time

import pytest
from fake_meters_chip import PATIENCE_S, ScriptedMeter, until

from devprof.meters import serve
from devprof.meters.base import MAX_RATE_HZ, MeterError, Reading
from devprof.meters.wire import greeting_of


@pytest.fixture
def server():
    meter = ScriptedMeter()
    server = serve.MeterServer(meter, "127.0.0.1", 0)
    server.meter = meter
    yield server
    server.close()
    server.close()


@pytest.fixture
def connect(server):
    with contextlib.ExitStack() as links:

        def connect():
            link = links.enter_context(socket.create_connection(server.address))
            link.settimeout(PATIENCE_S)
            before = server.clients
            until(lambda: server.step(0.01) or server.clients > before)
            return link

        yield connect


def greet(server, link):
    link.sendall(greeting_of())
    return json.loads(line_of(server, link))


def line_of(server, link):
    """The next line that a client gets, while the server runs."""
    link.setblocking(False)
    got = bytearray()

    def look():
        server.step(0.001)
        with contextlib.suppress(BlockingIOError):
            while not got.endswith(b"\n"):
                got.extend(link.recv(1) or b"\n")
        return got.endswith(b"\n")

    until(look)
    return bytes(got)


def test_the_time_is_told_between_the_stamps_of_the_question(server, connect):
    link = connect()
    assert greet(server, link)["info"]["source"] == "bench"
    before = time.monotonic_ns()
    link.sendall(b'{"ping":7}\n')
    answer = json.loads(line_of(server, link))
    assert answer["pong"] == 7
    assert before <= answer["t1"] <= answer["t2"] <= time.monotonic_ns()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a line that is no JSON"),
        (b'{"devprof-meter":2}\n', "this server speaks format 1 of devprof-meter, not 2: install the same devprof"),
        (b'{"ping":1}\n', "a message that is not expected"),
        (b'{"devprof-meter":1}\n{"devprof-meter":1}\n', "a message that is not expected"),
        (b'{"devprof-meter":"1"}\n', "a message that is not expected"),
        (b"x" * 257, "a line of more than 256 bytes"),
        (b"\x00\xff\n", "a line that is no JSON"),
        (b"7\n", "a line that is no JSON object"),
    ],
)
def test_a_client_that_talks_nonsense_is_dropped_and_others_stay(server, connect, caplog, said, reason):
    good, bad = connect(), connect()
    greet(server, good)
    with caplog.at_level(logging.WARNING, serve.__name__):
        bad.sendall(said)
        until(lambda: server.step(0.01) or server.clients == 1)
    assert reason in caplog.text
    if b"}\n{" not in said:
        assert json.loads(bad.recv(4096)) == {"error": reason}
    good.sendall(b'{"ping":1}\n')
    assert b"pong" in line_of(server, good)


def test_a_client_in_pieces_is_understood(server, connect):
    link = connect()
    for byte in greeting_of():
        link.sendall(bytes([byte]))
        server.step(0.01)
    assert b"info" in line_of(server, link)


def test_a_client_that_leaves_is_forgotten(server, connect):
    link = connect()
    link.sendall(b'{"devprof-me')
    link.close()
    until(lambda: server.step(0.01) or server.clients == 0)


def reset(link):
    """Close a connection so that the other end is told at once."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def test_a_client_that_resets_is_forgotten(server, connect):
    reset(connect())
    until(lambda: server.step(0.01) or server.clients == 0)


def test_a_client_that_resets_before_it_is_sent_readings_is_forgotten(server, connect):
    link = connect()
    greet(server, link)
    server.meter.script.append([Reading(5, "supply", 1.0)])
    reset(link)
    server._sample()
    assert server.clients == 0


def test_nothing_to_accept_or_to_receive_after_all_is_no_error(server, connect):
    server._accept()
    connect()
    (client,) = server._clients
    server._attend(client, selectors.EVENT_READ)
    assert server.clients == 1


def test_a_client_that_does_not_listen_is_dropped_and_stops_nobody(server, connect, monkeypatch, caplog):
    slow, quick = connect(), connect()
    greet(server, slow)
    greet(server, quick)
    monkeypatch.setattr(server, "_period_ns", 0)
    for client in server._clients:
        client.link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    batch = [Reading(n, "supply", 1.0) for n in range(2000)]
    got = 0
    quick.setblocking(False)

    def look():
        nonlocal got
        server.meter.script.append(batch)
        server.step(0.0)
        with contextlib.suppress(BlockingIOError):
            while piece := quick.recv(1 << 20):
                got += len(piece)
        return server.clients == 1

    with caplog.at_level(logging.WARNING, serve.__name__):
        until(look)
    assert "it does not take what it is sent" in caplog.text
    assert got > 256 << 10


def test_readings_go_only_to_who_greeted(server, connect):
    silent, listening = connect(), connect()
    greet(server, listening)
    server.meter.script.append([Reading(5, "supply", 1.0)])
    assert json.loads(line_of(server, listening)) == {"readings": [[5, "supply", "w", 1.0]]}
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.recv(1)


def test_too_many_clients_are_sent_away(server, connect, monkeypatch):
    monkeypatch.setattr(serve, "_MOST_CLIENTS", 1)
    greet(server, connect())
    with socket.create_connection(server.address) as second:
        assert json.loads(line_of(server, second)) == {"error": "1 clients are connected already"}
    assert server.clients == 1


def test_the_meter_is_read_no_more_often_than_makes_sense(server):
    reads = []
    server.meter.read = lambda: reads.append(time.monotonic()) or ()
    until(lambda: server.step(1.0) or len(reads) >= 5)
    assert all(b - a >= 1 / MAX_RATE_HZ for a, b in itertools.pairwise(reads))


def test_an_address_that_is_taken_is_said(server):
    with pytest.raises(MeterError, match="cannot listen on 127") as caught:
        serve.MeterServer(ScriptedMeter(), *server.address)
    assert caught.value.remedy == "another --port"
    with pytest.raises(MeterError, match="cannot listen on"):
        serve.MeterServer(ScriptedMeter(), "127.0.0.1", 1 << 20)


def test_all_addresses_are_listened_on():
    server = serve.MeterServer(ScriptedMeter(), "", 0)
    try:
        with socket.create_connection(("127.0.0.1", server.address[1])):
            until(lambda: server.step(0.01) or server.clients == 1)
    finally:
        server.close()


def test_without_ipv6_those_of_ipv4_are(monkeypatch):
    create = socket.create_server

    def refused(address, *, family, **settings):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return create(address, family=family, **settings)

    monkeypatch.setattr(serve.socket, "create_server", refused)
    monkeypatch.setattr(serve.socket, "has_dualstack_ipv6", lambda: True)
    server = serve.MeterServer(ScriptedMeter(), "", 0)
    assert server._listener.family == socket.AF_INET
    server.close()
