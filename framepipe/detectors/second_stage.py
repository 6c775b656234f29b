"""Was that speech? The second opinion on what the fast detector took for it.

The fast detector asks (`SecondStage.suspect`); every question gets one answer. *Yes* when the
probability was high in most of the last windows; *no* when none was even moderate for a while.
In between there is no answer yet: whoever waits must have a deadline of his own. Speech that
nobody asked about is confirmed as well, once per utterance: the fast detector hangs on after a
sound, and does not hear what begins inside that.

The rule and its numbers are measured (docs/explanation/measurements.md): a turn is confirmed
about 170 ms after its onset, coughs and keys hardly ever are. They are for windows that overlap
by half; where windows follow one another, half as many say the same. Sans-IO: windows in,
verdicts out. Positions are samples of one stream.
"""

from __future__ import annotations

from collections import deque

from framepipe.detectors.silero import Window
from framepipe.errors import FrameError
from framepipe.frames import SpeechConfirmed, SpeechRejected


class SecondStage:
    """Confirms or rejects speech from a probability every 16 ms.

    Args:
        rate_hz: Rate of the stream whose positions the windows have.
        confirm_p: A window at or above it speaks for speech, 0 to 1.
        confirm_windows: So many of them confirm,
        of_windows: among the last so many windows.
        reject_p: A window at or above it may be speech, 0 to 1.
        reject_ms: After so long without such a window it was none.

    Raises:
        FrameError: A number is out of its range.
    """

    def __init__(
        self,
        rate_hz: int,
        *,
        confirm_p: float = 0.93,
        confirm_windows: int = 6,
        of_windows: int = 12,
        reject_p: float = 0.6,
        reject_ms: int = 192,
    ) -> None:
        if not 0.0 < reject_p <= confirm_p <= 1.0:
            raise FrameError(
                f"reject_p is {reject_p} and confirm_p {confirm_p}; they must be above 0, at most "
                "1, and in this order"
            )
        if not 1 <= confirm_windows <= of_windows:
            raise FrameError(
                f"confirm_windows is {confirm_windows} of {of_windows}; it must be 1 to of_windows"
            )
        if reject_ms <= 0:
            raise FrameError(f"reject_ms is {reject_ms}; it must be 1 or more")
        self.confirm_p, self.confirm_windows = confirm_p, confirm_windows
        self.reject_p = reject_p
        self._reject_samples = rate_hz * reject_ms // 1000
        self._recent: deque[bool] = deque(maxlen=of_windows)
        self._asked: int | None = None  # onset of what the fast detector heard
        self._began: int | None = None  # first window that may be speech, until it is over
        self._quiet_since = 0
        self._is_news = True  # this utterance was not confirmed yet

    @property
    def may_be_speech(self) -> bool:
        """Whether a window of late may have been speech."""
        return self._began is not None

    def suspect(self, onset_sample: int) -> None:
        """The fast detector heard something that began there."""
        self._asked = onset_sample
        self._is_news = True
        self._quiet_since = max(self._quiet_since, onset_sample)

    def seek(self, sample: int) -> None:
        """The next window begins here or later: what was before does not lead to it."""
        self._recent.clear()
        self._began = None
        self._is_news = True
        self._quiet_since = sample

    def judge(self, window: Window, at_ns: int = 0) -> SpeechConfirmed | SpeechRejected | None:
        """Take the next window.

        Args:
            window: What the model says of it.
            at_ns: Engine time, for the answer.

        Returns:
            The answer, if there is one now.
        """
        self._recent.append(window.probability >= self.confirm_p)
        if window.probability >= self.reject_p:
            self._quiet_since = window.end_sample
            if self._began is None:
                self._began = window.start_sample
        if self._is_news and sum(self._recent) >= self.confirm_windows:
            return self._confirm(window, at_ns)
        if window.end_sample - self._quiet_since >= self._reject_samples:
            return self._over(window, at_ns)
        return None

    def _confirm(self, window: Window, at_ns: int) -> SpeechConfirmed:
        # Whoever heard it first: inside its own hangover the fast detector comes late.
        began = window.start_sample if self._began is None else self._began
        onset = began if self._asked is None else min(self._asked, began)
        self._asked, self._is_news = None, False
        return SpeechConfirmed(
            source="silero", onset_sample=onset, probability=window.probability, at_ns=at_ns
        )

    def _over(self, window: Window, at_ns: int) -> SpeechRejected | None:
        self._began, self._is_news = None, True
        self._recent.clear()
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        return SpeechRejected(
            source="silero", onset_sample=asked, probability=window.probability, at_ns=at_ns
        )
