"""How loud can the echo of the agent's own voice be just now?

An echo comes back later than it went out, by a *delay*, and weaker, by a *return loss*; then it
dies away with the room. All but the last changes little within a call, and both are learned while
the agent talks.

For each of a few delays there is a guess of the loudest that can come back: what was played so long
ago or less counts in full, what is older the less the older it is. The return loss of a delay is
the 5th percentile of (guess - heard) over the agent's last four seconds, so each delay gives a
bound that nineteen of twenty frames keep. The delay that is believed is the one whose bound is the
lowest: a wrong one must leave room for echoes that it did not expect. The lower the bound, the
softer a user can be heard: with the right delay, also between the agent's words.

Three things keep that from going wrong:

- Only what was played within 15 dB of the loudest of late is learned from. Where the agent is
  soft, the microphone hears the room, and the difference says nothing of the echo.
- The return loss is never believed to be less than 10 dB. Until 500 ms were learned, that is also
  what it is taken for. So a user who talks over the first words of a call, or talks on over the
  agent, is heard when loud, instead of being learned as an echo and not being heard at all.
- Without a reason for a delay, none is believed: all that was played within reach counts in full.

Sans-IO: levels in with their times, which are engine time.

Source: measured on echoes of -10 to -40 dB; see ``docs/how-to/loudspeakers.md``.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

FRAME_MS: Final = 10
"""Length of the frames of the microphone."""

PERCENTILE: Final = 0.05
"""Place of the return loss among the differences: nearly the least, and robust against a click."""

CHOICE: Final = 0.01
"""The same where delays are compared. Too short a delay is wrong in few frames, and in those by
much: the last of each word."""

LEARN_WITHIN_DB: Final = 15.0
"""Below the loudest of late by more than this, what was played teaches nothing."""

GAIN_DB: Final = 0.2
"""A delay is believed if its bound is lower than that without one by so much."""

DELAYS_MS: Final = tuple(range(240, 0, -20))
"""What is tried beside no delay."""

FALL_DB: Final = 0.8
"""How much weaker an echo is with each frame that it is older than the delay: 60 dB in three
quarters of a second, which is a bare room."""

_PEAK_FALLS_DB: Final = 0.02  # a frame: the loudest of late is forgotten at 2 dB a second
_SILENT_DBFS: Final = -200.0
_FRAME_NS: Final = FRAME_MS * 1_000_000
_KEPT_FRAMES: Final = 256
_REPORTS_FRAMES: Final = 10  # a speaker that plays reports every 100 ms or more often
_BATCH_FRAMES: Final = 10  # learned from at a time, for speed
_CHOOSE_BATCHES: Final = 10
_NEW_FRAMES: Final = 200  # at the beginning of a call each batch may tell more


class EchoLevel:
    """Learns the way from the loudspeaker to the microphone, and bounds what comes back by it.

    Args:
        reach_ms: How long after it was played a sound may still come back, 10 to 2,000.
        learn_ms: How much of the agent's speech must be learned from before it is believed.
        span_ms: How far back in the agent's speech it looks.
        least_loss_db: The return loss is never taken for less.

    Attributes:
        return_loss_db: What is believed of the echo now.
        delay_ms: The same; ``None``: nothing.
    """

    def __init__(self, *, reach_ms: int, learn_ms: int, span_ms: int, least_loss_db: float) -> None:
        self.return_loss_db = least_loss_db
        self.delay_ms: int | None = None
        self._least_loss_db = least_loss_db
        self._learn_frames = learn_ms // FRAME_MS
        # Ages of what was played, the oldest first, and how much each delay makes of them.
        self._ages = np.arange(reach_ms // FRAME_MS)[::-1]
        delays = np.array([reach_ms, *DELAYS_MS])[:, np.newaxis] // FRAME_MS
        self._falls = FALL_DB * np.maximum(0, self._ages - delays)
        self._chosen = 0
        # What was played, frame by frame of the clock: a ring, twice, so any part is one piece.
        self._levels = np.full(2 * _KEPT_FRAMES, _SILENT_DBFS)
        self._newest = self._filled = -1
        self._last_dbfs = _SILENT_DBFS
        self._peak_dbfs = -math.inf
        # What is to be learned from: frames of the clock, and what was heard there.
        self._frame = 0
        self._loudest_dbfs = _SILENT_DBFS
        self._batch: list[tuple[int, float]] = []
        # For each delay what could have come back, and that less what did: rings of frames.
        shape = (span_ms // FRAME_MS, len(delays))
        self._guesses, self._losses = np.zeros(shape), np.full(shape, math.inf)
        self._n_learned = self._n_batches = 0

    def played(self, level_dbfs: float, at_ns: int) -> None:
        """Something is heard from the loudspeaker.

        Args:
            level_dbfs: How loud; minus infinity is silence.
            at_ns: When. Until the next report, or for 100 ms, it goes on.
        """
        frame = at_ns // _FRAME_NS
        level_dbfs = max(level_dbfs, _SILENT_DBFS)
        if frame > self._newest:
            self._go_on(self._newest, frame - 1)
            self._newest = self._filled = frame
            self._last_dbfs = level_dbfs
            self._put(frame, level_dbfs)
        elif frame > self._newest - _KEPT_FRAMES:
            self._put(frame, max(float(self._levels[frame % _KEPT_FRAMES]), level_dbfs))

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
        levels = self._levels[oldest : oldest + len(self._ages)]
        self._loudest_dbfs = float(levels.max())
        if self._loudest_dbfs == _SILENT_DBFS:
            return None
        return float((levels - self._falls[self._chosen]).max()) - self.return_loss_db

    def learn(self, heard_dbfs: float) -> None:
        """Take note of what came back in the frame that `expected_dbfs` was asked for."""
        self._peak_dbfs = max(self._loudest_dbfs, self._peak_dbfs - _PEAK_FALLS_DB)
        if self._loudest_dbfs < self._peak_dbfs - LEARN_WITHIN_DB:
            return
        if self._batch and self._frame - self._batch[0][0] > _KEPT_FRAMES // 2:
            self._learn_batch()  # before what was played there is forgotten
        self._batch.append((self._frame, heard_dbfs))
        if len(self._batch) == _BATCH_FRAMES:
            self._learn_batch()

    def _learn_batch(self) -> None:
        frames = np.array([frame for frame, _ in self._batch])
        heard = np.array([heard_dbfs for _, heard_dbfs in self._batch])
        self._batch.clear()
        levels = self._levels[(frames[:, np.newaxis] - self._ages) % _KEPT_FRAMES]
        guesses = (levels[:, np.newaxis, :] - self._falls).max(axis=2)
        losses = guesses - heard[:, np.newaxis]
        losses[guesses < self._peak_dbfs - LEARN_WITHIN_DB] = math.inf
        places = (self._n_learned + np.arange(len(frames))) % len(self._losses)
        self._guesses[places], self._losses[places] = guesses, losses
        self._n_learned += len(frames)
        self._n_batches += 1
        if self._n_learned < self._learn_frames:
            return
        if self._n_learned <= _NEW_FRAMES or self._n_batches % _CHOOSE_BATCHES == 0:
            self._choose()
        learned = self._learned_db()
        if learned < self._least_loss_db and self._chosen:
            self._choose()
            learned = self._learned_db()
        self.return_loss_db = max(self._least_loss_db, learned)

    def _learned_db(self) -> float:
        column = self._losses[: self._n_learned, self._chosen : self._chosen + 1]
        return float(_least(np.sort(column, axis=0), PERCENTILE)[0])

    def _choose(self) -> None:
        losses = np.sort(self._losses[: self._n_learned], axis=0)
        bounds = self._guesses[: self._n_learned].mean(axis=0) - _least(losses, CHOICE)
        bounds[0] -= GAIN_DB
        # With such a delay the echo would be louder than is ever believed.
        bounds[1:][_least(losses, PERCENTILE)[1:] < self._least_loss_db] = math.inf
        self._chosen = int(np.argmin(bounds))
        self.delay_ms = None if not self._chosen else DELAYS_MS[self._chosen - 1]

    def _go_on(self, after: int, until: int) -> None:
        """What was reported last goes on for a while, after one frame and up to another."""
        for frame in range(max(after + 1, until - _KEPT_FRAMES + 1), until + 1):
            goes_on = frame - self._newest <= _REPORTS_FRAMES
            self._put(frame, self._last_dbfs if goes_on else _SILENT_DBFS)

    def _put(self, frame: int, level_dbfs: float) -> None:
        at = frame % _KEPT_FRAMES
        self._levels[at] = self._levels[at + _KEPT_FRAMES] = level_dbfs


def _least(by_size: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Of each sorted column nearly the least: a share of its numbers is less; infinity is none."""
    counts = np.count_nonzero(by_size < math.inf, axis=0)
    rows: NDArray[np.int64] = (share * counts).astype(np.int64)
    least: NDArray[np.float64] = by_size[rows, np.arange(len(counts))]
    return least
