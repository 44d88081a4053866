import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.fleet.lines import event_line, probe_file, read_event, result_file

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
def test_an_event_is_one_line_of_ascii_and_comes_back(event):
    line = event_line("t0", event)
    assert line.isascii()
    assert (line.count("\n"), line[-1]) == (1, "\n")
    assert read_event("t0", f"\x1b[92mINFO\x1b[0m :  {line}") == event


@pytest.mark.parametrize(
    "line", ["", "INFO : hello", "devprof-fleet t1 {}", 'devprof-fleet t0 {"a": [1, ', "devprof-fleet t0 3"]
)
def test_other_lines_are_no_events(line):
    assert read_event("t0", line) is None


def test_files_of_a_run_have_its_token(tmp_path):
    assert probe_file(tmp_path, "t0") == tmp_path / ".fleet-t0"
    assert result_file(tmp_path, "t0") == tmp_path / "fleet" / "t0.json"
