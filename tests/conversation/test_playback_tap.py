"""What a speaker played, read back by time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.audio import silence
from framepipe.conversation.playback_tap import PlaybackTap
from framepipe.errors import FrameError

RATE_HZ = 1_000
MS = 1_000_000


def ramp(first: int, n: int) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in range(first, first + n))


def test_what_was_played_is_read_at_its_time_with_silence_around_it() -> None:
    tap = PlaybackTap()
    tap.write(ramp(1, 10), RATE_HZ, 100 * MS)
    tap.write(ramp(11, 10), RATE_HZ, 110 * MS)
    assert tap.read(98 * MS, 6) == silence(2) + ramp(1, 4)
    assert tap.read(105 * MS, 10) == ramp(6, 10)
    assert tap.read(118 * MS, 4) == ramp(19, 2) + silence(2)


def test_before_the_first_sound_there_is_silence() -> None:
    assert PlaybackTap().read(0, 5) == silence(5)


def test_only_the_last_of_it_is_kept() -> None:
    tap = PlaybackTap(kept_ms=30)
    for at_ms in range(0, 100, 10):
        tap.write(ramp(1 + at_ms, 10), RATE_HZ, at_ms * MS)
    assert tap.read(60 * MS, 10) == silence(10)
    assert tap.read(70 * MS, 30) == ramp(71, 30)
    with pytest.raises(FrameError, match="kept_ms is 0"):
        PlaybackTap(kept_ms=0)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 20)), min_size=1, max_size=20),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_any_stretch_is_what_a_tape_would_have_at_that_place(
    blocks: list[tuple[int, int]], first: int, n: int
) -> None:
    tap = PlaybackTap()
    tape = b""
    for pause, length in blocks:
        tape += silence(pause)
        at = len(tape) // 2
        tap.write(ramp(1 + at, length), RATE_HZ, at * MS)
        tape += ramp(1 + at, length)
    assert tap.read(first * MS, n) == (tape + silence(600))[2 * first : 2 * (first + n)]
