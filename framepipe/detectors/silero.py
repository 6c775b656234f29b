"""The careful ear: Silero, a probability of speech every 32 or 16 ms.

It comes through ``pysilero_vad``, which carries the model and needs nothing else. One window
costs about 0.1 ms. Sans-IO: samples in, probabilities out.

The model judges windows of 32 ms, and what it says of a short word depends on where its windows
fall on it: the same "stop you" was sure after 130 or after 360 ms. Two models half a window apart
take the chance out of that: each keeps its own memory, and hears every second window.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import numpy as np
from attrs import frozen

from framepipe.audio import FULL_SCALE, Resampler, mixed_to_mono, samples_of
from framepipe.detectors.automatic_gain import AutomaticGain
from framepipe.detectors.silero_model import SileroVoiceActivityDetector
from framepipe.errors import FrameError

MODEL_RATE_HZ: Final = 16_000
"""The only rate the model knows; other rates are converted, 0.75 ms late."""

WINDOW_SAMPLES: Final = 512
"""Length of the model's window at that rate: 32 ms."""

_WINDOW_BYTES: Final = 2 * WINDOW_SAMPLES

HopMs: TypeAlias = Literal[16, 32]
"""How often a window begins: 32 ms with one model, 16 with two that take turns."""


@frozen
class Window:
    """What the model says of one window. Positions are samples of the stream it was given.

    Attributes:
        probability: Of speech, 0 to 1.
        start_sample: First sample of the window.
        end_sample: One past its last sample.
        is_covered: All that is heard in it may be the echo of what was played a moment ago, and
            may as well be the user under it.
    """

    probability: float
    start_sample: int
    end_sample: int
    is_covered: bool = False


def models_for(hop_ms: HopMs) -> int:
    """How many models have to take turns.

    Raises:
        FrameError: It is neither 16 nor 32.
    """
    if hop_ms not in (16, 32):
        raise FrameError(f"hop_ms is {hop_ms}; a window of 32 ms begins every 16 or 32 ms")
    return 32 // hop_ms


class SileroDetector:
    """Gives each window of a stream a probability of speech; blocks may have any length.

    Args:
        rate_hz: Rate of the stream.
        channels: 1, or 2 to be mixed.
        hop_ms: A window of 32 ms begins every so many milliseconds: 32, or 16 with two models.
        gain: Makes quiet windows louder; ``None``: all are heard as they are.

    Raises:
        FrameError: The rate cannot be converted to 16 kHz, or another ``hop_ms``.
    """

    def __init__(
        self,
        rate_hz: int,
        *,
        channels: int = 1,
        hop_ms: HopMs = 32,
        gain: AutomaticGain | None = None,
    ) -> None:
        self.rate_hz, self.channels, self.hop_ms = rate_hz, channels, hop_ms
        self._hop_samples = MODEL_RATE_HZ * hop_ms // 1000
        self._resampler = Resampler(rate_hz, MODEL_RATE_HZ)
        self._models = [SileroVoiceActivityDetector() for _ in range(models_for(hop_ms))]
        self._gain = gain
        self._rest = b""  # from the start of the next window on
        self._offset = 0
        self._windows = 0
        self._fed = 0

    def reset(self, sample: int = 0) -> None:
        """Forget everything heard; the next sample has this position."""
        self._resampler.reset()
        for model in self._models:
            model.reset()
        if self._gain is not None:
            self._gain.reset()
        self._rest = b""
        self._offset, self._windows, self._fed = sample, 0, 0

    def horizon(self, n_samples: int) -> int:
        """How many of the next ``n_samples`` can be fed as one block without hearing later.

        Returns:
            1 to ``n_samples``, or 0 when ``n_samples`` is 0.
        """
        # The last of a window's samples comes out with the input sample at the same time.
        last = self._windows * self._hop_samples + WINDOW_SAMPLES - 1
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
            probability = self._judge(waiting[at : at + _WINDOW_BYTES])
            start = self._windows * self._hop_samples
            windows.append(
                Window(probability, self._place(start), self._place(start + WINDOW_SAMPLES))
            )
            self._windows += 1
            at += 2 * self._hop_samples
        self._rest = waiting[at:]
        return windows

    def _judge(self, pcm: bytes) -> float:
        heard = samples_of(pcm)
        factor = 1.0 if self._gain is None else self._gain.factor(heard, self.hop_ms)
        loud = np.clip(heard * (factor / FULL_SCALE), -1.0, 1.0)
        model = self._models[self._windows % len(self._models)]
        return float(model.process_samples(loud.tolist()))

    def _place(self, sample: int) -> int:
        return self._offset + sample * self.rate_hz // MODEL_RATE_HZ
