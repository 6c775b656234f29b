"""The careful ear: Silero, a probability of speech every 32 ms.

It comes through ``pysilero_vad``, which carries the model and needs nothing else. One window
costs about 0.1 ms. Sans-IO: samples in, probabilities out.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from framepipe.audio import Resampler, mixed_to_mono
from framepipe.detectors.silero_model import SileroVoiceActivityDetector
from framepipe.errors import FrameError

MODEL_RATE_HZ: Final = 16_000
"""The only rate the model knows; other rates are converted, 0.75 ms late."""

WINDOW_SAMPLES: Final = 512
"""Length of the model's window at that rate: 32 ms."""

_WINDOW_BYTES: Final = 2 * WINDOW_SAMPLES


@frozen
class Window:
    """What the model says of one window. Positions are samples of the stream it was given.

    Attributes:
        probability: Of speech, 0 to 1.
        start_sample: First sample of the window.
        end_sample: One past its last sample.
    """

    probability: float
    start_sample: int
    end_sample: int


class SileroDetector:
    """Gives each 32 ms of a stream a probability of speech; blocks may have any length.

    Args:
        rate_hz: Rate of the stream.
        channels: 1, or 2 to be mixed.

    Raises:
        FrameError: The rate cannot be converted to 16 kHz.
    """

    def __init__(self, rate_hz: int, *, channels: int = 1) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self._resampler = Resampler(rate_hz, MODEL_RATE_HZ)
        self._model = SileroVoiceActivityDetector()
        self._rest = b""
        self._offset = 0
        self._windows = 0
        self._fed = 0

    def reset(self, sample: int = 0) -> None:
        """Forget everything heard; the next sample has this position."""
        self._resampler.reset()
        self._model.reset()
        self._rest = b""
        self._offset, self._windows, self._fed = sample, 0, 0

    def horizon(self, n_samples: int) -> int:
        """How many of the next ``n_samples`` can be fed as one block without hearing later.

        Returns:
            1 to ``n_samples``, or 0 when ``n_samples`` is 0.
        """
        # The last of a window's samples comes out with the input sample at the same time.
        last = (self._windows + 1) * WINDOW_SAMPLES - 1
        return min(n_samples, last * self.rate_hz // MODEL_RATE_HZ + 1 - self._fed)

    def feed(self, pcm: bytes) -> list[Window]:
        """Take the next samples.

        Returns:
            A verdict for each window that they complete, oldest first.

        Raises:
            FrameError: ``pcm`` ends in the middle of a sample.
        """
        if len(pcm) % (2 * self.channels):
            raise FrameError(f"{len(pcm)} bytes is not whole {self.channels}-channel samples")
        self._fed += len(pcm) // (2 * self.channels)
        waiting = self._rest + self._resampler.process(mixed_to_mono(pcm, self.channels))
        windows: list[Window] = []
        at = 0
        while at + _WINDOW_BYTES <= len(waiting):
            probability = self._model.process_chunk(waiting[at : at + _WINDOW_BYTES])
            windows.append(Window(probability, self._place(0), self._place(1)))
            self._windows += 1
            at += _WINDOW_BYTES
        self._rest = waiting[at:]
        return windows

    def _place(self, ahead: int) -> int:
        samples = (self._windows + ahead) * WINDOW_SAMPLES
        return self._offset + samples * self.rate_hz // MODEL_RATE_HZ
