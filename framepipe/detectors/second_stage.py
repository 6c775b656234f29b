"""Was that speech? The second opinion on what the fast detector took for it.

The fast detector asks (`SecondStage.suspect`); every question gets one answer. *Yes* when there is
evidence enough in the last windows; *no* when none was even moderate for a while. In between there
is no answer yet: whoever waits must have a deadline of his own.

It hears what the fast detector does not: that hangs on after a sound, so that nothing new begins
for it while it does, and in a noisy room it is not listened to at all. So the first window that may
be speech, where nobody has asked, asks by itself (`SpeechStarted`) and is answered like any other
question. The end of what was confirmed is told as well (`SpeechStopped`).

The rule and its numbers are measured (docs/explanation/measurements.md): a turn is confirmed
about 160 ms after its onset, coughs and keys hardly ever are. They are for windows that overlap
by half; where windows follow one another, half as many say the same. Sans-IO: windows in,
verdicts out. Positions are samples of one stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final, TypeAlias

from attrs import frozen

from framepipe.detectors.silero import Window
from framepipe.errors import FrameError
from framepipe.frames import SpeechConfirmed, SpeechRejected, SpeechStarted, SpeechStopped

SOURCE: Final = "silero"
"""Who says so, in the frames."""

Told: TypeAlias = SpeechStarted | SpeechConfirmed | SpeechRejected | SpeechStopped
"""What a window can bring."""


@frozen
class Evidence:
    """Speech is what so many of the last windows call at least so probable.

    Attributes:
        p: Least probability of a window that counts, above 0 and at most 1.
        windows: So many that count are enough, 1 or more,
        of: among the last so many.

    Raises:
        FrameError: A number is out of its range.
    """

    p: float
    windows: int
    of: int

    def __attrs_post_init__(self) -> None:
        if not 0.0 < self.p <= 1.0 or not 1 <= self.windows <= self.of:
            raise FrameError(
                f"the evidence is {self.windows} of {self.of} windows at {self.p}; it must be 1 or "
                "more, of as many or more, at a probability above 0 and at most 1"
            )


EVIDENCE: Final = (Evidence(p=0.93, windows=6, of=10), Evidence(p=0.8, windows=10, of=16))
"""A clear voice is sure at once. A soft one, one in noise, or one too loud for the model is likely
for longer: without the second line three in a hundred such words were never confirmed."""


class SecondStage:
    """Confirms or rejects speech from a probability every 16 ms.

    Args:
        rate_hz: Rate of the stream whose positions the windows have.
        confirm: Each of these is enough to confirm.
        reject_p: A window at or above it may be speech, above 0 to the least of the evidence.
        reject_ms: After so long without such a window it was none.

    Raises:
        FrameError: A number is out of its range.
    """

    def __init__(
        self,
        rate_hz: int,
        *,
        confirm: Sequence[Evidence] = EVIDENCE,
        reject_p: float = 0.6,
        reject_ms: int = 192,
    ) -> None:
        if not confirm:
            raise FrameError("no evidence would confirm; EVIDENCE is what was measured best")
        least = min(evidence.p for evidence in confirm)
        if not 0.0 < reject_p <= least:
            raise FrameError(
                f"reject_p is {reject_p}; it must be above 0 and at most {least}, the least that "
                "confirms"
            )
        if reject_ms <= 0:
            raise FrameError(f"reject_ms is {reject_ms}; it must be 1 or more")
        self._confirms = tuple(confirm)
        self._reject_p = reject_p
        self._reject_samples = rate_hz * reject_ms // 1000
        self._recent: deque[float] = deque(maxlen=max(evidence.of for evidence in confirm))
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

    def judge(self, window: Window, at_ns: int = 0) -> Told | None:
        """Take the next window.

        Args:
            window: What the model says of it.
            at_ns: Engine time, for what is told.

        Returns:
            What it brings: a question of its own, an answer, or the end of what was confirmed.
        """
        # What is covered is evidence neither for nor, where it may be speech, against it.
        self._recent.append(0.0 if window.is_covered else window.probability)
        may_be = window.probability >= self._reject_p
        begins = may_be and self._began is None and not window.is_covered
        if may_be:
            self._quiet_since = window.end_sample
        if begins:
            self._began = window.start_sample
        if self._is_news and any(map(self._is_there, self._confirms)):
            return self._confirm(window, at_ns)
        if begins and self._asked is None:
            self.suspect(window.start_sample)
            return SpeechStarted(source=SOURCE, onset_sample=window.start_sample, at_ns=at_ns)
        if window.end_sample - self._quiet_since >= self._reject_samples:
            return self._over(window, at_ns)
        return None

    def _is_there(self, evidence: Evidence) -> bool:
        oldest = max(0, len(self._recent) - evidence.of)
        counting = (p >= evidence.p for p in islice(self._recent, oldest, None))
        return sum(counting) >= evidence.windows

    def _confirm(self, window: Window, at_ns: int) -> SpeechConfirmed:
        # Whoever heard it first: inside its own hangover the fast detector comes late.
        began = window.start_sample if self._began is None else self._began
        onset = began if self._asked is None else min(self._asked, began)
        self._asked, self._is_news = None, False
        return SpeechConfirmed(
            source=SOURCE, onset_sample=onset, probability=window.probability, at_ns=at_ns
        )

    def _over(self, window: Window, at_ns: int) -> SpeechRejected | SpeechStopped | None:
        asked, was_confirmed = self._asked, not self._is_news
        self._asked, self._began, self._is_news = None, None, True
        self._recent.clear()
        if asked is not None:
            return SpeechRejected(
                source=SOURCE, onset_sample=asked, probability=window.probability, at_ns=at_ns
            )
        if was_confirmed:
            return SpeechStopped(source=SOURCE, end_sample=self._quiet_since, at_ns=at_ns)
        return None
