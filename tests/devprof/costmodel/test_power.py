from dataclasses import replace

import numpy as np
import pytest

from devprof.costmodel.base import COLUMNS, BaseModel, work
from devprof.costmodel.power import KINDS, PowerRow, PowerTable
from devprof.errors import CostModelError

MODELS = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (1, 2, 4)]


@pytest.fixture
def seconds(true_seconds):
    return BaseModel(tuple(true_seconds.get(name, 0.0) for name in COLUMNS))


@pytest.fixture
def rows(observe, true_energy):
    def make(names=MODELS, sizes=(1, 4, 16), **settings):
        return tuple(
            PowerRow(replace(one, value=true_energy(one.features, one.batch_size) / one.value), **settings)
            for one in observe(names, sizes)
        )

    return make


def power_w(fitted, seconds, one):
    size = np.array([one.batch_size])
    return fitted.joules.curve(one.features, size)[0] / seconds.curve(one.features, size)[0]


def test_one_row_gives_one_power_for_all(rows, seconds, tracer):
    (row,) = rows(("plain1",), (8,))
    fitted = PowerTable((row,), seconds).fit()
    assert fitted.watts == pytest.approx([row.observation.value] * len(KINDS))


def test_power_of_models_never_seen_is_recovered(rows, seconds):
    fitted = PowerTable(rows(idle_power_w=2.0), seconds).fit()
    assert fitted.idle_power_w == 2.0
    assert min(fitted.watts) > 2.0
    for row in rows(("plain9", "thin7", "token8"), (2, 64)):
        assert power_w(fitted, seconds, row.observation) == pytest.approx(row.observation.value, rel=0.02)


def test_kinds_that_draw_very_differently_are_told_apart(observe, seconds):
    """Products draw five times what the rest does: beside that, one power for all is far off."""
    kinds = np.array([10.0 if name.endswith("_macs") else 2.0 for name in COLUMNS])
    costs = np.array(seconds.seconds)

    def true_power_w(one):
        done = work(one.features, np.array([one.batch_size]))[0] * costs
        return float(done @ kinds / done.sum())

    rows = [PowerRow(replace(one, value=true_power_w(one))) for one in observe(MODELS, (1, 4, 16))]
    fitted = PowerTable(tuple(rows), seconds).fit()
    products, traffic, _ = fitted.watts
    assert products == pytest.approx(10.0, rel=0.1)
    assert traffic < 3.0
    unseen = observe(("plain9", "thin7", "token8", "cross6"), (2, 64))
    usual = np.exp(np.mean([np.log(row.observation.value) for row in rows]))
    errors = [abs(power_w(fitted, seconds, one) / true_power_w(one) - 1) for one in unseen]
    assert max(errors) < 0.05
    assert np.mean(errors) < 0.3 * np.mean([abs(usual / true_power_w(one) - 1) for one in unseen])


def test_idle_power_bounds_every_kind_and_is_optional(rows, seconds):
    assert min(PowerTable(rows(idle_power_w=3.0), seconds).fit().watts) > 3.0
    without = PowerTable(rows(), seconds).fit()
    assert without.idle_power_w == 0.0
    assert min(without.watts) > 0


def test_a_device_that_idles_above_its_work_still_has_a_power(rows, seconds):
    fitted = PowerTable(rows(idle_power_w=50.0), seconds).fit()
    lowest = min(row.observation.value for row in rows())
    assert fitted.idle_power_w == pytest.approx(0.95 * lowest)
    assert min(fitted.watts) > fitted.idle_power_w


def test_a_row_of_a_poor_meter_counts_less(rows, seconds):
    def mean_watts(error_rel):
        good, odd = rows(("plain1", "token1"), (8,))
        odd = replace(odd, observation=replace(odd.observation, value=20.0), error_rel=error_rel)
        return np.mean(PowerTable((good, odd), seconds).fit().watts)

    assert mean_watts(1.0) < 0.8 * mean_watts(0.0)


def test_siblings_share_what_they_draw_beyond_the_kinds(rows, seconds):
    table = rows()
    odd = tuple(
        replace(row, observation=replace(row.observation, value=1.3 * row.observation.value))
        if row.observation.configuration.model == "thin2"
        else row
        for row in table
    )
    effects = PowerTable(odd, seconds).fit().effects
    assert effects.of("thin2", "full") > effects.of("thin9", "full") > effects.of("plain9", "full")
    assert effects.of("thin2", "head") == effects.of("thin2", "full")
    assert effects.of("unheard1", "full") == 0.0


def test_errors_of_left_out_rows_do_not_know_them(rows, seconds):
    table = rows()
    out = np.array([row for row, one in enumerate(table) if one.observation.family == "thin"])
    rest = np.setdiff1d(np.arange(len(table)), out)
    whole = PowerTable(table, seconds)
    expected = PowerTable(tuple(table[row] for row in rest), seconds).fit()
    found = whole.fit(rest, whole.fit())
    assert found.watts == pytest.approx(expected.watts, rel=0.02)
    assert found.log_errors(out) == pytest.approx(
        [np.log(table[row].observation.value / power_w(found, seconds, table[row].observation)) for row in out]
    )


def test_on_an_accelerator_energy_grows_with_the_batch_and_is_never_negative(rows, seconds, tracer):
    beside = replace(seconds, overlap=1.5)
    fitted = PowerTable(rows(), beside).fit()
    curve = fitted.joules.curve(tracer("thin3"), np.array([0.0, 1, 2, 4, 1000]))
    assert (np.diff(curve) > 0).all()
    assert curve[0] >= 0


def test_no_power_is_an_error(seconds):
    with pytest.raises(CostModelError, match="power_w"):
        PowerTable((), seconds).fit()
