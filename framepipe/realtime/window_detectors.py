"""How the embedded server judges a 32 ms window: by the Silero model, or merely by loudness.

Silero is the default. Loudness is for generated conversations, where silence is digital silence
and a thousand calls must not cost a model each.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from framepipe.audio import FULL_SCALE, rms_dbfs, samples_of
from framepipe.detectors.silero_model import SileroVoiceActivityDetector
from framepipe.realtime.server_vad import WINDOW_SAMPLES

_QUIET = 16
"""No sample beyond this, 66 dB below full scale: nobody speaks, and the model need not be asked."""

_TAPS = 33
"""Samples at 24 kHz that make one at 16 kHz: 50 dB of stopband, 0.7 ms of delay."""


def _two_phases() -> NDArray[np.float32]:
    """The low-pass at 16 kHz: column k makes sample k of each two, from three new samples."""
    centre = (_TAPS - 1) / 2
    into = np.arange(_TAPS + 2)[:, None] - np.array([0.0, 1.5])[None, :]
    made = (
        np.sinc((into - centre) * 0.62)
        * np.kaiser(2 * _TAPS + 1, 5.0)[np.clip(np.rint(2 * into + 1).astype(int), 0, 2 * _TAPS)]
    )
    phases: NDArray[np.float32] = (made / made.sum(axis=0) / FULL_SCALE).astype(np.float32)
    return phases


_PHASES = _two_phases()


class SileroWindows:
    """Judges 32 ms windows with the Silero model that pysilero-vad carries.

    It has a rate conversion of its own, four times as fast as `Resampler`: all windows have one
    length and one ratio, and a server judges 31 of them a second for every session.
    """

    def __init__(self) -> None:
        self._silero = SileroVoiceActivityDetector()
        self._heard = np.zeros(_TAPS - 1 + WINDOW_SAMPLES, np.float32)
        self._frames = np.lib.stride_tricks.as_strided(
            self._heard,
            (WINDOW_SAMPLES // 3, _TAPS + 2),
            (3 * self._heard.itemsize, self._heard.itemsize),
        )

    def probability(self, window: bytes, /) -> float:
        """Judge one window of 24 kHz mono s16le; see `SpeechDetector`."""
        samples = samples_of(window)
        self._heard[: _TAPS - 1] = self._heard[WINDOW_SAMPLES:]
        self._heard[_TAPS - 1 :] = samples
        if samples.max() <= _QUIET and samples.min() >= -_QUIET:
            return 0.0
        converted = self._frames @ _PHASES
        return float(self._silero.process_samples(converted.ravel().tolist()))

    def reset(self) -> None:
        """Forget earlier windows."""
        self._silero.reset()
        self._heard[:] = 0


class LoudWindows:
    """Calls a window speech when it is louder than ``floor_dbfs`` (dB RMS, 0 is full scale)."""

    def __init__(self, floor_dbfs: float = -45.0) -> None:
        self.floor_dbfs = floor_dbfs

    def probability(self, window: bytes, /) -> float:
        """Judge one window of 24 kHz mono s16le: 0.0 or 1.0."""
        return float(rms_dbfs(window) >= self.floor_dbfs)

    def reset(self) -> None:
        """Nothing to forget."""
