"""Making control groups, on trees of plain files: where they are made, what is written, what is removed."""

import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_cgroups import FakeGroups

from devprof.device import confine
from devprof.device.confine import confined, period_us
from devprof.device.limits import Limits
from devprof.errors import DevprofError

MIB = 1 << 20
HALF = Limits(cpus=0.5, memory_bytes=256 * MIB)


@pytest.fixture
def groups(tmp_path, monkeypatch):
    return FakeGroups(tmp_path, monkeypatch)


@pytest.fixture
def fake_kernel(groups, monkeypatch):
    """Let new groups have files, as the kernel's do, let a group with files be removed, and kill nobody; lists what was done."""
    removed, killed = {}, []

    def make(folder):
        folder.mkdir()
        for name in ("cgroup.procs", "cgroup.kill", "memory.swap.max"):
            (folder / name).touch()

    def remove(folder):
        removed[folder.name] = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}
        shutil.rmtree(folder)

    monkeypatch.setattr(confine, "_make_folder", make)
    monkeypatch.setattr(Path, "rmdir", remove)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    return SimpleNamespace(removed=removed, killed=killed)


def offer(groups, *paths, hand_down="cpu memory", procs=""):
    """Groups of version 2 that have the controllers and hand some down."""
    for path in paths:
        groups.file(f"{path}/cgroup.controllers", "cpu io memory")
        groups.file(f"{path}/cgroup.subtree_control", hand_down)
        groups.file(f"{path}/cgroup.procs", procs)


def made_in(folder):
    return [path for path in folder.iterdir() if path.name.startswith("devprof-emulate-")]


class TestVersion2:
    def test_the_group_is_a_sibling_where_the_own_group_is_inhabited(self, groups, fake_kernel):
        groups.unified("0::/app/mine")
        offer(groups, "fs", "fs/app")
        offer(groups, "fs/app/mine", hand_down="", procs="1\n2")
        with confined(HALF) as inside:
            (folder,) = made_in(groups.root / "fs/app")
            inside.admit(4711)
            assert inside.versions == (2,)
        assert not folder.exists()
        assert fake_kernel.killed == [(4711, signal.SIGKILL)]
        assert fake_kernel.removed[folder.name] == {
            "cpu.max": "5000 10000",
            "memory.max": str(256 * MIB),
            "memory.swap.max": "0",
            "cgroup.procs": "4711",
            "cgroup.kill": "1",
        }

    def test_a_process_that_is_not_to_be_seen_is_not_killed_by_number(self, groups, fake_kernel):
        groups.unified()
        offer(groups, "fs")
        with confined(HALF):
            (folder,) = made_in(groups.root / "fs")
            (folder / "cgroup.procs").write_text("0\n")
        assert fake_kernel.killed == []

    def test_limits_that_are_left_behind_are_taken_along(self, groups, fake_kernel):
        groups.unified("0::/mine")
        offer(groups, "fs")
        offer(groups, "fs/mine", hand_down="", procs="1\n2")
        groups.file("fs/mine/memory.max", 64 * MIB)
        with confined(Limits(cpus=0.25)):
            (folder,) = made_in(groups.root / "fs")
            assert (folder / "memory.max").read_text() == str(64 * MIB)
            assert (folder / "cpu.max").read_text() == "2500 10000"

    def test_controllers_are_switched_on_where_no_group_hands_them_down(self, groups, fake_kernel):
        groups.unified()
        offer(groups, "fs", hand_down="io")
        with confined(HALF):
            assert (groups.root / "fs/cgroup.subtree_control").read_text() == "+cpu +memory"

    def test_a_process_that_is_alone_in_a_delegated_group_moves_into_a_leaf(self, groups, fake_kernel):
        groups.unified()
        offer(groups, "fs", hand_down="", procs=os.getpid())
        with confined(HALF):
            assert (groups.root / f"fs/devprof-emulate-{os.getpid()}-self/cgroup.procs").read_text() == str(os.getpid())

    def test_groups_of_other_users_are_named(self, groups, monkeypatch):
        groups.unified()
        offer(groups, "fs")
        monkeypatch.setattr(confine.os, "access", lambda path, mode: False)
        with pytest.raises(DevprofError, match=r"may not make control groups in .*/fs"), confined(HALF):
            pytest.fail("went in")

    def test_a_switched_off_controller_is_named_with_the_way_to_switch_it_on(self, groups):
        groups.unified()
        groups.file("fs/cgroup.controllers", "cpu io")
        with (
            pytest.raises(DevprofError, match=r"fs lacks the controllers: memory .*cgroup_enable=memory"),
            confined(HALF),
        ):
            pytest.fail("went in")

    def test_a_refused_limit_leaves_no_group(self, groups, fake_kernel, monkeypatch):
        groups.unified()
        offer(groups, "fs")
        make = confine._make_folder

        def make_with_refusal(folder):
            make(folder)
            (folder / "cpu.max").mkdir()

        monkeypatch.setattr(confine, "_make_folder", make_with_refusal)
        with pytest.raises(DevprofError, match=r"cpu.max cannot be set to 5000 10000"), confined(HALF):
            pytest.fail("went in")
        assert made_in(groups.root / "fs") == []


class TestVersion1:
    def test_groups_are_made_below_the_own_ones(self, groups, fake_kernel):
        groups.mount("cgroup", "cpu", controllers="cpu,cpuacct")
        groups.mount("cgroup", "memory", controllers="memory")
        groups.member("5:cpu,cpuacct:/", "4:memory:/mine")
        (groups.root / "memory/mine").mkdir()
        with confined(HALF) as inside:
            (cpu,) = made_in(groups.root / "cpu")
            (memory,) = made_in(groups.root / "memory/mine")
            assert (cpu / "cpu.cfs_period_us").read_text() == "10000"
            assert (cpu / "cpu.cfs_quota_us").read_text() == "5000"
            assert (memory / "memory.limit_in_bytes").read_text() == str(256 * MIB)
            assert inside.versions == (1,)
        assert not cpu.exists()
        assert not memory.exists()

    def test_a_tree_that_cannot_be_written_is_named(self, groups):
        groups.mount("cgroup", "cpu", controllers="cpu")
        groups.member("5:cpu:/gone")
        with (
            pytest.raises(DevprofError, match=r"no control group can be made in .*cpu/gone \("),
            confined(Limits(cpus=1)),
        ):
            pytest.fail("went in")


@pytest.mark.parametrize(
    ("processes", "stays"), [("", False), ("0", True), (str(os.getpid()), True)], ids=["none", "hidden", "alive"]
)
def test_groups_of_killed_emulations_are_swept(groups, fake_kernel, processes, stays):
    groups.unified()
    offer(groups, "fs")
    gone = 1 << 30  # above the kernel's largest process id
    groups.file(f"fs/devprof-emulate-{gone}-abc/cgroup.procs", processes)
    groups.file("proc/1/stat", "alive")
    groups.file("fs/devprof-emulate-1-abc/cgroup.procs", "")
    with confined(HALF):
        pass
    assert (groups.root / f"fs/devprof-emulate-{gone}-abc").exists() == stays
    assert (groups.root / "fs/devprof-emulate-1-abc").exists()


@pytest.mark.parametrize(("cpus", "period"), [(0.01, 100_000), (0.05, 20_000), (0.1, 10_000), (4, 10_000)])
def test_a_period_grows_only_for_shares_below_the_least_quota(cpus, period):
    assert period_us(cpus) == period
