import pytest
from flwr.app import ConfigRecord, Context, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from devprof.device.identity import identify
from devprof.errors import DevprofError
from strategies.identity import IDENTITY_RECORD, Identity, client_identity, memory_for_training_bytes, read_identity


def context(**node_config):
    return Context(1, 5, node_config, RecordDict(), {})


def content(record):
    return RecordDict({IDENTITY_RECORD: record})


def test_node_config_comes_first_and_the_fingerprint_completes_it():
    board = identify()
    told = client_identity(context(**{"device-id": "pi-3", "device": "pi4", "processor": "pi-cpu"}))
    assert (told.device_id, told.device, told.processor) == ("pi-3", "pi4", "pi-cpu")
    assert (told.device_key, told.threads) == (board.key, board.threads)
    assert client_identity(context()).device == board.name


def test_fingerprint_is_taken_once_for_a_node(monkeypatch):
    own = context(device="pi4")
    first = client_identity(own)
    monkeypatch.setattr("strategies.identity.identify", lambda: pytest.fail("taken again"))
    assert client_identity(own) == first


def test_identity_survives_the_wire():
    identity = Identity("pi4", "cpu", "pi-3", "abc", None, 4, 1 << 30, 50, 2.5, 500.0)
    assert read_identity(content(identity.to_record())) == identity
    assert "power-mode" not in identity.to_record()


def test_memory_for_training_is_what_is_free_and_what_is_held():
    memory = memory_for_training_bytes()
    assert memory is None or memory > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("device", ""),
        ("device", 7),
        ("device-id", "x" * 300),
        ("threads", 0),
        ("samples", -1),
        ("memory-bytes", 0.5),
        ("startup-s", float("nan")),
    ],
)
def test_impossible_identities_are_refused_with_the_key(key, value):
    record = Identity("pi4", "cpu").to_record()
    record[key] = value
    with pytest.raises(DevprofError, match=key):
        read_identity(content(record))


def test_a_reply_without_identity_is_refused():
    with pytest.raises(DevprofError, match="no ConfigRecord"):
        read_identity(RecordDict())


_VALUES = st.one_of(
    st.text(), st.integers(), st.floats(), st.booleans(), st.binary(), st.lists(st.floats(), max_size=3)
)
_KEYS = st.sampled_from(["device", "processor", "device-id", "threads", "memory-bytes", "samples", "startup-s", "else"])


@given(st.dictionaries(_KEYS, _VALUES))
def test_whatever_a_node_sends_is_read_or_refused(values):
    try:
        read = read_identity(content(ConfigRecord(values)))
    except DevprofError:
        return
    assert read.device
    assert read.samples is None or read.samples >= 0


@pytest.mark.parametrize("budget", [0, -1, "much", True])
def test_an_energy_budget_that_is_not_understood_is_not_ignored(budget):
    with pytest.raises(DevprofError, match="energy-budget-j"):
        client_identity(context(**{"energy-budget-j": budget}))
