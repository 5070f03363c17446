import itertools

from hypothesis import given
from hypothesis import strategies as st

from gradvote.lab.report.axes import spread

LEVELS = st.lists(st.floats(0, 250), max_size=20)


@given(LEVELS)
def test_labels_keep_their_distance_order_and_frame(levels: list[float]) -> None:
    places = spread(levels, 16, 0, 250)
    ordered = sorted(places)
    pitch = min(16, 250 / max(1, len(levels) - 1))
    assert all(b - a > pitch - 1e-6 for a, b in itertools.pairwise(ordered))
    assert all(-1e-6 <= place <= 250 + 1e-6 for place in places)
    assert sorted(range(len(levels)), key=lambda i: places[i]) == sorted(range(len(levels)), key=lambda i: levels[i])


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([100, 10, 50], 16, 0, 250) == [100, 10, 50]
    assert spread([100, 100], 16, 0, 250) == [92, 108]
    assert spread([0, 250], 16, 0, 250) == [0, 250]
