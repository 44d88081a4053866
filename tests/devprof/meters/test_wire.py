import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devprof.meters.base import Channel, MeterInfo, Reading
from devprof.meters.wire import Lines, WireError, decode_line, encode_readings, greeting_of, info_of, readings_of

INFO = MeterInfo("bench", "bench/1", (Channel("supply", "sensor"),))

finite = st.floats(allow_nan=False, allow_infinity=False)
stamps = st.integers(-(1 << 63) + 1, (1 << 63) - 1)
readings = st.one_of(
    st.builds(Reading, stamps, st.text()),
    st.builds(Reading, stamps, st.text(), power_w=finite),
    st.builds(Reading, stamps, st.text(), energy_j=finite),
)
channels = st.builds(
    Channel,
    st.text(),
    st.sampled_from(["counter", "sensor"]),
    st.booleans(),
    finite,
    finite,
    st.none() | finite,
    finite,
    finite,
)


@given(st.lists(readings, max_size=5))
def test_readings_arrive_as_they_were(sent):
    lines = Lines(1 << 20)
    arrived = [decode_line(line) for piece in encode_readings(sent) for line in lines.add(piece)]
    assert [reading for message in arrived for reading in readings_of(message["readings"])] == sent


names = st.lists(st.text(), min_size=3, max_size=6)


@given(names, st.lists(channels, min_size=1, max_size=4, unique_by=lambda channel: channel.domain), st.floats(0, 100))
def test_a_meter_arrives_as_it_was(texts, parts, period_s):
    source, rule, detail, *notes = texts
    parts = [replace(parts[0], headline=True), *parts[1:]]
    info = MeterInfo(source, rule, tuple(parts), period_s, detail, tuple(notes))
    (line,) = Lines(1 << 20).add(greeting_of(info))
    assert info_of(decode_line(line)["info"]) == info


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["readings", "channels", "source", "t1"]), inner),
)


@given(json_values)
def test_no_message_makes_the_readers_raise_anything_else(value):
    for read in (readings_of, info_of):
        with contextlib.suppress(WireError):
            read(value)
    with contextlib.suppress(WireError):
        decode_line(json.dumps(value).encode())


@given(
    st.dictionaries(st.sampled_from(["domain", "headline", "quantum", "gain_rel", "update_s"]), json_values, min_size=1)
)
def test_a_channel_that_is_damaged_is_no_channel(damage):
    good = json.loads(greeting_of(INFO))["info"]
    good["channels"][0] |= damage
    with contextlib.suppress(WireError):
        assert isinstance(info_of(good), MeterInfo)


@pytest.mark.parametrize("channels", [[], [5], [{"domain": "x"}], "x"])
def test_a_meter_without_channels_is_none(channels):
    with pytest.raises(WireError, match="none"):
        info_of(json.loads(greeting_of(INFO))["info"] | {"channels": channels})


def test_a_meter_whose_domains_repeat_is_none():
    good = json.loads(greeting_of(INFO))["info"]
    with pytest.raises(WireError, match="domains of a meter must differ"):
        info_of(good | {"channels": good["channels"] * 2})


@given(st.binary(), st.integers(1, 10))
def test_lines_do_not_depend_on_the_pieces(data, size):
    lines, found = Lines(len(data) + 1), []
    for start in range(0, len(data), size):
        found += lines.add(data[start : start + size])
    assert found == data.split(b"\n")[:-1]
