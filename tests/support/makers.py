"""Short makers of records that many tests need; what a test is about it says itself."""

from devprof.records import Measurement, OperatorTime


def make_run(run_id="r1", **changes):
    """A finished run of seed:cnn on a board."""
    values = {
        "run_id": run_id,
        "started_utc": "2026-01-01T00:00:00+00:00",
        "devprof_version": "0",
        "device": "board",
        "device_key": "k",
        "processor": "cpu",
        "model": "seed:cnn",
        "task": "train",
        "mode": "full",
        "status": "ok",
        "batch_size": 4,
        "step_s": 0.25,
    }
    return Measurement(**values | changes)


def make_operator_time(signature="a", **changes):
    """An operator that was timed on a board."""
    values = {
        "calibration_id": "c1",
        "started_utc": "2026-01-01T00:00:00+00:00",
        "devprof_version": "0",
        "device": "board",
        "device_key": "k",
        "processor": "cpu",
        "signature": signature,
        "family": "conv",
        "macs": 8.0,
        "elements": 4.0,
        "status": "ok",
    }
    return OperatorTime(**values | changes)
