"""When the fast detector is of no use in a room, and when it is again."""

from __future__ import annotations

import pytest

from framepipe.detectors.availability import Availability
from framepipe.errors import FrameError


def changes(room: Availability, frames: list[bool]) -> list[int]:
    return [number for number, is_wrong in enumerate(frames) if room.note(is_wrong)]


def test_more_than_half_wrong_disarms_but_not_before_the_span_was_heard() -> None:
    room = Availability(10, span_ms=1_000)
    assert changes(room, [True] * 100) == []
    assert room.is_usable
    assert changes(room, [True]) == [0]
    assert not room.is_usable


def test_half_wrong_is_not_more_than_half() -> None:
    room = Availability(10, span_ms=1_000)
    assert changes(room, [True, False] * 500) == []


def test_it_is_usable_again_when_a_quarter_is_wrong_and_not_before() -> None:
    room = Availability(10, span_ms=1_000)
    changes(room, [True] * 101)
    assert changes(room, [False] * 74) == []
    assert changes(room, [False]) == [0]
    assert room.is_usable


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(FrameError, match="share 0"):
        Availability(10, share=0)
    with pytest.raises(FrameError, match="span_ms is 5"):
        Availability(10, span_ms=5)
