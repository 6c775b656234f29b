"""How loud can the echo of the agent's own voice be just now?

An echo comes back later than it went out, weaker, and dies away with the room. So its power now is
a sum over what was played in the last 300 ms, each 10 ms of it with a *share*: how much of the
power that was played so long ago comes back. The shares change little within a call and are
learned while the agent talks: they are those under which what was heard is the most likely, found
by multiplicative updates (Lee and Seung, 1999) that never make a share negative. How much louder
than their sum an echo can be is learned, too: nineteen of twenty frames of the last four seconds
keep below that *excess*.

Three things keep it from going wrong:

- Until a second was learned from, the loudest that was played within reach counts in full, less
  a return loss of 10 dB; after half a second less the one that was seen, with 6 dB of doubt, where
  that is more. Later no echo is believed to be less than 8 dB below the loudest.
- Only where what was played is within 15 dB of the loudest of late is learned from. Where the agent
  is soft, the microphone hears the room, and that says nothing of the echo. How loud the room is
  must be told, so that its noise is not learned.
- A room does not go silent at once: a share counts for at most 2 dB less than the one before it.

Sans-IO: levels in with their times, which are engine time.

Source: measured on echoes of -6 to -40 dB; see ``docs/explanation/interruption.md``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME_MS: Final = 10
"""Length of the frames of the microphone."""

KEEP_BELOW: Final = 0.95
"""So many of the frames are below the excess."""

LEAST_EXCESS_DB: Final = 3.0
"""The excess is never believed to be less: a room makes some tones much louder than others."""

LEAST_LOSS_DB: Final = 8.0
"""No echo is believed to be less than this below the loudest that was played within reach."""

LEARN_WITHIN_DB: Final = 15.0
"""Below the loudest of late by more than this, what was played teaches nothing."""

FALL_DB: Final = 2.0
"""The most by which an echo is weaker with each frame that it is older: 60 dB in 300 ms, which is a
furnished room."""

PRIOR_FRAMES: Final = 5
"""That all shares are equal weighs as much as so many frames."""

_PEAK_FALLS: Final = 10.0**-0.002  # a frame: the loudest of late is forgotten at 2 dB a second
_WITHIN: Final = 10.0 ** (-LEARN_WITHIN_DB / 10.0)
_FRAME_NS: Final = FRAME_MS * 1_000_000
_KEPT_FRAMES: Final = 256
_REPORTS_FRAMES: Final = 10  # a speaker that plays reports every 100 ms or more often
_BATCH_FRAMES: Final = 10  # learned from at a time, for speed
_FIRST_UPDATES: Final = 30
_UPDATES: Final = 3  # with each batch
_LEAST_EXCESS: Final = 10.0 ** (LEAST_EXCESS_DB / 10.0)
_DOUBT_DB: Final = 6.0  # half a second may hold no echo as loud as the next will be
_LEAST_POWER: Final = 1e-20  # -200 dBFS

Floats = NDArray[np.float64]


class EchoLevel:
    """Learns the way from the loudspeaker to the microphone, and bounds what comes back by it.

    Args:
        reach_ms: How long after it was played a sound may still come back, 10 to 2,000.
        learn_ms: How much of the agent's speech must be learned from before it is believed.
        span_ms: How far back in the agent's speech it looks.
        first_loss_db: The least return loss that is believed until then.
    """

    def __init__(self, *, reach_ms: int, learn_ms: int, span_ms: int, first_loss_db: float) -> None:
        self._first_loss_db = self._loss_db = first_loss_db
        self._learn_frames = learn_ms // FRAME_MS
        # Ages of what was played, the oldest first; the shares are in that order.
        n_ages = reach_ms // FRAME_MS
        self._ages = np.arange(n_ages)[::-1]
        self._falls = _power(-FALL_DB) ** self._ages.astype(np.float64)
        self._shares: Floats | None = None  # until they were learned
        self._loudest_shares = np.zeros(n_ages)  # the most that they can be
        # What was played, frame by frame of the clock: a ring, twice, so any part is one piece.
        self._powers = np.zeros(2 * _KEPT_FRAMES)
        self._newest = self._filled = -1
        self._last_power = 0.0
        self._peak = 0.0
        # What is to be learned from: frames of the clock, and what was heard there.
        self._frame = 0
        self._loudest = 0.0
        self._batch: list[tuple[int, float, float]] = []
        # What was played up to each frame that was learned from, what was heard, and the room.
        n_kept = span_ms // FRAME_MS
        self._played, self._heard = np.zeros((n_kept, n_ages)), np.zeros(n_kept)
        self._room = np.zeros(n_kept)
        self._n_learned = 0

    @property
    def return_loss_db(self) -> float:
        """What is believed of the echo now: how much weaker than what was played."""
        return self._loss_db if self._shares is None else -_db(float(self._shares.sum()))

    @property
    def delay_ms(self) -> int | None:
        """The age of what comes back the loudest; ``None``: not learned yet."""
        if self._shares is None:
            return None
        return int(self._ages[self._shares.argmax()]) * FRAME_MS

    def played(self, level_dbfs: float, at_ns: int) -> None:
        """Something is heard from the loudspeaker.

        Args:
            level_dbfs: How loud; minus infinity is silence.
            at_ns: When. Until the next report, or for 100 ms, it goes on.
        """
        frame = at_ns // _FRAME_NS
        power = _power(level_dbfs)
        if frame > self._newest:
            self._go_on(self._newest, frame - 1)
            self._newest = self._filled = frame
            self._last_power = power
            self._put(frame, power)
        elif frame > self._newest - _KEPT_FRAMES:
            self._put(frame, max(float(self._powers[frame % _KEPT_FRAMES]), power))

    def expected_dbfs(self, end_ns: int) -> float | None:
        """The loudest echo that is to be expected in a frame.

        Args:
            end_ns: When the frame ended.

        Returns:
            ``None``: nothing was played within reach.
        """
        self._frame = frame = end_ns // _FRAME_NS
        if frame > self._filled:
            self._go_on(self._filled, frame)
            self._filled = frame
        oldest = (frame - len(self._ages) + 1) % _KEPT_FRAMES
        powers = self._powers[oldest : oldest + len(self._ages)]
        self._loudest = float(powers.max())
        if self._loudest <= _LEAST_POWER:
            return None
        if self._shares is None:
            return _db(self._loudest) - self._loss_db
        echo_dbfs = _db(float(powers @ self._loudest_shares))
        return min(echo_dbfs, _db(self._loudest) - LEAST_LOSS_DB)

    def learn(self, heard_dbfs: float, room_dbfs: float) -> None:
        """Take note of what came back in the frame that `expected_dbfs` was asked for.

        Args:
            heard_dbfs: What the microphone heard.
            room_dbfs: What it hears without an echo; more than minus infinity.
        """
        self._peak = max(self._loudest, self._peak * _PEAK_FALLS)
        if self._loudest < self._peak * _WITHIN:
            return
        if self._batch and self._frame - self._batch[0][0] > _KEPT_FRAMES - len(self._ages):
            self._batch.clear()  # what was played before the first of them is forgotten
        self._batch.append((self._frame, _power(heard_dbfs), _power(room_dbfs)))
        if len(self._batch) == _BATCH_FRAMES:
            self._take_batch()
            if self._n_learned >= self._learn_frames:
                self._learn_shares()
            elif self._n_learned >= self._learn_frames // 2:
                self._learn_loss()

    def _take_batch(self) -> None:
        frames = np.array([frame for frame, _, _ in self._batch])
        places = (self._n_learned + np.arange(len(frames))) % len(self._heard)
        self._played[places] = self._powers[(frames[:, np.newaxis] - self._ages) % _KEPT_FRAMES]
        self._heard[places] = [heard for _, heard, _ in self._batch]
        self._room[places] = [room for _, _, room in self._batch]
        self._n_learned += len(frames)
        self._batch.clear()

    def _learn_loss(self) -> None:
        n = self._n_learned
        gains = self._heard[:n] / self._played[:n].max(axis=1)
        seen_db = -_db(_reached_by_few(gains))
        self._loss_db = max(self._first_loss_db, seen_db - _DOUBT_DB)

    def _learn_shares(self) -> None:
        n = min(self._n_learned, len(self._heard))
        played, heard, room = self._played[:n], self._heard[:n], self._room[:n]
        total = played.sum(axis=0)
        prior = _power(-self._loss_db) / len(total)
        weight = PRIOR_FRAMES * float(total.sum()) / played.size
        of = total + weight
        if self._shares is None:
            shares, updates = np.full(len(total), prior), _FIRST_UPDATES
        else:
            shares, updates = self._shares, _UPDATES
        for _ in range(updates):
            ratio = heard / (played @ shares + room)
            shares = (shares * (ratio @ played) + weight * prior) / of
        self._shares = shares
        weights = self._dying_away(shares)
        echo = played @ weights
        loud = echo > echo.max() * _WITHIN
        excess = _reached_by_few(heard[loud] / (echo[loud] + room[loud]))
        self._loudest_shares = weights * max(_LEAST_EXCESS, excess)

    def _dying_away(self, shares: Floats) -> Floats:
        """Each is at least a little less than the younger one behind it."""
        return self._falls * np.maximum.accumulate((shares / self._falls)[::-1])[::-1]

    def _go_on(self, after: int, until: int) -> None:
        """What was reported last goes on for a while, after one frame and up to another."""
        for frame in range(max(after + 1, until - _KEPT_FRAMES + 1), until + 1):
            goes_on = frame - self._newest <= _REPORTS_FRAMES
            self._put(frame, self._last_power if goes_on else 0.0)

    def _put(self, frame: int, power: float) -> None:
        at = frame % _KEPT_FRAMES
        self._powers[at] = self._powers[at + _KEPT_FRAMES] = power


def _reached_by_few(ratios: Floats) -> float:
    """What all but a few of some numbers are below."""
    place = int(KEEP_BELOW * len(ratios))
    return float(np.partition(ratios, place)[place])


def _power(level_db: float) -> float:
    return float(10.0 ** (level_db / 10.0))


def _db(power: float) -> float:
    return 10.0 * math.log10(max(power, _LEAST_POWER))
