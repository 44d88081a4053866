"""Limits that control groups set, read from trees as they are found on servers, desktops and in containers."""

import pytest
from fake_cgroups import FakeGroups
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devprof.device.cgroup import own_group
from devprof.device.limits import Limits, cpu_limit, memory_limit_bytes, oom_kills_here

GIB = 1 << 30
NO_LIMIT_V1 = 9223372036854771712


@pytest.fixture
def groups(tmp_path, monkeypatch):
    return FakeGroups(tmp_path, monkeypatch)


class TestVersion1:
    @pytest.fixture(autouse=True)
    def _mounts(self, groups):
        groups.mount("cgroup", "cpu", controllers="cpu,cpuacct")
        groups.mount("cgroup", "memory", controllers="memory")
        groups.member("5:cpu,cpuacct:/jobs/mine", "4:memory:/jobs/mine", "1:name=systemd:/user.slice")

    def test_quota_over_period_is_the_number_of_cpus(self, groups):
        groups.file("cpu/jobs/mine/cpu.cfs_quota_us", "150000")
        groups.file("cpu/jobs/mine/cpu.cfs_period_us", "100000")
        assert cpu_limit() == 1.5

    def test_the_tightest_group_above_counts(self, groups):
        for group, quota in (("cpu/jobs/mine", 150000), ("cpu/jobs", 25000)):
            groups.file(f"{group}/cpu.cfs_quota_us", quota)
            groups.file(f"{group}/cpu.cfs_period_us", "100000")
        groups.file("memory/jobs/mine/memory.limit_in_bytes", 4 * GIB)
        groups.file("memory/jobs/memory.limit_in_bytes", GIB)
        groups.file("memory/memory.limit_in_bytes", NO_LIMIT_V1)
        assert (cpu_limit(), memory_limit_bytes()) == (0.25, GIB)

    def test_minus_one_and_a_huge_number_are_no_limits(self, groups):
        groups.file("cpu/jobs/mine/cpu.cfs_quota_us", "-1")
        groups.file("cpu/jobs/mine/cpu.cfs_period_us", "100000")
        groups.file("memory/jobs/mine/memory.limit_in_bytes", NO_LIMIT_V1)
        assert (cpu_limit(), memory_limit_bytes()) == (None, None)

    def test_a_removed_group_leaves_the_limits_above_it(self, groups):
        groups.file("memory/jobs/memory.limit_in_bytes", GIB)
        groups.member("4:memory:/jobs/mine (deleted)")
        assert memory_limit_bytes() == GIB

    def test_kills_are_counted_by_the_own_group(self, groups):
        groups.file("memory/jobs/mine/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3")
        assert oom_kills_here() == 3

    def test_old_kernels_count_no_kills(self, groups):
        groups.file("memory/jobs/mine/memory.oom_control", "oom_kill_disable 0\nunder_oom 0")
        assert oom_kills_here() is None


class TestVersion2:
    def test_quota_memory_and_kills(self, groups):
        groups.unified("0::/app.slice/mine.scope")
        groups.file("fs/app.slice/mine.scope/cpu.max", "5000 10000")
        groups.file("fs/app.slice/mine.scope/memory.max", "max")
        groups.file("fs/app.slice/memory.max", 2 * GIB)
        groups.file("fs/app.slice/mine.scope/memory.events", "low 0\noom 2\noom_kill 1\noom_group_kill 0")
        assert (cpu_limit(), memory_limit_bytes(), oom_kills_here()) == (0.5, 2 * GIB, 1)

    def test_the_root_group_has_no_files_and_so_no_limits(self, groups):
        groups.unified()
        assert (cpu_limit(), memory_limit_bytes(), oom_kills_here()) == (None, None, None)

    def test_max_is_no_limit(self, groups):
        groups.unified("0::/mine")
        groups.file("fs/mine/cpu.max", "max 100000")
        assert cpu_limit() is None


class TestMixedAndContained:
    def test_each_controller_is_read_in_the_version_that_has_it(self, groups):
        groups.mount("cgroup", "cpu", controllers="cpu")
        groups.mount("cgroup2", "unified")
        groups.member("1:cpu:/a", "0::/b")
        groups.file("cpu/a/cpu.cfs_quota_us", "50000")
        groups.file("cpu/a/cpu.cfs_period_us", "100000")
        groups.file("unified/b/cpu.max", "1000 100000")
        groups.file("unified/b/memory.max", GIB)
        assert (cpu_limit(), memory_limit_bytes()) == (0.5, GIB)

    def test_a_container_sees_its_own_group_as_the_root_of_the_mount(self, groups):
        groups.mount("cgroup", "memory", root="/docker/abc", controllers="memory")
        groups.member("4:memory:/docker/abc/worker")
        groups.file("memory/memory.limit_in_bytes", GIB)
        assert memory_limit_bytes() == GIB
        assert own_group("memory").line == (groups.root / "memory" / "worker", groups.root / "memory")

    @pytest.mark.parametrize("member", ["0::/other", "0::/docker/abc/../../other", "0::/docker/abcdef"])
    def test_a_group_outside_of_the_mount_is_unknown(self, groups, member):
        groups.mount("cgroup2", "fs", root="/docker/abc")
        groups.member(member)
        groups.file("fs/memory.max", GIB)
        assert memory_limit_bytes() is None

    def test_a_mount_point_with_a_blank_in_its_name(self, groups):
        groups.mount("cgroup2", "my fs")
        groups.member("0::/")
        groups.file("my fs/memory.max", GIB)
        assert memory_limit_bytes() == GIB

    def test_a_relocated_sysfs_is_read_in_its_place(self, groups, monkeypatch):
        monkeypatch.setenv("DEVPROF_SYSFS", str(groups.root / "host"))
        groups.member("0::/")
        (groups.proc / "mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
        groups.file("host/fs/cgroup/memory.max", GIB)
        assert memory_limit_bytes() == GIB

    def test_without_control_groups_nothing_is_known(self, groups):
        assert (cpu_limit(), memory_limit_bytes(), oom_kills_here()) == (None, None, None)


LINE = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60),
    st.sampled_from(
        ["0::/", "1:cpu:/a", "4:memory:/a/../b", "30 23 0:26 / /x rw - cgroup2 cgroup2 rw", "5000 0", "max"]
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINE, max_size=4), st.lists(LINE, max_size=4), LINE)
def test_no_text_of_the_kernels_makes_it_raise(tmp_path, member, mounts, value):
    with pytest.MonkeyPatch.context() as monkeypatch:
        groups = FakeGroups(tmp_path / str(len(list(tmp_path.iterdir()))), monkeypatch)
        groups.unified()
        for name in ("cpu.max", "memory.max", "memory.events"):
            groups.file(f"fs/{name}", value)
        (groups.proc / "mountinfo").open("a").write("\n".join(mounts))
        for lines in (["0::/"], member):
            groups.member(*lines)
            assert cpu_limit() is None or cpu_limit() > 0
            assert memory_limit_bytes() is None or memory_limit_bytes() >= 0
            assert oom_kills_here() is None or oom_kills_here() >= 0


@pytest.mark.parametrize(
    "wrong", [{"cpus": 0}, {"cpus": float("nan")}, {"cpus": float("inf")}, {"memory_bytes": 512}, {"cores": 0}]
)
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)).partition("_")[0]):
        Limits(**wrong)
