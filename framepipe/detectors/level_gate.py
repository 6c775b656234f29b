"""Is that the user, or the agent's own voice out of the loudspeaker?

A detector of speech cannot tell: the agent's voice is speech. Its level can: an echo comes back
weaker than it went out. So a frame of the microphone counts as near-end only if it is louder than
the loudest echo that is to be expected (`framepipe.detectors.echo_level`), and 6 dB more.

Sans-IO: levels and samples in, an answer for each stretch of samples out. Positions are samples of
the capture clock, times are engine time; nothing ticks.

Source: the rule and its numbers are measured on echoes of -10 to -50 dB; see
``docs/explanation/interruption.md``.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

import numpy as np
from attrs import evolve

from framepipe.audio import FULL_SCALE, mixed_to_mono, samples_of
from framepipe.detectors.echo_level import FRAME_MS, EchoLevel
from framepipe.detectors.silero import Window
from framepipe.detectors.webrtc import Verdict
from framepipe.errors import FrameError
from framepipe.frames import NS_PER_S

LONG_FRAMES: Final = 12
"""Who is louder than the echo in the mean of so many frames counts with less of a margin."""

LONG_MARGIN: Final = 0.5
"""So much of it."""

_PAUSE_DB: Final = 10.0  # a pause takes no more from that mean
_FLOOR_RISES_DB: Final = 0.05  # a frame: speech has a pause every second or two
_SILENT_DBFS: Final = -90.0
_TAIL_NS: Final = 1_000_000_000  # longer than a detector hangs on to an echo
_KEPT_FRAMES: Final = 200  # whoever asks, asks within the two seconds after


class LevelGate:
    """Says which stretches of a microphone's audio hold more than the echo of what was played.

    Where nothing was played in the last second everything counts.

    Args:
        rate_hz: Rate of the microphone.
        channels: 1, or 2 to be mixed.
        margin_db: How much louder a frame must be than the expected echo, and than the room.
        reach_ms: How long after it was played a sound may still come back.
        learn_ms: How much of the agent's speech must be learned from before what was learned of
            its echo is believed.
        span_ms: How far back in the agent's speech that looks.
        hold_ms: For so long after near-end speech softer sounds belong to it.
        window_hold_ms: The same for the windows of a second stage. Short: a click over the
            agent's voice lets its echo count in fewer windows than confirm speech.
        first_loss_db: Until then the return loss is not taken for less. An echo that comes back
            louder mutes the agent at the beginning; it needs an echo canceller or headphones.

    Attributes:
        echo: What is believed of it now.
        floor_dbfs: What is believed of the room: the softest frame of late.

    Raises:
        FrameError: A number is out of its range.
    """

    def __init__(
        self,
        rate_hz: int,
        *,
        channels: int = 1,
        margin_db: float = 6.0,
        reach_ms: int = 300,
        learn_ms: int = 1_000,
        span_ms: int = 4_000,
        hold_ms: int = 192,
        window_hold_ms: int = 24,
        first_loss_db: float = 10.0,
    ) -> None:
        if not FRAME_MS <= reach_ms <= 2_000:
            raise FrameError(f"reach_ms is {reach_ms}; it must be {FRAME_MS} to 2,000")
        for name, value in (
            ("learn_ms", learn_ms),
            ("hold_ms", hold_ms),
            ("window_hold_ms", window_hold_ms),
        ):
            if value < 0:
                raise FrameError(f"{name} is {value}; it must be 0 or more")
        if span_ms < max(FRAME_MS, learn_ms):
            raise FrameError(
                f"span_ms is {span_ms} and learn_ms {learn_ms}; the first must be {FRAME_MS} or "
                "more and at least the second"
            )
        if rate_hz <= 0 or rate_hz * FRAME_MS % 1000:
            raise FrameError(f"{FRAME_MS} ms at {rate_hz} Hz is not whole samples")
        self.rate_hz, self.channels = rate_hz, channels
        self.echo = EchoLevel(
            reach_ms=reach_ms, learn_ms=learn_ms, span_ms=span_ms, first_loss_db=first_loss_db
        )
        self.floor_dbfs = 0.0
        self._margin_db = margin_db
        self._hold_samples = rate_hz * hold_ms // 1000
        self._window_hold_samples = rate_hz * window_hold_ms // 1000
        self._reach_samples = rate_hz * reach_ms // 1000
        self._frame_samples = rate_hz * FRAME_MS // 1000
        self._full_power = float(self._frame_samples * FULL_SCALE**2)
        self._played_ns = -_TAIL_NS
        self._is_used = False
        # What was heard: from where to where the gate looked, and the frames that counted there.
        self._rest = b""
        self._next = 0
        self._gated_from = self._gated_to = 0
        self._counted: deque[int] = deque(maxlen=_KEPT_FRAMES)
        self._overs_db: deque[float] = deque(maxlen=LONG_FRAMES)
        self._near_until: int | None = None  # end of the last near-end speech over the agent

    def played(self, level_dbfs: float, at_ns: int) -> None:
        """Something is heard from the loudspeaker.

        Args:
            level_dbfs: How loud; minus infinity is silence. The gate knows the room only from the
                first report on, so it is well to make one before the first sound.
            at_ns: When.
        """
        self._is_used = True
        self.echo.played(level_dbfs, at_ns)
        if level_dbfs > -math.inf:
            self._played_ns = at_ns

    def hear(self, pcm: bytes, start_sample: int, end_ns: int) -> None:
        """Take the next samples of the microphone.

        Args:
            pcm: Signed 16-bit little-endian, channels interleaved.
            start_sample: Position of the first; a gap is no matter.
            end_ns: Engine time of the last.
        """
        if start_sample != self._next:
            self._rest = b""
        self._next = start_sample + len(pcm) // (2 * self.channels)
        if not self._is_used:
            return
        waiting = self._rest + mixed_to_mono(pcm, self.channels)
        size = self._frame_samples
        n_frames = len(waiting) // (2 * size)
        self._rest = waiting[2 * n_frames * size :]
        if not n_frames:
            return
        frames = samples_of(waiting[: 2 * n_frames * size]).astype(np.float32).reshape(n_frames, -1)
        end = self._next - len(self._rest) // 2 - (n_frames - 1) * size
        for power in np.einsum("ij,ij->i", frames, frames).tolist():
            self._judge(power, end, end_ns - (self._next - end) * NS_PER_S // self.rate_hz)
            end += size

    def near_end(self, start_sample: int, end_sample: int) -> bool:
        """Whether somewhere in a stretch there is more than an echo.

        Args:
            start_sample: Its first sample, of the last two seconds.
            end_sample: One past its last sample; all of it was heard.
        """
        if start_sample < self._gated_from or end_sample > self._gated_to:
            return True
        for counted in reversed(self._counted):
            if counted < end_sample:
                return counted + self._frame_samples > start_sample
        return False

    def verdict(self, verdict: Verdict, *, speaking: bool) -> Verdict:
        """What a fast detector's verdict is worth: an echo is no speech.

        Args:
            verdict: On a stretch that was heard.
            speaking: The user speaks since before it; soft sounds then belong to the speech.
        """
        if not verdict.speech:
            return verdict
        if self.near_end(verdict.start_sample, verdict.end_sample):
            if verdict.end_sample <= self._gated_to:
                # Only what was louder than the agent holds: what came before it proves nothing.
                self._near_until = verdict.end_sample
            return verdict
        if speaking and self._is_held(verdict.start_sample, self._hold_samples):
            return verdict
        return evolve(verdict, speech=False)

    def window(self, window: Window) -> Window:
        """What a probability is worth: the echo of speech is probably speech, and not the user's.

        Args:
            window: On a stretch that was heard, after the verdicts on it.

        Returns:
            As it is, where there is more than an echo. For as long after that as an echo can last
            it is *covered*: whoever spoke a moment ago may speak on, softly. Later it is an echo,
            of probability 0.
        """
        if self._is_held(window.start_sample, self._window_hold_samples):
            return window
        if self.near_end(window.start_sample, window.end_sample):
            return window
        if self._is_held(window.start_sample, self._reach_samples):
            return evolve(window, is_covered=True)
        return evolve(window, probability=0.0)

    def _is_held(self, start_sample: int, hold_samples: int) -> bool:
        if self._near_until is None:
            return False
        return 0 <= start_sample - self._near_until < hold_samples

    def _judge(self, power: float, end_sample: int, end_ns: int) -> None:
        heard_dbfs = _SILENT_DBFS
        if power > 0.0:
            heard_dbfs = max(_SILENT_DBFS, 10.0 * math.log10(power / self._full_power))
        self.floor_dbfs = min(heard_dbfs, self.floor_dbfs + _FLOOR_RISES_DB)
        if end_ns - self._played_ns > _TAIL_NS:
            return
        start_sample = end_sample - self._frame_samples
        if start_sample != self._gated_to:
            self._gated_from = start_sample
            self._counted.clear()
            self._overs_db.clear()
        self._gated_to = end_sample
        least_dbfs = self.floor_dbfs
        echo_dbfs = self.echo.expected_dbfs(end_ns)
        if echo_dbfs is not None:
            # Judged by what was known before it, or a loud frame would judge itself.
            least_dbfs = max(least_dbfs, echo_dbfs)
            self.echo.learn(heard_dbfs, self.floor_dbfs)
        over_db = heard_dbfs - least_dbfs
        # A click gives the mean no more than the margin.
        self._overs_db.append(min(max(over_db, -_PAUSE_DB), self._margin_db))
        if over_db > self._margin_db or self._is_over_for_long():
            self._counted.append(start_sample)

    def _is_over_for_long(self) -> bool:
        return sum(self._overs_db) > LONG_FRAMES * LONG_MARGIN * self._margin_db
