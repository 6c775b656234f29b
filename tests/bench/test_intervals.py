"""Intervals: wide where little was seen, narrow where much was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from framepipe.bench.intervals import percentile_intervals, wilson


@given(st.floats(0, 1), st.integers(1, 1_000))
def test_a_share_lies_in_its_interval(share: float, n: int) -> None:
    low, high = wilson(share, n)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


def test_nothing_in_twenty_does_not_mean_never() -> None:
    low, high = wilson(0.0, 20)
    assert low == 0.0
    assert 0.15 < high < 0.17


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0.0, 0) == (0.0, 1.0)


def test_repeats_of_one_recording_make_an_interval_no_narrower() -> None:
    figures = [10.0, 20.0, 30.0, 40.0]
    (once,) = percentile_intervals([[figure] for figure in figures], [50])
    (often,) = percentile_intervals([[figure] * 50 for figure in figures], [50])
    assert often[1] - often[0] >= once[1] - once[0]
    assert once[0] < 25 < once[1]
