"""A filter that is late moves no sample."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.conversation.late_filter import LateFilter, Piece
from framepipe.errors import FrameError

FRAME = 10


def said(first: int, n: int) -> bytes:
    return b"".join((1 + at % 30_000).to_bytes(2, "little") for at in range(first, first + n))


def delay_line(delay_samples: int) -> Callable[[int, bytes], bytes]:
    """Changes nothing, and is late."""
    kept = bytes(2 * delay_samples)

    def process(_: int, pcm: bytes) -> bytes:
        nonlocal kept
        assert len(pcm) == 2 * FRAME
        line = kept + pcm
        kept = line[len(pcm) :]
        return line[: len(pcm)]

    return process


def late(delay_samples: int) -> LateFilter:
    return LateFilter(delay_line(delay_samples), frame_samples=FRAME, delay_samples=delay_samples)


def test_what_leaves_is_from_a_little_before_and_at_its_place() -> None:
    line = late(7)
    assert line.feed(100, said(100, 20)) == [(100, said(100, 13))]
    assert line.feed(120, said(120, 5)) == []
    assert line.feed(125, said(125, 5)) == [(113, said(113, 10))]
    assert line.flush() == [(123, said(123, 7))]
    assert line.flush() == []


def test_a_gap_ends_a_stretch_and_stays_a_gap() -> None:
    line = late(7)
    assert line.feed(0, said(0, 13)) == [(0, said(0, 3))]
    assert line.feed(50, said(50, 20)) == [(3, said(3, 10)), (50, said(50, 13))]


def test_the_filter_is_told_where_each_frame_is() -> None:
    told: list[int] = []

    def process(start_sample: int, pcm: bytes) -> bytes:
        told.append(start_sample)
        return pcm

    line = LateFilter(process, frame_samples=FRAME, delay_samples=0)
    line.feed(100, said(100, 25))
    line.feed(125, said(125, 5))
    assert told == [100, 110, 120]


@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 1, 17]), st.integers(0, 45)), max_size=20),
    st.integers(0, 25),
)
def test_as_many_leave_as_came_each_once_in_order_and_as_it_was(
    blocks: list[tuple[int, int]], delay: int
) -> None:
    line = late(delay)
    came: list[int] = []
    pieces: list[Piece] = []
    at = 0
    for gap, n in blocks:
        at += gap
        pieces += line.feed(at, said(at, n))
        came += range(at, at + n)
        at += n
        left = sum(len(pcm) // 2 for _, pcm in pieces)
        assert len(came) - left < delay + FRAME, "no later than the filter and a frame"
    pieces += line.flush()
    gone = [start + n for start, pcm in pieces for n in range(len(pcm) // 2)]
    assert gone == came
    assert all(pcm == said(start, len(pcm) // 2) for start, pcm in pieces)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(FrameError, match="frame_samples is 0"):
        LateFilter(delay_line(0), frame_samples=0, delay_samples=0)
    with pytest.raises(FrameError, match="3 bytes"):
        late(0).feed(0, b"123")
