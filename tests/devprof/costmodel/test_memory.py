import pytest

from devprof.costmodel.memory import MEMORY_COLUMNS, fit_memory, memory_parts
from devprof.errors import CostModelError

NAMES = ("plain1", "plain8", "thin2", "token4", "cross1")


def test_parts_are_bytes(tracer):
    model = tracer("plain2")
    parts = dict(zip(MEMORY_COLUMNS, memory_parts(model, 3), strict=True))
    assert parts["parameter_bytes"] == 4 * model.parameters
    assert parts["saved_bytes"] == 3 * model.saved_per_sample_bytes
    assert parts["process_bytes"] == 1


def test_known_parts_are_recovered(tracer, true_peak):
    rows = [(tracer(name), size) for name in NAMES for size in (1, 8, 32)]
    memory = fit_memory([row[0] for row in rows], [row[1] for row in rows], [true_peak(*row) for row in rows])
    unseen = tracer("thin9")
    assert memory.line(unseen).at(16) == pytest.approx(true_peak(unseen, 16), rel=0.05)
    assert memory.factors[0] == pytest.approx(2.5e8, rel=0.05)


def test_the_process_counts_even_after_one_row(tracer, true_peak):
    model = tracer("plain1")
    memory = fit_memory([model], [1], [true_peak(model, 1)])
    assert memory.line(model).at(1) == pytest.approx(true_peak(model, 1), rel=0.1)
    assert min(memory.factors) >= 0


def test_no_peak_is_an_error():
    with pytest.raises(CostModelError, match="rss_peak_bytes"):
        fit_memory([], [], [])
