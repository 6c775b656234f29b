"""What one client may take: an honest one never notices, one that floods is sent away."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.errors import WiringError
from framepipe.frames import NS_PER_S
from framepipe.realtime.limits import SessionMeter, SocketLimits

SMALL = SocketLimits(
    events_per_s=10, events_at_once=20, bytes_per_s=1_000, bytes_at_once=5_000, message_bytes=5_000
)


def test_an_hour_of_audio_in_20_ms_appends_after_a_burst_of_30_s_is_no_excess() -> None:
    meter = SessionMeter(SocketLimits(), 0)
    append_bytes = 1_280 + 60
    for _ in range(30 * 50):
        assert meter.excess(append_bytes, 0) is None
    for nth in range(3_600 * 50):
        assert meter.excess(append_bytes, nth * NS_PER_S // 50) is None


def test_as_many_messages_as_are_allowed_at_once_pass_and_the_next_is_too_many() -> None:
    meter = SessionMeter(SMALL, 0)
    assert [meter.excess(1, 0) for _ in range(20)] == [None] * 20
    assert meter.excess(1, 0) == "too many messages; at most 10 a second"


def test_a_second_gives_back_what_a_second_allows() -> None:
    meter = SessionMeter(SMALL, 0)
    assert [meter.excess(1, 0) for _ in range(20)] == [None] * 20
    assert [meter.excess(1, NS_PER_S) for _ in range(10)] == [None] * 10
    assert meter.excess(1, NS_PER_S) is not None


def test_too_many_bytes_are_too_much_audio() -> None:
    meter = SessionMeter(SMALL, 0)
    assert meter.excess(5_000, 0) is None
    assert meter.excess(1, 0) == "too much audio; at most 1000 bytes a second"


def test_a_clock_that_goes_back_gives_nothing() -> None:
    meter = SessionMeter(SMALL, 10 * NS_PER_S)
    assert [meter.excess(1, 10 * NS_PER_S) for _ in range(20)] == [None] * 20
    assert meter.excess(1, 0) is not None
    assert meter.excess(1, 10 * NS_PER_S) is not None


@given(
    st.lists(
        st.tuples(st.integers(0, 2 * NS_PER_S), st.integers(1, 5_000)), min_size=1, max_size=60
    )
)
def test_in_any_span_no_more_passes_than_the_rate_and_what_may_come_at_once(
    steps: list[tuple[int, int]],
) -> None:
    meter, at_ns = SessionMeter(SMALL, 0), 0
    passed: list[tuple[int, int]] = []
    for wait_ns, n_bytes in steps:
        at_ns += wait_ns
        if meter.excess(n_bytes, at_ns) is not None:
            break
        passed.append((at_ns, n_bytes))
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            span_s = (passed[last][0] - passed[first][0]) / NS_PER_S
            sizes = [n_bytes for _, n_bytes in passed[first : last + 1]]
            assert len(sizes) <= 20 + 10 * span_s + 1e-6
            assert sum(sizes) <= 5_000 + 1_000 * span_s + 1e-6


@given(st.lists(st.integers(1, 100), max_size=100))
def test_who_keeps_to_the_rate_is_never_sent_away(sizes: list[int]) -> None:
    meter = SessionMeter(SMALL, 0)
    for nth, n_bytes in enumerate(sizes):
        assert meter.excess(n_bytes, nth * NS_PER_S // 10) is None


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"sessions": 0}, "sessions is 0; it must be 1 or more"),
        ({"events_per_s": -1}, "events_per_s is -1; it must be 1 or more"),
        ({"message_bytes": 10, "bytes_at_once": 9}, "the longest message must be allowed"),
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any], rule: str) -> None:
    with pytest.raises(WiringError, match=rule):
        SocketLimits(**wrong)
