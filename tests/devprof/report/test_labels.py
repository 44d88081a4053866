from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from devprof.report.labels import NARROW, Point, place_labels, spread_apart

SHARES = st.floats(0, 1)
POINTS = st.lists(st.builds(Point, SHARES, SHARES, st.sampled_from([None, "resnet18", "swin_tiny"]), st.just({})))


def boxes(labels, points, plot, width, height):
    """The rectangles of the texts, by an estimate of their width of 6 pixels a character."""
    found = []
    for label in labels:
        if label.row["plot"] == plot:
            point = points[label.row["index"]]
            half = 3 * len(label.row["text"])
            x = point.x * width + label.side.dx + {"left": half, "right": -half, "center": 0}[label.side.align]
            y = point.y * height + label.side.dy
            found.append((x - half, x + half, y - 6, y + 6))
    return found


@given(POINTS)
def test_names_never_touch_each_other_nor_leave_the_plot(points):
    points = [Point(point.x, point.y, point.text, {"index": index}) for index, point in enumerate(points)]
    labels = place_labels(points, height=400)
    for a, b in itertools.combinations(boxes(labels, points, "wide", NARROW, 400), 2):
        assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2]
    for box in boxes(labels, points, "wide", NARROW, 400):
        assert 0 <= box[0] < box[1] <= NARROW
        assert 0 <= box[2] < box[3] <= 400


def test_the_first_of_two_names_wins():
    points = [Point(0.5, 0.5, name, {}) for name in ("first", "second")]
    wide = [label.row["text"] for label in place_labels(points, height=20) if label.row["plot"] == "wide"]
    assert wide[0] == "first"


def test_a_name_without_room_is_left_out():
    crowd = [Point(x / 40, y / 40, None, {}) for x in range(41) for y in range(41)]
    assert place_labels([Point(0.5, 0.5, "nobody", {}), *crowd], height=300) == []


def test_points_without_text_get_no_name():
    assert place_labels([Point(0.5, 0.5, None, {})], height=300) == []


@given(st.lists(st.floats(0, 100), max_size=12))
def test_labels_are_spread_in_order_and_below_the_ceiling(values):
    places = spread_apart(values, gap=2.0, ceiling=100.0)
    assert len(places) == len(values)
    assert all(place <= 100.0 for place in places)
    for below, above in itertools.pairwise(sorted(places)):
        assert above - below >= 2.0 - 1e-9


def test_values_far_apart_stay_where_they_are():
    assert spread_apart([50.0, 10.0], gap=5, ceiling=100) == [50.0, 10.0]
    assert spread_apart([10.0, 10.0, 99.0], gap=5, ceiling=100) == [10.0, 15.0, 99.0]
