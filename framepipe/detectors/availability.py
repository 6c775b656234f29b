"""Is the fast detector of any use in this room?

With music, other people's talk or a fan behind the user, webrtcvad calls most of the time speech
and its edges mean nothing. What counts is the share of frames that it alone calls speech: while a
better detector agrees, a long turn of the user is being heard and nothing is wrong.

Sans-IO: one verdict a frame in, usable or not out.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from framepipe.errors import FrameError

_REARM: Final = 0.5
"""Usable again at this part of the share that made it unusable, so that it does not flutter."""


class Availability:
    """Says whether the fast detector can be used.

    Args:
        frame_ms: Length of its frames.
        span_ms: How far back to look. Nothing is decided before so much was heard.
        share: Above this share of wrong frames it is of no use, 0 to 1.

    Attributes:
        is_usable: Whether it is.

    Raises:
        FrameError: ``share`` or ``span_ms`` is out of its range.
    """

    def __init__(self, frame_ms: int, *, span_ms: int = 5_000, share: float = 0.5) -> None:
        if span_ms < frame_ms or not 0.0 < share <= 1.0:
            raise FrameError(
                f"span_ms is {span_ms} and share {share}; the first must be a frame or more, the "
                "second above 0 and at most 1"
            )
        self.is_usable = True
        self._n_frames = span_ms // frame_ms
        self._share = share
        self._frames: deque[bool] = deque()
        self._n_wrong = 0

    def note(self, is_wrong: bool) -> bool:
        """Take the verdict on the next frame.

        Args:
            is_wrong: The fast detector called it speech, and the better one does not.

        Returns:
            Whether `is_usable` has changed.
        """
        self._frames.append(is_wrong)
        self._n_wrong += is_wrong
        if len(self._frames) <= self._n_frames:
            return False
        self._n_wrong -= self._frames.popleft()
        share = self._n_wrong / self._n_frames
        was_usable = self.is_usable
        self.is_usable = share <= (self._share if was_usable else self._share * _REARM)
        return self.is_usable != was_usable
