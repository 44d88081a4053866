import numpy as np
import pandas as pd
import pytest

from devprof.costmodel import newdevice
from devprof.costmodel.calibrations import collect_operators
from devprof.costmodel.evaluate import KNOWN_MODELS, UNSEEN_FAMILY, summarize_new_device
from devprof.costmodel.newdevice import PROBES, new_device_errors
from devprof.costmodel.samples import collect_samples

MODELS = tuple(f"{kind}{size}" for kind in ("plain", "thin", "token", "cross") for size in (1, 2, 4))


DRAWS = 5


@pytest.fixture
def errors_of(make_rows, tracer, step_tracer, monkeypatch):
    """Errors by device, scheme and probes for made-up devices of these speeds, from a few draws."""
    monkeypatch.setattr(newdevice, "_MOST_DRAWS", DRAWS)
    monkeypatch.setattr(newdevice, "_BUDGET", 2000.0)

    def make(speeds, models=MODELS, operators=None, only=None):
        frames = []
        for device, speed in speeds.items():
            rows = make_rows(models=(only or {}).get(device, models), batch_sizes=(8,), device=device, noise=0.02)
            frames.append(rows.assign(step_s=rows["step_s"] * speed))
        samples = collect_samples(pd.concat(frames, ignore_index=True), tracer).samples
        calibrations = {} if operators is None else collect_operators(operators)
        found = new_device_errors(samples, calibrations, tracer, step_tracer)
        return {(one.device, one.scheme, one.probes): one for one in found}

    return make


def test_every_device_has_every_number_of_probes_in_both_schemes(errors_of):
    errors = errors_of({"old": 1.0, "new": 0.5})
    assert set(errors) == {
        (device, scheme, count)
        for device in ("old", "new")
        for scheme in (KNOWN_MODELS, UNSEEN_FAMILY)
        for count in PROBES
    }
    for (_, _, count), one in errors.items():
        assert (one.mape is None) == bool(one.note) == (count == 0)
        assert (one.draws, one.rows > 0) == ((0, False) if count == 0 else (DRAWS, True))


def test_a_probe_gives_the_level_of_kin(errors_of):
    errors = errors_of({"old": 1.0, "new": 0.5})
    assert errors["new", KNOWN_MODELS, 1].mape < 0.06
    assert errors["new", KNOWN_MODELS, 10].mape <= errors["new", UNSEEN_FAMILY, 10].mape


def test_rows_are_those_that_were_no_probes(errors_of):
    errors = errors_of({"old": 1.0, "new": 0.5})
    rows = 2 * len(MODELS)
    for count in PROBES[1:]:
        assert errors["new", KNOWN_MODELS, count].rows == DRAWS * (rows - count)


def test_models_that_no_kin_device_ran_are_not_known(errors_of):
    errors = errors_of({"old": 1.0, "new": 0.5}, only={"old": MODELS[:9]})
    assert errors["new", KNOWN_MODELS, 1].rows <= DRAWS * 18


def test_without_kin_there_is_a_reason_and_no_number(errors_of):
    errors = errors_of({"alone": 1.0})
    assert {one.mape for one in errors.values()} == {None}
    assert "kin" in errors["alone", KNOWN_MODELS, 3].note
    assert "devprof calibrate" in errors["alone", KNOWN_MODELS, 0].note


def test_devices_with_few_measurements_are_not_tried(errors_of):
    errors = errors_of({"old": 1.0, "probed": 0.5}, only={"probed": MODELS[:3]})
    assert {device for device, _, _ in errors} == {"old"}


def test_a_calibrated_device_is_predicted_without_probes(errors_of, make_operators):
    errors = errors_of({"board": 1.0}, models=("thin1", "token2", "cross1", "plain3"), operators=make_operators())
    # All that is known are operators and a few synthetic networks, none of these models.
    assert errors["board", UNSEEN_FAMILY, 0].rows == 8
    assert errors["board", UNSEEN_FAMILY, 0].mape < 0.6
    assert "another device" in errors["board", KNOWN_MODELS, 0].note


def test_a_calibrated_device_with_kin_has_both_schemes(errors_of, make_operators):
    errors = errors_of({"board": 1.0, "other": 2.0}, operators=make_operators())
    assert errors["board", KNOWN_MODELS, 0].mape is not None
    assert errors["board", UNSEEN_FAMILY, 0].mape is not None
    assert "devprof calibrate" in errors["other", KNOWN_MODELS, 0].note


def test_the_same_table_gives_the_same_errors(errors_of):
    assert errors_of({"old": 1.0, "new": 0.5}) == errors_of({"old": 1.0, "new": 0.5})


def test_draws_shrink_with_the_number_of_devices(errors_of):
    errors = errors_of({name: 1.0 + number / 10 for number, name in enumerate("abcdef")})
    tried = {device for (device, _, _), one in errors.items() if one.mape is not None}
    assert len(tried) == 4
    assert {one.draws for one in errors.values() if one.mape is not None} == {2}
    skipped = next(one for (device, _, count), one in errors.items() if device not in tried and count)
    assert "not tried" in skipped.note


def test_no_samples_no_errors(tracer, step_tracer):
    assert new_device_errors([], {}, tracer, step_tracer) == ()


def test_errors_are_relative_to_what_was_measured():
    one = summarize_new_device("d", KNOWN_MODELS, 1, 2, list(np.log([2.0, 0.8])), empty="none")
    assert (one.rows, one.mape, one.within_20) == (2, pytest.approx(0.375), 0.0)
    assert summarize_new_device("d", KNOWN_MODELS, 1, 2, [], empty="none").note == "none"
