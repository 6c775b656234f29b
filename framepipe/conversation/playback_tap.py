"""What the loudspeaker played, to the sample, and when it was heard.

An echo canceller needs exactly that, after every mute and fade, at its time; a stage further up
sees only what was meant to be played. A speaker writes each block here as it begins, and whoever
listens to the room reads any stretch of time.

Sans-IO: times are engine time in nanoseconds.
"""

from __future__ import annotations

from collections import deque

from attrs import frozen

from framepipe.audio import silence
from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S, SAMPLE_BYTES


@frozen
class _Stretch:
    start: int
    pcm: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.pcm) // SAMPLE_BYTES


class PlaybackTap:
    """The last seconds of what was heard from a speaker.

    Args:
        kept_ms: How much is kept.

    Attributes:
        rate_hz: Rate of what is played; ``None`` until something was.

    Raises:
        FrameError: ``kept_ms`` is not positive.
    """

    def __init__(self, *, kept_ms: int = 2_000) -> None:
        if kept_ms <= 0:
            raise FrameError(f"kept_ms is {kept_ms}; it must be 1 or more")
        self.rate_hz: int | None = None
        self._kept_ms = kept_ms
        self._played: deque[_Stretch] = deque()

    def write(self, pcm: bytes, rate_hz: int, at_ns: int) -> None:
        """A block begins to be heard.

        Args:
            pcm: Its samples, mono.
            rate_hz: Their rate; it may change where nothing is kept of another.
            at_ns: When its first sample is heard; never before the end of the block before.
        """
        if rate_hz != self.rate_hz:
            self.rate_hz = rate_hz
            self._played.clear()
        start = round(at_ns * rate_hz / NS_PER_S)
        self._played.append(_Stretch(start, pcm))
        oldest = self._played[-1].end - rate_hz * self._kept_ms // 1000
        while self._played[0].end <= oldest:
            self._played.popleft()

    def read(self, at_ns: int, n_samples: int) -> bytes:
        """What was heard from a moment on; silence where nothing was, or is not known any more.

        Args:
            at_ns: The moment of the first sample.
            n_samples: How many, at `rate_hz`.
        """
        if self.rate_hz is None:
            return silence(n_samples)
        first = round(at_ns * self.rate_hz / NS_PER_S)
        last = first + n_samples
        found = bytearray(SAMPLE_BYTES * n_samples)
        for stretch in reversed(self._played):
            if stretch.end <= first:
                break
            start, end = max(first, stretch.start), min(last, stretch.end)
            if start < end:
                piece = stretch.pcm[
                    (start - stretch.start) * SAMPLE_BYTES : (end - stretch.start) * SAMPLE_BYTES
                ]
                found[(start - first) * SAMPLE_BYTES : (end - first) * SAMPLE_BYTES] = piece
        return bytes(found)
