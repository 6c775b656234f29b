"""The fast ear: webrtcvad, a verdict every 10, 20 or 30 ms.

It hears the first 10 ms of speech, and also every cough, key and door; telling those apart is
somebody else's work. Sans-IO: samples in, verdicts out.

The detector works at 8 kHz inside whatever it is given, so rates it does not know are averaged
down to that. It *hangs on*: after a sound it goes on saying "speech" for 150 to 600 ms, longer
after loud and long ones. A falling edge is therefore late (`WebrtcDetector.hangover_ms`), and a
sound that begins inside the hangover makes no new edge.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias, cast

import webrtcvad  # pyright: ignore[reportMissingTypeStubs]
from attrs import frozen

from framepipe.audio import mean_of, mixed_to_mono
from framepipe.errors import FrameError

FrameMs: TypeAlias = Literal[10, 20, 30]
"""Lengths of frame that webrtcvad knows."""

Mode: TypeAlias = Literal[0, 1, 2, 3]
"""How strict webrtcvad is: 3 misses soft onsets, 0 hears everything."""

RATES_HZ: Final = (8_000, 16_000, 24_000, 32_000, 48_000)
"""Rates that can be heard."""

_AVERAGED: Final = {24_000: 3, 48_000: 6}
"""Neighbours to average for 8 kHz: webrtcvad does not know 24 kHz and is ten times slower at 48."""

_DEFAULT_MODE: Final[dict[int, Mode]] = {10: 1, 20: 2, 30: 2}
"""The mode for each frame length. From onset to verdict on 40 labelled clips, p50 / p95: 11 / 20 ms
for mode 1 at 10 ms, 19 / 82 for mode 2 at 20 ms, 24 / 91 at 30 ms; mode 2 at 10 ms has 11 / 65,
mode 3 misses soft onsets (18 / 144)."""

_HANGOVER_MS: Final = (150, 150, 100, 60)
"""How late the falling edge is after speech, for each mode: median on the same clips, to 10 ms.
After loud noises it is two to four times that."""


class _Vad(Protocol):
    def is_speech(self, buf: bytes, sample_rate: int) -> bool: ...


@frozen
class Verdict:
    """What the detector says of one frame. Positions are samples of the stream it was given.

    Attributes:
        speech: Whether it hears speech.
        start_sample: First sample of the frame.
        end_sample: One past its last sample.
    """

    speech: bool
    start_sample: int
    end_sample: int


class WebrtcDetector:
    """Says of each frame of a stream whether it is speech; blocks may have any length.

    Args:
        rate_hz: One of `RATES_HZ`.
        channels: 1, or 2 to be mixed.
        frame_ms: 10, 20 or 30; the shorter, the earlier the verdict.
        mode: 0 to 3; by default 1 at 10 ms and 2 otherwise.

    Raises:
        FrameError: A number that webrtcvad cannot work with.
    """

    def __init__(
        self,
        rate_hz: int,
        *,
        channels: int = 1,
        frame_ms: FrameMs = 10,
        mode: Mode | None = None,
    ) -> None:
        if rate_hz not in RATES_HZ:
            known = ", ".join(str(rate) for rate in RATES_HZ)
            raise FrameError(
                f"rate_hz is {rate_hz}; the detector hears {known}; put Resample(24000) before it"
            )
        if frame_ms not in _DEFAULT_MODE:
            raise FrameError(f"frame_ms is {frame_ms}; webrtcvad takes frames of 10, 20 or 30 ms")
        mode = _DEFAULT_MODE[frame_ms] if mode is None else mode
        if mode not in range(4):
            raise FrameError(f"mode is {mode}; webrtcvad has the modes 0, 1, 2 and 3")
        self.rate_hz, self.channels = rate_hz, channels
        self.frame_ms, self.mode = frame_ms, mode
        self.frame_samples = rate_hz * frame_ms // 1000
        self._averaged = _AVERAGED.get(rate_hz, 1)
        self._vad = cast("_Vad", webrtcvad.Vad(mode))
        self._rest = b""
        self._position = 0  # of the first sample of `_rest`

    @property
    def hangover_ms(self) -> int:
        """How late a falling edge after speech usually is, in milliseconds."""
        return _HANGOVER_MS[self.mode]

    @property
    def position(self) -> int:
        """Position of the next sample to be fed."""
        return self._position + len(self._rest) // (2 * self.channels)

    def seek(self, sample: int) -> None:
        """The next sample fed has this position: some are missing, or the stream starts there.

        A frame that was under way is dropped; what the detector learned of the room stays.
        """
        self._rest = b""
        self._position = sample

    def horizon(self, n_samples: int) -> int:
        """How many of the next ``n_samples`` can be fed as one block without hearing later.

        A verdict can only fall at the end of a frame: a block that ends there, or earlier, delays
        nothing, and before that nothing changes.

        Returns:
            1 to ``n_samples``, or 0 when ``n_samples`` is 0.
        """
        return min(n_samples, self._position + self.frame_samples - self.position)

    def feed(self, pcm: bytes) -> list[Verdict]:
        """Take the next samples.

        Returns:
            A verdict for each frame that they complete, oldest first.

        Raises:
            FrameError: ``pcm`` ends in the middle of a sample.
        """
        if len(pcm) % (2 * self.channels):
            raise FrameError(f"{len(pcm)} bytes is not whole {self.channels}-channel samples")
        waiting = self._rest + pcm if self._rest else pcm
        frame_bytes = 2 * self.channels * self.frame_samples
        n_frames = len(waiting) // frame_bytes
        if not n_frames:
            self._rest = waiting
            return []
        whole, self._rest = waiting[: n_frames * frame_bytes], waiting[n_frames * frame_bytes :]
        heard = mean_of(mixed_to_mono(whole, self.channels), self._averaged)
        heard_hz = self.rate_hz // self._averaged
        step = 2 * self.frame_samples // self._averaged
        verdicts: list[Verdict] = []
        for at in range(0, len(heard), step):
            speech = self._vad.is_speech(heard[at : at + step], heard_hz)
            start, self._position = self._position, self._position + self.frame_samples
            verdicts.append(Verdict(speech, start, self._position))
        return verdicts
