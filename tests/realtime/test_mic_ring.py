"""The ring keeps what a new socket may lack, and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from framepipe.frames import AudioIn
from framepipe.realtime.mic_ring import MicRing

RATE_HZ = 100
"""Ten times a hundred samples: small numbers to read."""


def frame(start_sample: int, n_samples: int) -> AudioIn:
    pcm = b"".join((start_sample + n).to_bytes(2, "little") for n in range(n_samples))
    return AudioIn(pcm=pcm, rate_hz=RATE_HZ, start_sample=start_sample)


def samples(pcm: bytes) -> list[int]:
    return [int.from_bytes(pcm[at : at + 2], "little") for at in range(0, len(pcm), 2)]


def taken(ring: MicRing) -> list[int]:
    found: list[int] = []
    while ring.waiting:
        start_sample, pcm = ring.take()
        assert samples(pcm)[:1] == [start_sample]
        found += samples(pcm)
    return found


def test_frames_without_samples_take_no_place() -> None:
    ring = MicRing(RATE_HZ)
    ring.put(frame(7, 0))
    assert not ring.waiting
    assert ring.start_sample is None


def test_what_was_sent_is_sent_again_from_the_very_sample() -> None:
    ring = MicRing(RATE_HZ)
    for number in range(5):
        ring.put(frame(number * 10, 10))
    assert taken(ring) == list(range(50))

    ring.rewind(23)

    assert taken(ring) == list(range(23, 50))


def test_of_what_is_older_than_the_ring_the_rest_is_sent_again() -> None:
    ring = MicRing(RATE_HZ, capacity_s=1)
    for number in range(15):
        ring.put(frame(number * 10, 10))

    for sample in (20, None):
        ring.rewind(sample)
        assert taken(ring) == list(range(50, 150))


def test_a_slow_reader_loses_the_oldest_only() -> None:
    ring = MicRing(RATE_HZ, capacity_s=1)
    ring.put(frame(0, 10))
    assert ring.take()[0] == 0
    for number in range(1, 20):
        ring.put(frame(number * 10, 10))

    assert taken(ring) == list(range(100, 200))


def test_an_empty_ring_has_nothing_to_give() -> None:
    ring = MicRing(RATE_HZ)
    ring.rewind(None)
    assert not ring.waiting
    assert ring.between(0, 10) is None


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20),
    start=st.integers(0, 300),
    length=st.integers(1, 100),
)
def test_a_stretch_is_given_whole_or_not_at_all(
    lengths: list[int], start: int, length: int
) -> None:
    ring = MicRing(RATE_HZ, capacity_s=1)
    at = 0
    for n_samples in lengths:
        ring.put(frame(at, n_samples))
        at += n_samples
    first = ring.start_sample
    assert first is not None

    found = ring.between(start, start + length)

    if first <= start and start + length <= at:
        assert found is not None
        assert samples(found) == list(range(start, start + length))
    else:
        assert found is None
