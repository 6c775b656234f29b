"""A filter that answers late, and takes frames of one length, without moving a sample.

Echo cancellers work on frames of exactly 10 ms and give each sound some milliseconds later than
they took it. Passed on as it comes, the sound would be at another position of the capture clock
than it was. So what a filter gives is put where the sound was: nothing is shifted, everything is
only known later, by the filter's delay and up to a frame. As many samples leave as came in, in
order (promise P4); the last of a stretch are driven out of the filter by silence.

Sans-IO: samples and positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from framepipe.errors import FrameError
from framepipe.frames import SAMPLE_BYTES

Piece: TypeAlias = tuple[int, bytes]
"""Position of the first sample, and the samples."""


class LateFilter:
    """Frames and positions for a filter that has neither.

    Args:
        process: Takes the position of a frame and its ``frame_samples`` samples, mono; gives as
            many, each sound ``delay_samples`` late.
        frame_samples: Length of a frame.
        delay_samples: The delay.

    Raises:
        FrameError: A length that makes no sense.
    """

    def __init__(
        self, process: Callable[[int, bytes], bytes], *, frame_samples: int, delay_samples: int
    ) -> None:
        if frame_samples <= 0 or delay_samples < 0:
            raise FrameError(
                f"frame_samples is {frame_samples} and delay_samples {delay_samples}; the first "
                "must be 1 or more, the second 0 or more"
            )
        self._process = process
        self._frame_bytes = SAMPLE_BYTES * frame_samples
        self._delay_samples = delay_samples
        self._rest = b""
        self._next = 0  # position of the first sample of `_rest`
        self._owed = 0  # samples that came in and have not left
        self._early = delay_samples  # samples to come that are older than this stretch

    @property
    def position(self) -> int:
        """Position of the next sample, if none is missing."""
        return self._next + len(self._rest) // SAMPLE_BYTES

    def feed(self, start_sample: int, pcm: bytes) -> list[Piece]:
        """Take the next samples; a gap ends the stretch before it.

        Returns:
            What can be known of them and of those before, in order.

        Raises:
            FrameError: ``pcm`` ends in the middle of a sample.
        """
        if len(pcm) % SAMPLE_BYTES:
            raise FrameError(f"{len(pcm)} bytes is not whole 16-bit samples")
        pieces: list[Piece] = []
        if start_sample != self.position:
            pieces = self.flush()
            self._next = start_sample
        self._owed += len(pcm) // SAMPLE_BYTES
        self._rest += pcm
        return pieces + self._frames()

    def flush(self) -> list[Piece]:
        """The stretch is over.

        Returns:
            All of it that has not left.
        """
        owed, end = self._owed, self.position
        if not owed:
            return []
        wanted = len(self._rest) + SAMPLE_BYTES * self._delay_samples
        frames = -(-wanted // self._frame_bytes)
        self._rest += bytes(frames * self._frame_bytes - len(self._rest))
        made = b"".join(pcm for _, pcm in self._frames())[: SAMPLE_BYTES * owed]
        assert len(made) == SAMPLE_BYTES * owed, "a frame is longer than what it lacked"
        self._rest, self._next = b"", end
        self._owed, self._early = 0, self._delay_samples
        return [(end - owed, made)]

    def _frames(self) -> list[Piece]:
        n_bytes = len(self._rest) // self._frame_bytes * self._frame_bytes
        if not n_bytes:
            return []
        made = bytearray()
        for at in range(0, n_bytes, self._frame_bytes):
            frame = self._rest[at : at + self._frame_bytes]
            made += self._process(self._next, frame)
            self._next += self._frame_bytes // SAMPLE_BYTES
        self._rest = self._rest[n_bytes:]
        early = min(self._early, len(made) // SAMPLE_BYTES)
        self._early -= early
        pcm = bytes(made[SAMPLE_BYTES * early :])
        if not pcm:
            return []
        start = self.position - self._owed
        self._owed -= len(pcm) // SAMPLE_BYTES
        return [(start, pcm)]
