from dataclasses import replace

import numpy as np
import pytest

from devprof.costmodel.memory import MEMORY_COLUMNS, fit_memory, memory_parts
from devprof.errors import CostModelError

NAMES = ("plain1", "plain8", "thin2", "token4", "cross1")


@pytest.fixture
def peaks(observe, true_peak):
    def make(names, sizes):
        return [replace(one, value=true_peak(one.features, one.batch_size)) for one in observe(names, sizes)]

    return make


def test_parts_are_bytes(tracer):
    model = tracer("plain2")
    parts = dict(zip(MEMORY_COLUMNS, memory_parts(model, np.array([3]))[0], strict=True))
    assert parts["weight_bytes"] == parts["optimizer_bytes"] == 4 * model.parameters
    assert parts["held_bytes"] == model.peak_bytes(np.array([3]))[0]
    assert parts["process_bytes"] == 1


def test_known_parts_are_recovered(peaks, tracer, true_peak):
    memory = fit_memory(peaks(NAMES, (1, 8, 32)))
    unseen = tracer("thin9")
    assert memory.curve(unseen, np.array([16]))[0] == pytest.approx(true_peak(unseen, 16), rel=0.05)
    assert memory.factors[0] == pytest.approx(2.5e8, rel=0.05)


def test_the_process_counts_even_after_one_row(peaks, tracer, true_peak):
    memory = fit_memory(peaks(("plain1",), (1,)))
    assert memory.curve(tracer("plain1"), np.array([1]))[0] == pytest.approx(true_peak(tracer("plain1"), 1), rel=0.1)
    assert min(memory.factors) >= 0


def test_no_peak_is_an_error():
    with pytest.raises(CostModelError, match="rss_peak_bytes"):
        fit_memory([])
