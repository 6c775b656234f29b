"""Where the user's speech begins and ends, on the service's own grid.

The clock is the audio appended in this session, cut into windows of 32 ms (all positions in
recordings of the service are whole windows). A window at or above the threshold opens a segment;
enough windows below it close the segment. Whoever owns this object decides what a segment means.

Sans-IO: audio in, edges out. It never waits and never drops audio.

Source: realtime reference, "VAD timing": ``audio_start_ms`` is the detection point minus the
prefix, ``audio_end_ms`` includes the silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from attrs import frozen

from framepipe.realtime.semantic_end import FIRST_LOOK_MS

RATE_HZ = 24_000
"""The service's own rate; other formats are brought to it first."""

WINDOW_MS = 32
"""512 samples at 16 kHz: the only window that Silero takes."""

WINDOW_SAMPLES = RATE_HZ * WINDOW_MS // 1000
"""The same window at 24 kHz."""

_HYSTERESIS = 0.15
"""Speech goes on while the probability stays above the threshold minus this, as in Silero's own
iterator: between two syllables the probability dips below any threshold that is worth having."""

Patience = Callable[[int], int]
"""Called with the sample at which the user fell silent, when that has lasted for a moment; the
silence in milliseconds that ends this segment."""


class SpeechDetector(Protocol):
    """Says how likely it is that a window holds speech. May remember earlier windows."""

    def probability(self, window: bytes, /) -> float:
        """Judge one window.

        Args:
            window: `WINDOW_SAMPLES` samples, 24 kHz mono, signed 16-bit little-endian.

        Returns:
            0.0 (certainly not) to 1.0 (certainly speech).
        """
        ...

    def reset(self) -> None:
        """Forget earlier windows: what comes next does not continue them."""
        ...


@frozen(kw_only=True)
class VadSettings:
    """When a segment opens and closes.

    Attributes:
        threshold: 0.0 to 1.0; higher needs clearer speech.
        prefix_padding_ms: Audio kept from before the detection.
        silence_duration_ms: Silence that closes a segment.
        by_words: Less silence may close it, if the words are a whole turn.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    by_words: bool = False


@frozen(kw_only=True)
class SegmentOpened:
    """Speech was detected.

    Attributes:
        detected_sample: End of the first window with speech, in samples appended so far.
    """

    detected_sample: int


@frozen(kw_only=True)
class SegmentClosed:
    """The silence after speech was long enough.

    Attributes:
        end_sample: End of the window that completed the silence.
    """

    end_sample: int


class ServerVad:
    """Cuts appended audio into windows and finds the segments of speech in them.

    Args:
        detector: Judges a window.
        patience: Decides how much silence ends a segment, where the settings leave it open.
    """

    def __init__(self, detector: SpeechDetector, patience: Patience | None = None) -> None:
        self.settings: VadSettings | None = VadSettings()
        """``None`` turns detection off: audio is counted, the detector is not asked."""
        self.appended_samples = 0
        self._detector = detector
        self._patience = patience
        self._wanted_ms: int | None = None
        self._pending = bytearray()  # the unfinished window
        self._open = False
        self._silence_samples = 0

    @property
    def speaking(self) -> bool:
        """Whether a segment is open."""
        return self._open

    def receive(self, pcm: bytes) -> Iterator[SegmentOpened | SegmentClosed]:
        """Take appended audio. What comes back is to be exhausted: it is found on the way.

        Args:
            pcm: Whole samples, 24 kHz mono, signed 16-bit little-endian, any number of them.

        Yields:
            The edges found in it, in order.
        """
        window_bytes = 2 * WINDOW_SAMPLES
        self._pending += pcm
        end_sample = self.appended_samples - self.appended_samples % WINDOW_SAMPLES
        self.appended_samples += len(pcm) // 2
        whole_bytes = len(self._pending) - len(self._pending) % window_bytes
        if self.settings is not None:
            for offset in range(0, whole_bytes, window_bytes):
                end_sample += WINDOW_SAMPLES
                window = bytes(self._pending[offset : offset + window_bytes])
                edge = self._judge(self._detector.probability(window), end_sample, self.settings)
                if edge is not None:
                    yield edge
        del self._pending[:whole_bytes]

    def forget(self) -> None:
        """Close an open segment without an edge: the client cleared or committed by itself.

        The detector keeps its memory, for the audio itself goes on.
        """
        self._open = False
        self._silence_samples = 0

    def configure(self, settings: VadSettings | None) -> None:
        """Judge from now on by ``settings``; turning detection off or on starts afresh."""
        if (settings is None) != (self.settings is None):
            self.forget()
            self._detector.reset()
        self.settings = settings

    def _silence_ms(self, end_sample: int, settings: VadSettings) -> int:
        """How much silence ends the segment; by the words, once there is a pause to look at."""
        if not settings.by_words or self._patience is None:
            return settings.silence_duration_ms
        if self._wanted_ms is None and self._silence_samples * 1000 >= FIRST_LOOK_MS * RATE_HZ:
            wanted_ms = self._patience(end_sample - self._silence_samples)
            self._wanted_ms = min(wanted_ms, settings.silence_duration_ms)
        return settings.silence_duration_ms if self._wanted_ms is None else self._wanted_ms

    def _judge(
        self, probability: float, end_sample: int, settings: VadSettings
    ) -> SegmentOpened | SegmentClosed | None:
        if not self._open:
            if probability < settings.threshold:
                return None
            self._open = True
            self._silence_samples = 0
            return SegmentOpened(detected_sample=end_sample)
        if probability >= max(settings.threshold - _HYSTERESIS, 0.01):
            self._silence_samples = 0
            self._wanted_ms = None
            return None
        self._silence_samples += WINDOW_SAMPLES
        if self._silence_samples * 1000 < self._silence_ms(end_sample, settings) * RATE_HZ:
            return None
        self._wanted_ms = None
        self._open = False
        return SegmentClosed(end_sample=end_sample)
