"""The driver against the real service and client of jetson-stats."""

import os
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pytest
from fake_meters_jetson import JetsonTree, JtopService, Steps

from devprof.meters import jtop
from devprof.meters.base import MeterError, MeterLostError, now_ns
from devprof.meters.catalogue import split_spec

# Looked for, not imported: its import makes every later test fork.
pytestmark = pytest.mark.skipif(find_spec("jtop") is None, reason="jetson-stats is not installed")

FAST_S = 0.1


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service on a board; devprof sees the board's files too."""
    running = []

    def start(board, power=8.0, **options):
        tree = JetsonTree(tmp_path, board, power).use(monkeypatch) if board else None
        running.append(JtopService(tree, **{"interval_s": FAST_S} | options))
        running[-1].tree = tree
        return running[-1]

    yield start
    for entry in running:
        entry.close()


def gather(meter, enough, timeout_s=8.0):
    """All readings until there are enough."""
    readings = []
    end = time.monotonic() + timeout_s
    while not enough(readings):
        assert time.monotonic() < end, f"waited too long, got {readings}"
        readings += meter.read()
        time.sleep(0.01)
    return readings


def of(readings, domain):
    return [reading.power_w for reading in readings if reading.domain == domain]


@pytest.mark.parametrize(
    ("board", "rule", "headline"),
    [
        ("agx-orin-jp6", "jetson-agx-orin/1", ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),
        ("orin-nx-jp6", "jetson-orin-nx-nano/1", ("VDD_IN",)),
        ("nano-jp4", "jetson-nano/1", ("POM_5V_IN",)),
        ("thor-jp7", "jetson-thor/1", ("VIN",)),
    ],
)
def test_the_service_gives_the_total_by_the_boards_rule(service, board, rule, headline):
    running = service(board, Steps((0, 8.0), (2, 20.0)))
    before = now_ns()
    meter = jtop.open_meter(split_spec(f"jtop:{running.socket}")[1])
    assert meter.info.rule == rule
    assert tuple(sorted(headline)) == tuple(entry.domain for entry in meter.info.channels if entry.headline)
    running.tree.advance(2.0)
    shown_w = running.tree.shown_w(20.0)
    readings = gather(
        meter, lambda found: sum(sum(of(found, name)[-1:]) for name in headline) == pytest.approx(shown_w)
    )
    stamps = [reading.t_ns for reading in readings]
    assert before < stamps[0]
    assert stamps == sorted(stamps)
    assert len({(reading.t_ns, reading.domain) for reading in readings}) == len(readings)
    meter.close()


def test_an_interval_that_another_client_has_set_is_said(service):
    running = service("orin-nx-jp6")
    meter = jtop.open_meter(str(running.socket))
    assert meter.info.period_s == pytest.approx(FAST_S)
    assert any("another client has set the interval of the jtop service to 0.1 s" in note for note in meter.info.notes)
    meter.close()
    meter.close()


def test_the_first_client_decides_the_interval(service):
    running = service("orin-nx-jp6", interval_s=0.0)
    meter = jtop.open_meter(str(running.socket))
    assert meter.info.period_s == 0.5
    assert not any("another client" in note for note in meter.info.notes)
    meter.close()


def test_a_service_without_sensors_is_no_meter(service):
    running = service(None)
    with pytest.raises(MeterError, match="sees no power rails"):
        jtop.open_meter(str(running.socket))


def test_a_service_that_is_down_is_named_with_the_command_that_starts_it(tmp_path):
    with pytest.raises(MeterError, match="no jtop service answers") as failure:
        jtop.open_meter(str(tmp_path / "jtop.sock"))
    assert "systemctl start jtop" in failure.value.remedy


def test_another_version_is_named_with_the_command_that_installs_it(service):
    running = service("orin-nx-jp6", interval_s=0.0, version="4.3.2")
    with pytest.raises(MeterError, match=r"is jetson-stats 4\.3\.2, the client here is 7\.") as failure:
        jtop.open_meter(str(running.socket))
    assert "pip install jetson-stats==4.3.2" in failure.value.remedy


def test_a_service_that_stands_still_is_a_break_and_recovers(service):
    running = service("orin-nx-jp6")
    meter = jtop.open_meter(str(running.socket))
    gather(meter, lambda found: len(of(found, "VDD_IN")) >= 2)
    running.stop()
    end, found, slowest_s = time.monotonic() + 0.5, [], 0.0
    while time.monotonic() < end:
        start = time.monotonic()
        found += meter.read()
        slowest_s = max(slowest_s, time.monotonic() - start)
        time.sleep(0.01)
    running.resume()
    assert of(found, "VDD_IN").count(None) == 1
    assert slowest_s < 0.25
    assert gather(meter, lambda found: found)
    meter.close()


def test_a_service_that_dies_is_a_break_and_a_new_one_is_found(service):
    running = service("orin-nx-jp6")
    meter = jtop.open_meter(str(running.socket))
    gather(meter, lambda found: found)
    running.kill()
    assert of(gather(meter, lambda found: None in of(found, "VDD_IN")), "VDD_IN")[-1] is None
    running.start()
    readings = gather(meter, lambda found: of(found, "VDD_IN"))
    assert of(readings, "VDD_IN")[-1] == pytest.approx(8.0)
    meter.close()


def test_a_service_that_stays_dead_loses_the_meter(service):
    running = service("orin-nx-jp6")
    meter = jtop.JtopMeter(running.socket, patience_s=0.3)
    running.kill()
    with pytest.raises(MeterLostError, match="no jtop service answers"):
        gather(meter, lambda _: False)
    meter.close()
    assert not [thread for thread in threading.enumerate() if "jtop" in thread.name and not thread.daemon]


LEAVES = """
import multiprocessing, sys
from devprof.meters import jtop
multiprocessing.set_start_method("spawn")
meter = jtop.open_meter(sys.argv[1])
print(multiprocessing.get_start_method(), flush=True)
sys.stdin.readline()
meter.close()
print("closed", flush=True)
"""


def test_a_process_keeps_its_start_method_and_can_end_while_the_service_stands_still(service):
    running = service("orin-nx-jp6")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", LEAVES, running.socket], stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout.readline() == "spawn\n"
        running.stop()
        try:
            out, _ = child.communicate("\n", timeout=5.0)
        finally:
            child.kill()
    assert out == "closed\n"
    assert child.returncode == 0


REFUSED = """
import os, sys
import multiprocessing.synchronize
import jtop.service
from devprof.meters import jtop
from devprof.meters.base import MeterError
os.setgid(65534), os.setuid(65534)
try:
    jtop.open_meter(sys.argv[1])
except MeterError as error:
    print(error.reason, "|", error.remedy)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_user_outside_the_group_is_told_how_to_join_it(service):
    running = service("orin-nx-jp6")
    running.folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, running.socket], capture_output=True, text=True, check=True, timeout=20
    )
    assert "may not be opened by this user | sudo usermod -aG jtop $USER" in done.stdout
