import pytest

from devprof.costmodel.heldout import PROBED, device_residuals, memory_residuals, time_residuals
from devprof.costmodel.pool import Pool

MODELS = [f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (1, 2, 4)]


def largest(groups):
    return max(abs(value) for values in groups.values() for value in values)


def test_every_row_is_left_out_once_with_its_model_and_once_with_its_family(observe):
    pool = Pool(tuple(observe(MODELS, (4, 16))))
    (residuals,) = time_residuals(pool, pool.fit()).values()
    assert {model: len(values) for model, values in residuals.models.items()} == dict.fromkeys(MODELS, 2)
    assert {family: len(values) for family, values in residuals.families.items()} == dict.fromkeys(
        ("plain", "thin", "token", "cross"), 6
    )
    assert len(residuals.costs["models"]) == len(residuals.costs["families"]) == 24
    assert residuals.kin == {}


def test_left_out_batch_sizes_come_from_the_others(observe):
    pool = Pool(tuple(observe(MODELS, (4, 8, 16))))
    (residuals,) = time_residuals(pool, pool.fit()).values()
    assert {len(values) for values in residuals.between.values()} == {1}
    assert {len(values) for values in residuals.pairs.values()} == {2}
    assert largest(residuals.between) < 0.02
    assert largest(residuals.pairs) < 0.2


def test_single_batch_sizes_cannot_be_left_out(observe):
    pool = Pool(tuple(observe(MODELS, (8,))))
    (residuals,) = time_residuals(pool, pool.fit()).values()
    assert residuals.pairs == residuals.between == {}


def test_one_model_alone_tells_of_its_batch_sizes_only(observe):
    pool = Pool(tuple(observe(["plain1"], (4, 8, 16))))
    (residuals,) = time_residuals(pool, pool.fit()).values()
    assert residuals.models == residuals.families == {}
    assert set(residuals.pairs) == set(residuals.between) == {"plain1"}


def test_a_model_known_on_kin_is_easier_than_one_known_nowhere(observe):
    odd = {model: 1 + 0.3 * (number % 3 - 1) for number, model in enumerate(MODELS)}
    old, new = (observe(MODELS, (8,), device=name, factor=odd.get) for name in ("old", "new"))
    pool = Pool(tuple(old + new))
    residuals = time_residuals(pool, pool.fit())["new", "full"]
    assert set(residuals.kin) == set(MODELS)
    assert largest(residuals.kin) < 0.7 * largest(residuals.models)


def test_a_family_left_out_is_left_out_on_kin_too(observe):
    odd = {model: 2.0 if model.startswith("thin") else 1.0 for model in MODELS}
    old, new = (observe(MODELS, (8,), device=name, factor=odd.get) for name in ("old", "new"))
    pool = Pool(tuple(old + new))
    residuals = time_residuals(pool, pool.fit())["new", "full"]
    assert min(residuals.families["thin"]) > 0.3


def test_a_probed_device_learns_its_doubt_from_kin(observe):
    kin = [one for name in ("a", "b") for one in observe(MODELS, (8,), device=name)]
    pool = Pool(tuple(kin + observe(["plain2"], (8,), device="new")))
    (residuals,) = device_residuals(pool, pool.fit(), 1).values()
    assert {group.partition(" on ")[2] for group in residuals.kin} == {"a", "b"}
    assert residuals.families


def test_without_kin_there_is_nothing_to_learn_doubt_from(observe):
    pool = Pool(tuple(observe(MODELS[: PROBED - 1])))
    assert device_residuals(pool, pool.fit(), 1) == {}


def test_memory_is_left_out_the_same_way(observe):
    (residuals,) = memory_residuals(observe(MODELS, (4, 16))).values()
    assert set(residuals.models) == set(MODELS)
    assert set(residuals.families) == {"plain", "thin", "token", "cross"}
    assert set(residuals.pairs) == set(MODELS)
    assert memory_residuals(observe(["plain1"], (4, 16))) == {} or "plain1" not in memory_residuals(
        observe(["plain1"], (4, 16))
    )


@pytest.mark.parametrize("count", [1, 3])
def test_the_same_seed_draws_the_same_probes(observe, count):
    pool = Pool(tuple(one for name in ("a", "b") for one in observe(MODELS, (8,), device=name)))
    fitted = pool.fit()
    assert device_residuals(pool, fitted, count) == device_residuals(pool, fitted, count)
