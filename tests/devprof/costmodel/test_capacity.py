import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.costmodel.capacity import MOST_SAMPLES, largest_batches, monotone_bounds
from devprof.costmodel.model import CostModel

SIZES = np.arange(1.0, 41.0)


def line(fixed, per_sample):
    return lambda sizes: fixed + per_sample * sizes


def test_the_largest_batch_is_the_last_within_the_limit():
    assert largest_batches(line(100, 10), [109, 110, 119, 120, 10_100, 200_000]).tolist() == [0, 1, 1, 2, 1000, 19_990]


def test_what_does_not_grow_fits_up_to_the_end_of_the_search():
    assert largest_batches(line(100, 0), [99, 100]).tolist() == [0, MOST_SAMPLES]
    assert largest_batches(line(100, 1), [1e30]).tolist() == [MOST_SAMPLES]


def test_no_limit_is_no_answer():
    assert largest_batches(line(100, 1), []).tolist() == []


@given(st.floats(0, 1e9), st.floats(1, 1e7), st.lists(st.floats(-1e9, 1e10), min_size=1, max_size=5))
def test_the_largest_batch_fits_and_the_next_does_not(fixed, per_sample, limits):
    bounds = line(fixed, per_sample)
    for limit, size in zip(limits, largest_batches(bounds, limits), strict=True):
        assert size == 0 or bounds(float(size)) <= limit
        assert size == MOST_SAMPLES or bounds(float(size + 1)) > limit


def test_a_larger_batch_that_was_measured_bounds_the_smaller_ones():
    bounds = monotone_bounds(np.array([50.0, 90.0, 130.0]), np.array([1.0, 7.0, 9.0]), {8: 70.0})
    assert bounds.tolist() == [50, 70, 130]


def test_a_smaller_batch_that_was_measured_bounds_the_larger_ones():
    bounds = monotone_bounds(np.array([50.0, 60.0, 95.0]), np.array([1.0, 9.0, 17.0]), {8: 70.0, 16: 65.0})
    assert bounds.tolist() == [50, 70, 95]


@given(
    st.dictionaries(st.integers(1, 40), st.floats(1, 1e3), min_size=1, max_size=6), st.floats(0, 100), st.floats(0, 20)
)
def test_bounds_never_fall_with_the_batch(measured, fixed, per_sample):
    first, last = min(measured), max(measured)
    inside = (first < SIZES) & (last > SIZES)
    bounds = monotone_bounds((fixed + per_sample * SIZES) * np.where(inside, 1.1, 1.5), SIZES, measured)
    assert (np.diff(bounds) >= 0).all()


@pytest.fixture
def model(make_rows, tracer):
    return CostModel.fit(make_rows(batch_sizes=(2, 8, 32), noise=0.1), tracer=tracer)


@pytest.mark.parametrize("name", ["plain2", "thin5", "cross3"])
@pytest.mark.parametrize("mode", ["full", "head"])
@pytest.mark.parametrize("share", [0.3, 1.0, 1.2, 4.0])
def test_a_batch_fits_if_it_is_not_above_the_largest(model, name, mode, share):
    bound = model.predict("board", name, mode, 8).memory_hi_bytes
    limit = share * bound
    largest = model.largest_batch("board", name, mode, limit)
    for size in {1, 2, 7, 8, 9, 32, 100, largest, largest + 1} - {0}:
        assert model.predict("board", name, mode, size, memory_limit_bytes=limit).fits is (size <= largest)


def test_measured_peaks_that_fall_with_the_batch_leave_one_answer(make_rows, tracer):
    rows = make_rows(batch_sizes=(4, 8, 16))
    odd = (rows.model == "thin3") & (rows.batch_size == 8) & (rows["mode"] == "full")
    rows.loc[odd, "rss_peak_bytes"] *= 2
    model = CostModel.fit(rows, tracer=tracer)
    sizes = list(range(1, 40))
    estimates = model.predict_sizes("board", "thin3", "full", sizes)
    bounds = [one.memory_hi_bytes for one in estimates]
    assert bounds == sorted(bounds)
    assert all(one.memory_bytes <= one.memory_hi_bytes for one in estimates)
    for limit in bounds:
        largest = model.largest_batch("board", "thin3", "full", limit)
        assert largest == sum(bound <= limit for bound in bounds) or largest > sizes[-1]


def test_a_device_that_is_too_small_for_one_sample(model):
    assert model.largest_batch("board", "plain1", "full", 1 << 20) == 0


def test_without_peaks_there_is_no_largest_batch(make_rows, tracer):
    model = CostModel.fit(make_rows().drop(columns="rss_peak_bytes"), tracer=tracer)
    assert model.largest_batch("board", "plain1", "full", 1 << 30) is None
    questions = make_rows(models=("plain1",)).drop(columns="rss_peak_bytes").assign(memory_limit_bytes=1 << 30)
    assert model.predict_frame(questions).largest_batch.isna().all()


def test_an_unknown_model_is_traced_once_for_all_limits(make_rows, tracer):
    asked = []

    def spy(*configuration):
        asked.append(configuration)
        return tracer(*configuration)

    model = CostModel.fit(make_rows(), tracer=spy)
    asked.clear()
    for limit in (1 << 29, 1 << 30, 1 << 33):
        model.largest_batch("board", "thin9", "full", limit)
    model.predict("board", "thin9", "full", 16)
    assert asked == [("thin9", "full", 224, 1000)]


def test_a_table_names_the_largest_batch_of_rows_with_a_limit(model, make_rows):
    rows = make_rows(models=("plain1", "thin5", "thin6"), batch_sizes=(1, 16))
    limits = [None, 1e8, 1e9, 1e9, 3e9, 1e10] * 2
    answers = model.predict_frame(rows.assign(memory_limit_bytes=limits))
    expected = [
        None if limit is None else model.largest_batch("board", name, mode, limit)
        for name, mode, limit in zip(rows.model, rows["mode"], limits, strict=True)
    ]
    assert [None if pd.isna(one) else int(one) for one in answers.largest_batch] == expected
    assert str(answers.largest_batch.dtype) == "Int64"
    for _, one in answers[answers.fits.notna()].iterrows():
        assert one.fits == (one.batch_size <= one.largest_batch)
