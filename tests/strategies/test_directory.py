from __future__ import annotations

import logging
import math
from dataclasses import replace

from devprof.plan.settings import ClientState
from devprof.records import Link
from strategies.compat import NodeInfo
from strategies.directory import ClientDirectory
from strategies.identity import Identity
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
    assert directory.state(7) == replace(KNOWN, startup_s=0.5, fixed_sd_s=directory.state(7).fixed_sd_s)
    directory.learn(7, replace(TOLD, startup_s=1.5))
    assert directory.state(7).startup_s == 1.0
    directory.learn(7, replace(TOLD, startup_s=30.0))
    assert directory.state(7).startup_s == 1.5


def test_unknown_client_is_what_it_says_and_the_log_says_so(caplog):
    directory = ClientDirectory()
    with caplog.at_level(logging.WARNING):
        directory.learn(8, TOLD)
        assert directory.state(8) is None
        assert directory.device(8) == "rpi5"
        directory.learn(8, TOLD, samples=160)
    told = ClientState("8", "rpi5", "cpu", 160, Link(math.inf, math.inf), 0.5)
    assert directory.state(8) == replace(told, fixed_sd_s=directory.state(8).fixed_sd_s)
    assert directory.state(8).link.download_s(1e9) == 0.0
    assert len(caplog.records) == 1
    assert "client 8 (node 8) is not in the directory" in caplog.text


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


# What nodes say they are ----------------------------------------------------------------------------------------------

PI = Identity("rpi5", "cpu", device_id="pi-3", memory_bytes=4 << 30, samples=200, startup_s=2.0, energy_budget_j=50.0)


def test_identity_is_enough_to_plan_for():
    directory = ClientDirectory()
    directory.identify(8, PI, elapsed_s=5.0)
    state = directory.state(8)
    assert (state.client, state.device, state.samples) == ("pi-3", "rpi5", 200)
    assert (state.startup_s, state.overhead_s, state.memory_limit_bytes) == (2.0, 3.0, 4 << 30)
    assert state.energy_budget_j == 50.0
    assert state.fixed_sd_s > 0


def test_what_a_round_takes_replaces_what_the_question_took():
    directory = ClientDirectory()
    directory.identify(8, PI, elapsed_s=5.0)
    directory.learn(8, TOLD, overhead_s=1.0)
    assert (directory.state(8).startup_s, directory.state(8).overhead_s) == (0.5, 1.0)


def test_history_follows_a_board_that_comes_back_under_a_new_number():
    directory = ClientDirectory()
    directory.identify(8, PI)
    directory.learn(8, TOLD, overhead_s=1.0)
    directory.identify(9, PI, online=[9])
    assert directory.name(9) == "pi-3"
    assert directory.state(9).overhead_s == 1.0
    assert directory.name(8) == "8"


def test_two_boards_that_are_online_cannot_have_one_name(caplog):
    directory = ClientDirectory()
    directory.identify(8, PI, online=[8, 9])
    with caplog.at_level(logging.WARNING):
        directory.identify(9, replace(PI, samples=50), online=[8, 9])
    assert (directory.name(8), directory.name(9)) == ("pi-3", "9")
    assert (directory.state(8).samples, directory.state(9).samples) == (200, 50)
    assert "node 9 says it is 'pi-3', as node 8 does" in caplog.text


def test_the_user_may_know_clients_by_name():
    directory = ClientDirectory({"garage": KNOWN})
    assert directory.state(7) is None
    directory.take_names([NodeInfo(node_id=7, name="garage")])
    assert directory.state(7) == KNOWN
    assert directory.processor(7) == "cpu"


def test_a_registered_name_gives_way_to_the_boards_own():
    directory = ClientDirectory()
    directory.take_names([NodeInfo(node_id=7, name="shelf-2"), NodeInfo(node_id=8)])
    assert (directory.name(7), directory.name(8)) == ("shelf-2", "8")
    directory.learn(7, TOLD, samples=160)
    directory.identify(7, PI)
    assert directory.name(7) == "pi-3"
    assert directory.state(7).startup_s == 0.5
