from __future__ import annotations

import logging
import math
from dataclasses import replace

from devprof.plan.settings import ClientState
from devprof.records import Link
from strategies.directory import ClientDirectory
from strategies.telemetry import Telemetry

KNOWN = ClientState("garage", "rpi4", "cpu", 500, Link(10, 50))
TOLD = Telemetry("rpi5", "cpu", 10, 160, 16, 2.0, 0.5, 2.5, cut=False)


def test_mapping_and_function_do_the_same():
    for known in ({7: KNOWN}, lambda node: KNOWN if node == 7 else None):
        directory = ClientDirectory(known)
        assert directory.state(7) == KNOWN
        assert (directory.name(7), directory.device(7)) == ("garage", "rpi4")
        assert directory.state(8) is None
        assert (directory.name(8), directory.device(8)) == ("8", None)


def test_user_is_believed_over_the_client_except_for_the_startup():
    directory = ClientDirectory({7: KNOWN})
    directory.learn(7, TOLD, samples=3)
    assert directory.state(7) == replace(KNOWN, startup_s=0.5)
    directory.learn(7, replace(TOLD, startup_s=1.5))
    assert directory.state(7).startup_s == 1.0


def test_unknown_client_is_what_it_says_and_the_log_says_so(caplog):
    directory = ClientDirectory()
    with caplog.at_level(logging.WARNING):
        directory.learn(8, TOLD)
        assert directory.state(8) is None
        assert directory.device(8) == "rpi5"
        directory.learn(8, TOLD, samples=160)
    assert directory.state(8) == ClientState("8", "rpi5", "cpu", 160, Link(math.inf, math.inf), 0.5)
    assert directory.state(8).link.download_s(1e9) == 0.0
    assert len(caplog.records) == 1
    assert "node 8 is not in the directory" in caplog.text


def test_given_link_is_used_for_unknown_clients():
    directory = ClientDirectory(link=Link(1, 2))
    directory.learn(8, TOLD, samples=160)
    assert directory.state(8).link == Link(1, 2)


def test_forgetting_returns_to_what_the_user_said():
    directory = ClientDirectory({7: KNOWN})
    for node in (7, 8, 9):
        directory.learn(node, TOLD, samples=160)
    directory.forget(7)
    directory.forget(8)
    directory.forget(10)
    assert directory.state(7) == KNOWN
    assert directory.state(8) is None
    assert directory.state(9) is not None
