"""Bring a quiet voice to the level at which a model of speech knows it.

The probabilities of the Silero model fall with the level of the voice: one in six short words
spoken across the room was missed as it was, and heard 9 dB louder none was. But heard louder than
it is, a voice close by is judged worse, and a sneeze becomes a word. So the gain follows the
level: what is loud stays as it is.

Sans-IO: the samples of one window in, a factor out. The louder windows of late count: the level
rises at once and falls slowly, so that the pauses between words are not made loud.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from framepipe.audio import FULL_SCALE, Samples
from framepipe.errors import FrameError

_SILENCE_DBFS: Final = -120.0


class AutomaticGain:
    """Says by which factor to hear the next window.

    Args:
        most_db: The most that it adds, in decibels, 0 or more. 0: all is heard as it is.
        level_dbfs: Windows of that level or louder are heard as they are (RMS, 0 is full scale).
        release_db_per_s: How fast the level that it goes by falls after a loud window.

    Raises:
        FrameError: A number is out of its range.
    """

    def __init__(
        self, most_db: float = 9.0, *, level_dbfs: float = -26.0, release_db_per_s: float = 20.0
    ) -> None:
        if not 0.0 <= most_db <= 60.0 or level_dbfs > 0.0 or release_db_per_s <= 0.0:
            raise FrameError(
                f"most_db is {most_db}, level_dbfs {level_dbfs} and release_db_per_s "
                f"{release_db_per_s}; they must be 0 to 60, 0 or less, and more than 0"
            )
        self.most_db, self.level_dbfs, self.release_db_per_s = most_db, level_dbfs, release_db_per_s
        self._heard_dbfs = _SILENCE_DBFS

    def reset(self) -> None:
        """Forget how loud it was."""
        self._heard_dbfs = _SILENCE_DBFS

    def factor(self, window: Samples, elapsed_ms: float) -> float:
        """The factor for a window, 1 or more.

        Args:
            window: Its samples, 16 bits; at least one.
            elapsed_ms: Time since the window before began.
        """
        heard = window.astype(np.float64)
        power = float(heard @ heard) / (len(heard) * FULL_SCALE**2)
        level = 10.0 * math.log10(power) if power else _SILENCE_DBFS
        fallen = self._heard_dbfs - self.release_db_per_s * elapsed_ms / 1000
        self._heard_dbfs = max(level, fallen, _SILENCE_DBFS)
        gain_db = min(self.most_db, max(0.0, self.level_dbfs - self._heard_dbfs))
        return float(10.0 ** (gain_db / 20))
