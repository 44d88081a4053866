import pytest

from devprof.costmodel.model import CostModel
from devprof.costmodel.pool import Pool
from devprof.costmodel.samples import Configuration
from devprof.costmodel.suggest import Probe, suggest_probes
from devprof.errors import UnknownNameError

NAMES = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (1, 2, 4)]


@pytest.fixture
def base(observe):
    return Pool(tuple(observe(NAMES))).fit().bases["board"]


@pytest.fixture
def probe(tracer):
    return lambda name: Probe(Configuration(name, "full", 224, 1000), 8, tracer(name))


def test_probes_are_of_different_kinds(base, probe):
    chosen = suggest_probes(base, [probe(name) for name in NAMES], [], 4)
    assert len({one.configuration.model[:4] for one in chosen}) == 4


def test_what_is_known_is_not_asked_again(base, probe):
    known = [probe(name) for name in NAMES if name.startswith(("plain", "thin", "token"))]
    (first,) = suggest_probes(base, [probe(name) for name in ("plain8", "cross4", "thin8")], known, 1)
    assert first.configuration.model == "cross4"


def test_there_are_no_more_probes_than_candidates(base, probe):
    assert len(suggest_probes(base, [probe("plain1")], [], 5)) == 1
    assert suggest_probes(base, [], [], 5) == []


def test_a_model_suggests_what_was_measured_elsewhere(make_rows, tracer):
    model = CostModel.fit(make_rows(batch_sizes=(4, 16)), tracer=tracer)
    assert model.suggest(3, "board") == []
    found = model.suggest(3)
    assert len(found) == len({one.configuration.model for one in found}) == 3
    with pytest.raises(UnknownNameError, match="closest: board"):
        model.suggest(3, "bord")


def test_where_the_fit_has_too_few_models_further_ones_are_named(make_rows, tracer):
    model = CostModel.fit(make_rows(), tracer=tracer)
    found = model.suggest(2, "board", models=("token8", "nonsense1", "cross8"))
    assert len(found) == 2
    assert {one.configuration.model for one in found} <= {"token8", "cross8"}
    assert {one.configuration.model for one in model.suggest(2, models=("token8",))}.isdisjoint({"token8"})


def test_a_device_that_was_only_calibrated_is_told_what_to_run_first(make_rows, make_operators, tracer, step_tracer):
    model = CostModel.fit(make_rows().iloc[:0], operators=make_operators(), tracer=tracer, step_tracer=step_tracer)
    assert model.suggest(3, "board") == []
    found = model.suggest(3, "board", models=("plain3", "thin3", "token3"))
    assert len(found) == 3
    assert {one.batch_size for one in found} == {16}
