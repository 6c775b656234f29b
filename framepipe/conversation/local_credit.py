"""May the local detector mute? It loses its credit by muting in vain.

An echo of the agent's own voice, a keyboard, a dog: each makes the agent fall silent and go on,
over and over. After a few wrong mutes within five seconds the detector is not believed for a while;
the second stage and the service still are. A mute that the service calls speech was not wrong: a
long user turn mutes many times in a row, and must not disarm the detector.

Sans-IO; times are engine nanoseconds.
"""

from __future__ import annotations

from collections import deque
from typing import Final

QUIET_NS: Final = 100_000_000
"""Silence of the local detector after which it may mute again, once it was wrong."""

WINDOW_NS: Final = 5_000_000_000
"""Span in which wrong mutes are counted. An echo mutes itself two to three times a second."""


class LocalCredit:
    """Counts the wrong mutes of the local detector.

    Args:
        mutes_per_5_s: So many of them within five seconds disarm it.
    """

    def __init__(self, mutes_per_5_s: int) -> None:
        self._mutes_per_5_s = mutes_per_5_s
        self._wrong_ns: deque[int] = deque(maxlen=mutes_per_5_s)
        self._quiet_since_ns: int | None = None
        self._hangs_on = False
        self._is_told = False

    def edge(self, at_ns: int) -> bool:
        """It heard something; whether it may mute."""
        quiet_since_ns, self._quiet_since_ns = self._quiet_since_ns, None
        if quiet_since_ns is not None and at_ns - quiet_since_ns >= QUIET_NS:
            self._hangs_on = False
        return self.is_good(at_ns) and not self._hangs_on

    def is_good(self, at_ns: int) -> bool:
        """Whether somebody may mute for a first suspicion who does not hang on after a sound."""
        while self._wrong_ns and self._wrong_ns[0] <= at_ns - WINDOW_NS:
            self._wrong_ns.popleft()
        if not self._is_spent:
            self._is_told = False
        return not self._is_spent

    def quiet(self, at_ns: int) -> None:
        """It hears nothing any more."""
        self._quiet_since_ns = at_ns

    def wrong(self, at_ns: int, *, counts: bool) -> bool:
        """A mute was taken back; no other until it has been quiet, for it hangs on after a sound.

        Args:
            at_ns: When.
            counts: Nobody else says speech at the moment.

        Returns:
            Whether its credit is spent now, which is worth telling once.
        """
        self._hangs_on = True
        if counts:
            self._wrong_ns.append(at_ns)
        is_news = self._is_spent and not self._is_told
        self._is_told = self._is_told or is_news
        return is_news

    def right_since(self, at_ns: int) -> None:
        """The mutes since then were right: it was speech, and the service late."""
        while self._wrong_ns and self._wrong_ns[-1] >= at_ns:
            self._wrong_ns.pop()

    @property
    def _is_spent(self) -> bool:
        return len(self._wrong_ns) >= self._mutes_per_5_s
