"""Where the ear is, by the clock and by what the speaker says."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from framepipe.conversation.sinkline import MAX_LAG_NS, SinkLine

MS = 1_000_000


def playing(rate_hz: int = 24_000) -> SinkLine:
    line = SinkLine(rate_hz)
    line.hand(rate_hz, 0)  # a second
    return line


def test_the_ear_moves_with_the_clock_and_stops_at_what_was_handed() -> None:
    line = playing()
    assert line.heard(0) == 0
    assert line.heard(500 * MS) == 12_000
    assert line.heard(5_000 * MS) == 24_000


@given(rate_hz=st.sampled_from([8_000, 24_000, 44_100]), sample=st.integers(1, 8_000))
def test_the_time_of_a_sample_is_the_first_at_which_it_is_heard(rate_hz: int, sample: int) -> None:
    line = playing(rate_hz)
    at_ns = line.when_heard(sample)
    assert at_ns is not None
    assert line.heard(at_ns) == sample
    assert line.heard(at_ns - 1) < sample


def test_an_hour_in_blocks_does_not_drift() -> None:
    line = SinkLine(44_100)
    line.hand(441, 0)
    for k in range(1, 360_000):
        line.hand(441, k * 10 * MS - 5 * MS)
    assert line.heard(3_599_995 * MS) == 44_100 * 3_599_995 // 1_000


def test_a_report_corrects_the_clock_and_a_stale_one_does_not() -> None:
    line = playing()
    line.report(2_400, 100 * MS)
    line.report(4_000, 200 * MS)  # the card is slow
    assert line.heard(200 * MS) == 4_000
    line.report(2_400, 100 * MS)
    assert line.heard(200 * MS) == 4_000


def test_a_report_beyond_what_was_handed_is_cut_down() -> None:
    line = playing()
    line.report(99_999, 100 * MS)
    assert line.heard(100 * MS) == line.handed


def test_the_lag_of_a_device_is_learned_from_its_first_report() -> None:
    line = playing()
    line.report(0, 100 * MS)
    assert line.lag_ns == 100 * MS, "at least"
    line.report(240, 210 * MS)
    assert line.lag_ns == 200 * MS
    assert line.heard(300 * MS) == 2_400
    assert line.taken(300 * MS) == 7_200, "this much cannot be stopped any more"


def test_a_device_that_is_stuck_is_not_fed_for_ever() -> None:
    line = playing()
    for k in range(1, 100):
        line.report(0, k * 100 * MS)
    assert line.taken(9_900 * MS) == 24_000 * MAX_LAG_NS // 1_000_000_000


def test_a_gap_is_not_made_up_for() -> None:
    line = SinkLine(24_000)
    line.hand(480, 0)
    line.hand(480, 1_000 * MS)
    assert line.heard(1_010 * MS) == 720


def test_silence_is_not_played_and_the_ear_goes_on_where_it_stopped() -> None:
    line = playing()
    line.stop(100 * MS)
    line.stop_at(2_640)  # the fade is heard, too
    assert line.heard(400 * MS) == 2_640
    assert line.when_heard(2_641) is None
    line.release(500 * MS)
    assert line.heard(500 * MS) == 2_640
    assert line.heard(510 * MS) == 2_880


def test_after_a_cut_nothing_is_left_to_hear() -> None:
    line = playing()
    line.stop(100 * MS)
    line.cut(200 * MS)
    assert line.heard(200 * MS) == 24_000
    line.report(2_000, 200 * MS)  # made before the cut
    assert line.heard(200 * MS) == 24_000
    line.hand(240, 300 * MS)
    assert line.heard(305 * MS) == 24_120
