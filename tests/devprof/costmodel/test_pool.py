import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devprof.costmodel.families import model_family
from devprof.costmodel.pool import Pool, kin_groups
from devprof.costmodel.samples import Configuration, Observation
from devprof.errors import CostModelError

MANY = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in range(1, 12)]


def steps(fitted, features, sizes, device="board"):
    return fitted.bases[device].curve(features, np.array(sizes))


def test_nothing_measured_is_an_error():
    with pytest.raises(CostModelError, match="no measured step"):
        kin_groups([])


def test_one_row_gives_a_usable_scale(observe, tracer, true_step):
    fitted = Pool(tuple(observe(["plain2"]))).fit()
    assert steps(fitted, tracer("plain2"), [8])[0] == pytest.approx(true_step(tracer("plain2"), 8), rel=0.15)
    assert steps(fitted, tracer("plain4"), [8])[0] == pytest.approx(true_step(tracer("plain4"), 8), rel=0.4)


def test_many_rows_overrule_the_profile(observe, tracer, true_step):
    fitted = Pool(tuple(observe(MANY, (1, 8)) + observe(MANY, (4,), mode="head"))).fit()
    errors = [steps(fitted, tracer(name), [12])[0] / true_step(tracer(name), 12) - 1 for name in MANY]
    assert np.abs(errors).max() < 0.03


def test_a_family_never_measured_is_still_predicted(observe, tracer, true_step):
    fitted = Pool(tuple(observe(["plain1", "plain2", "thin1", "thin2", "cross1", "cross4"]))).fit()
    assert steps(fitted, tracer("token2"), [8])[0] == pytest.approx(true_step(tracer("token2"), 8), rel=0.5)


def test_times_in_another_unit_give_the_same_costs(observe):
    slow = Pool(tuple(observe(MANY[::5]))).fit().bases["board"].seconds
    fast = Pool(tuple(observe(MANY[::5], factor=lambda _: 1e-3))).fit().bases["board"].seconds
    assert np.array(fast) * 1000 == pytest.approx(np.array(slow), rel=1e-6)


def test_a_single_absurd_row_does_little_harm(observe, tracer, true_step):
    rows = observe(MANY, (8,), factor=lambda model: 20.0 if model == "thin4" else 1.0)
    fitted = Pool(tuple(rows)).fit()
    for name in ("plain3", "thin5", "token7"):
        assert steps(fitted, tracer(name), [8])[0] == pytest.approx(true_step(tracer(name), 8), rel=0.15)


def test_a_probe_of_kin_gives_the_level(observe, tracer, true_step):
    known = observe(MANY, (8,), device="old")
    probe = observe(["plain3"], (8,), device="new", factor=lambda _: 0.5)
    fitted = Pool(tuple(known + probe)).fit()
    for name in ("thin5", "token7"):
        assert steps(fitted, tracer(name), [8], "new")[0] == pytest.approx(0.5 * true_step(tracer(name), 8), rel=0.05)


def test_a_slow_model_is_slow_on_kin_too(observe):
    odd = {"thin3": 1.5}
    known = observe(MANY, (8,), device="old", factor=lambda name: odd.get(name, 1.0))
    probes = observe(["plain3", "token2", "cross2"], (8,), device="new", factor=lambda _: 0.5)
    known_there = Pool(tuple(known + probes)).fit().known("new")
    assert 0.2 < known_there.of("thin3", "full") < np.log(1.5)
    assert abs(known_there.of("thin5", "full")) < 0.1
    assert ("thin3", "full") in known_there.measured
    assert ("thin3", "head") not in known_there.measured


def test_left_out_rows_are_predicted_from_the_others(observe):
    rows = observe(MANY, (8,))
    pool = Pool(tuple(rows))
    fitted = pool.fit()
    out = np.array([3, 17])
    assert np.abs(pool.without(out, fitted).log_errors(out)).max() < 0.05
    shifted = Pool(tuple(observe(MANY, (8,), factor=lambda name: 3.0 if name in (MANY[3], MANY[17]) else 1.0)))
    errors = shifted.without(out, shifted.fit()).log_errors(out)
    assert errors == pytest.approx(np.log(3.0), abs=0.05)


def test_devices_with_steady_ratios_are_kin(observe):
    known = observe(MANY, (8,), device="old")
    twice = observe(MANY[:20], (8,), device="twice", factor=lambda _: 2.0)
    other = observe(MANY[:20], (8,), device="other", factor=lambda name: 3.0 if "thin" in name else 0.3)
    gpu = observe(MANY[:20], (8,), device="gpu", processor="cuda", factor=lambda _: 0.01)
    assert [pool.devices for pool in kin_groups(known + twice + other + gpu)] == [
        ("old", "twice"),
        ("gpu",),
        ("other",),
    ]


def test_a_device_with_few_rows_joins_its_kind_of_processor(observe):
    known = observe(MANY, (8,), device="old")
    gpu = observe(MANY, (8,), device="gpu", processor="cuda", factor=lambda _: 0.01)
    probe = observe(["thin3"], (8,), device="probe", processor="cuda", factor=lambda _: 0.02)
    assert [pool.devices for pool in kin_groups(known + gpu + probe)] == [("gpu", "probe"), ("old",)]


names = st.sampled_from(MANY)
rows = st.lists(st.tuples(names, st.integers(1, 512), st.floats(1e-5, 1e3)), min_size=1, max_size=10)


@settings(max_examples=30, deadline=None)
@given(rows)
def test_whatever_was_measured_predictions_are_positive_and_never_fall(tracer, measured):
    observations = [
        Observation("d", "cpu", Configuration(name, "full"), model_family(name), size, seconds, tracer(name))
        for name, size, seconds in measured
    ]
    base = Pool(tuple(observations)).fit().bases["d"]
    assert min(base.seconds) >= 0
    for one in observations:
        curve = base.curve(one.features, np.array([1, 2, 8, 1024]))
        assert curve[0] > 0
        assert (np.diff(curve) >= 0).all()
