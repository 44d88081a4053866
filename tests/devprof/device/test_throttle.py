from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.device.state import State
from devprof.device.throttle import Throttling, evidence, judge

COOL = State(frequency_hz=2e9, governor="performance", caps=(("policy0", 2e9),), throttle_counts=(("core", 5),))


def during(*changes, base=COOL):
    """The base before and after, and in between one state for every change."""
    return [base, *(replace(base, **change) for change in changes), base]


def test_a_device_at_full_speed_is_not_throttled():
    assert judge([COOL, COOL, COOL]) == Throttling("none")


@pytest.mark.parametrize("states", [[], [State()], [State(temperature_c=80.0, governor="performance")] * 3])
def test_where_nothing_can_tell_there_is_no_verdict(states):
    assert judge(states) == Throttling(None)


@pytest.mark.parametrize(
    ("bit", "reason"),
    [
        (0, "firmware reports under-voltage"),
        (1, "firmware caps the ARM frequency"),
        (2, "firmware throttles the device"),
        (3, "firmware reports its soft temperature limit"),
    ],
)
def test_the_firmware_confirms_by_what_is_and_by_what_has_newly_been(bit, reason):
    base = State(frequency_hz=1e9, firmware_flags=0)
    assert judge(during({"firmware_flags": 1 << bit}, base=base)) == Throttling("confirmed", (reason,))
    after = replace(base, firmware_flags=1 << (bit + 16))
    assert judge([base, base, after]) == Throttling("confirmed", (reason,))


def test_what_happened_before_the_run_is_not_its_fault():
    base = State(frequency_hz=1e9, firmware_flags=0x50000)
    assert judge([base, base]) == Throttling("none")
    assert judge([base, replace(base, firmware_flags=0x70000)]).reasons == ("firmware caps the ARM frequency",)


def test_counters_confirm_if_they_rise():
    states = [COOL, COOL, replace(COOL, throttle_counts=(("core", 7),))]
    assert judge(states) == Throttling("confirmed", ("the throttle counter core rose by 2",))


@pytest.mark.parametrize(
    "reason", ["hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"]
)
def test_the_gpus_own_word_confirms(reason):
    base = State("cuda", nvml_reasons=("gpu_idle",))
    found = judge(during({"nvml_reasons": (reason,)}, base=base))
    assert found.verdict == "confirmed"
    assert len(found.reasons) == 1


def test_a_gpu_at_its_power_cap_is_suspected_only():
    base = State("cuda", nvml_reasons=())
    assert judge(during({"nvml_reasons": ("sw_power_cap",)}, base=base)).verdict == "suspected"
    assert judge(during({"nvml_reasons": ("gpu_idle", "applications_clocks_setting")}, base=base)).verdict == "none"


def test_a_slower_clock_under_performance_is_suspected():
    assert judge(during({"frequency_hz": 1.91e9})).verdict == "none"
    found = judge(during({}, {"frequency_hz": 1.5e9}))
    assert found == Throttling("suspected", ("the frequency fell to 1500 of 2000 MHz under the governor performance",))


@pytest.mark.parametrize("governor", ["powersave", "schedutil", "ondemand", "schedutil+performance", None])
def test_other_governors_lower_the_clock_by_design(governor):
    states = [replace(state, governor=governor) for state in during({"frequency_hz": 1e9})]
    assert judge(states).verdict == "none"


def test_cores_that_sleep_before_and_after_a_run_are_not_throttled():
    idle = replace(COOL, frequency_hz=0.8e9)
    assert judge([idle, COOL, COOL, idle]).verdict == "none"


def test_turbo_that_ends_is_not_throttling_but_less_than_nominal_is():
    base = replace(COOL, frequency_hz=4.7e9, nominal_frequency_hz=2.5e9)
    assert judge(during({"frequency_hz": 2.6e9}, base=base)).verdict == "none"
    assert judge(during({"frequency_hz": 2.0e9}, base=base)).verdict == "suspected"


def test_a_cap_that_falls_is_suspected_for_each_clock():
    base = replace(COOL, governor="schedutil", caps=(("policy0", 1.8e9), ("17000000.gpu", 0.6e9)))
    found = judge(during({"caps": (("policy0", 1.8e9), ("17000000.gpu", 0.5e9))}, base=base))
    assert found.reasons == ("the highest frequency allowed for 17000000.gpu fell from 600 to 500 MHz",)
    raised = replace(base, caps=(("policy0", 2.0e9), ("17000000.gpu", 0.6e9)))
    assert judge([base, raised]).verdict == "none"


def test_a_zone_at_its_passive_trip_point_is_suspected_and_named_once():
    hot = {"zones_at_passive_trip": ("cpu-thermal",)}
    assert judge(during(hot, hot)) == Throttling(
        "suspected", ("the thermal zone cpu-thermal reached the point where the kernel slows the device",)
    )


def test_what_is_confirmed_comes_before_what_is_suspected():
    found = judge(during({"frequency_hz": 1e9, "firmware_flags": 4}, base=replace(COOL, firmware_flags=0)))
    assert found.verdict == "confirmed"
    assert [reason.split()[0] for reason in found.reasons] == ["firmware", "the"]


def test_a_cpu_at_full_speed_says_nothing_about_a_gpu():
    assert evidence(replace(COOL, processor="cuda")) == ()
    assert judge([replace(COOL, processor="cuda")] * 3).verdict is None
    assert evidence(State("cuda", gpu_frequency_hz=3e8)) == ("the GPU's frequency",)


some_states = st.builds(
    State,
    st.sampled_from(["cpu", "cuda"]),
    frequency_hz=st.none() | st.floats(1e6, 1e10),
    nominal_frequency_hz=st.none() | st.floats(1e6, 1e10),
    caps=st.lists(st.tuples(st.sampled_from("ab"), st.floats(1e6, 1e10)), max_size=2).map(tuple),
    governor=st.sampled_from([None, "performance", "schedutil"]),
    throttle_counts=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=2).map(tuple),
    firmware_flags=st.none() | st.integers(0, 1 << 20),
    zones_at_passive_trip=st.sampled_from([(), ("a",)]),
    nvml_reasons=st.none() | st.lists(st.sampled_from(["hw_slowdown", "sw_power_cap", "new_reason"])).map(tuple),
)


@given(st.lists(some_states, max_size=6))
def test_a_verdict_has_reasons_and_none_has_no_verdict_without_evidence(states):
    found = judge(states)
    assert bool(found.reasons) == (found.verdict in {"suspected", "confirmed"})
    if found.verdict == "none":
        assert any(evidence(state) for state in states)
    assert len(set(found.reasons)) == len(found.reasons)
