"""The last half minute of microphone audio, kept for the socket that comes after this one.

Appended audio has no acknowledgement, so nobody knows what a dead socket had delivered. The ring
keeps what was captured, sent or not. One cursor says what is to be sent next; a new socket sets
it back to the end of the last user item that the service is known to have.

Sans-IO: positions are samples of the capture clock.
"""

from __future__ import annotations

from collections import deque

from framepipe.frames import SAMPLE_BYTES, AudioIn

RING_S = 30
"""Microphone audio that is kept: longer than a reconnect takes, and than anybody speaks on."""


class MicRing:
    """Microphone audio that waits for a socket, and that waited for the one before.

    Args:
        rate_hz: Samples per second.
        capacity_s: Seconds that are kept; the oldest is forgotten beyond it, sent or not.
    """

    def __init__(self, rate_hz: int, capacity_s: int = RING_S) -> None:
        self._capacity_samples = rate_hz * capacity_s
        self._kept: deque[AudioIn] = deque()
        self._kept_samples = 0
        self._next = 0
        self._from_sample = 0

    @property
    def waiting(self) -> bool:
        """Whether something is to be sent."""
        return self._next < len(self._kept)

    @property
    def waiting_samples(self) -> int:
        """How much that is."""
        ahead = (frame for n, frame in enumerate(self._kept) if n >= self._next)
        ends = [(frame.start_sample, frame.start_sample + frame.n_samples) for frame in ahead]
        return sum(max(0, end - max(start, self._from_sample)) for start, end in ends)

    @property
    def start_sample(self) -> int | None:
        """Where the oldest audio that is kept begins; ``None``: there is none."""
        return self._kept[0].start_sample if self._kept else None

    def put(self, frame: AudioIn) -> None:
        """Microphone audio, in the order of the capture clock."""
        if not frame.n_samples:
            return  # nothing to send, and a ring that is measured in samples would never be full
        self._kept.append(frame)
        self._kept_samples += frame.n_samples
        # What is forgotten unsent leaves a gap, and a gap is sent as silence and reported.
        while self._kept_samples > self._capacity_samples and len(self._kept) > 1:
            self._kept_samples -= self._kept.popleft().n_samples
            self._next = max(0, self._next - 1)

    def take(self) -> tuple[int, bytes]:
        """What is to be sent next: its position and its samples.

        Raises:
            IndexError: Nothing waits; ask `waiting`.
        """
        frame = self._kept[self._next]
        self._next += 1
        skipped = max(0, self._from_sample - frame.start_sample)
        return frame.start_sample + skipped, frame.pcm_bytes()[skipped * SAMPLE_BYTES :]

    def rewind(self, sample: int | None) -> None:
        """Send again what was captured from ``sample`` on, as far as it is kept.

        Args:
            sample: ``None``: all that is kept.
        """
        self._next = 0
        if sample is None:
            return
        self._from_sample = sample
        for frame in self._kept:
            if frame.start_sample + frame.n_samples > sample:
                break
            self._next += 1

    def between(self, start_sample: int, end_sample: int) -> bytes | None:
        """The samples from one position up to another, ``None`` unless all of them are kept."""
        pieces: list[bytes] = []
        at = start_sample
        for frame in self._kept:
            frame_end = frame.start_sample + frame.n_samples
            if frame_end <= at or at >= end_sample:
                continue
            if frame.start_sample > at:
                return None
            first = (at - frame.start_sample) * SAMPLE_BYTES
            last = (min(end_sample, frame_end) - frame.start_sample) * SAMPLE_BYTES
            pieces.append(frame.pcm_bytes()[first:last])
            at = min(end_sample, frame_end)
        return b"".join(pieces) if at == end_sample > start_sample else None
