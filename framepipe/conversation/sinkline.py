"""Where the ear is on the sink line, as a function of time.

The sink line numbers the samples of agent audio that were handed to the speaker since the call
began. Nothing ticks here: a position is computed from the time when somebody asks, so that it
cannot drift, and an hour of silence costs nothing.

Theory of operation. One straight line, ``base_sample`` at ``base_ns`` and then ``rate_hz`` samples
a second, is laid anew whenever something is known for certain: audio handed to a dry speaker, a
report, a release. What is over the edge is clamped: nobody hears what was not handed, or what
comes after the mute point.

A sound card takes a sample some time before the ear hears it (10 ms on a desk, 200 ms over
Bluetooth). That *lag* is learned from the first report after each start: it began late by so
much. Without it, "60 ms ahead of what was heard" would starve every device that is slower than
60 ms.
"""

from __future__ import annotations

from typing import Final

from framepipe.frames import NS_PER_S

MAX_LAG_NS: Final = 500_000_000
"""A speaker that has not begun after this long is stuck, not slow: audio is no longer sent after
it in advance."""


class SinkLine:
    """The speaker's position. All samples are samples of the sink line.

    Args:
        rate_hz: Samples per second of the line.

    Attributes:
        handed: Samples handed to the speaker so far.
        floor: Every sample before this one was heard, or was thrown away by a cut.
        lag_ns: How long a sample takes from the speaker's queue to the ear.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.handed = 0
        self.floor = 0
        self.lag_ns = 0
        self._base_ns = 0
        self._base_sample = 0
        self._stop: int | None = None
        self._since_ns = 0
        # When and where the speaker was started, until a report shows how late it began.
        self._started: tuple[int, int] | None = None

    # --- where ----------------------------------------------------------------------------------

    def heard(self, at_ns: int) -> int:
        """First sample that the ear has not heard at ``at_ns``."""
        edge = self.handed if self._stop is None else self._stop
        passed = (at_ns - self._base_ns) * self.rate_hz // NS_PER_S
        return max(self.floor, min(edge, self._base_sample + passed))

    def taken(self, at_ns: int) -> int:
        """First sample that the device has not taken at ``at_ns``: nothing stops those before."""
        return self.heard(at_ns + self.lag_ns)

    def when_heard(self, sample: int) -> int | None:
        """The earliest time at which all before ``sample`` is heard; ``None`` while it is muted."""
        if self._stop is not None and max(self._stop, self.floor) < sample:
            return None
        return self._base_ns - (self._base_sample - sample) * NS_PER_S // self.rate_hz

    def when_taken(self, sample: int) -> int | None:
        """The earliest time at which the device has all before ``sample``."""
        at_ns = self.when_heard(sample)
        return None if at_ns is None else at_ns - self.lag_ns

    # --- what happens ---------------------------------------------------------------------------

    def hand(self, n_samples: int, at_ns: int) -> None:
        """The speaker was handed samples. If it had run dry, it starts with them now."""
        if self._stop is None and self.taken(at_ns) >= self.handed:
            self._start(self.handed, at_ns)
        self.handed += n_samples

    def report(self, played: int, at_ns: int) -> None:
        """The speaker says where it was at ``at_ns``, which may be a while ago."""
        played = min(played, self.handed)
        is_news = played >= self.floor and at_ns >= self._since_ns
        self.floor = max(self.floor, played)
        if not is_news:
            return
        if self._started is not None:
            started_ns, first = self._started
            late_ns = at_ns - started_ns - (played - first) * NS_PER_S // self.rate_hz
            if played < first:
                return  # of what came before; nothing about this start
            if played == first:
                self.lag_ns = min(max(self.lag_ns, late_ns), MAX_LAG_NS)
                self._base_ns = max(started_ns + self.lag_ns, at_ns)
                return
            self.lag_ns = min(max(late_ns, 0), MAX_LAG_NS)
            self._started = None
        self._base_ns, self._base_sample = at_ns, played

    def stop(self, at_ns: int) -> None:
        """The speaker falls silent; where exactly, it may say later."""
        if self._stop is None:
            self._stop = self.taken(at_ns)
            self._started = None  # silence would pass for a late beginning
            self._since_ns = at_ns

    def stop_at(self, mute_point: int) -> None:
        """The speaker said where it fell silent; what the device has taken is still heard."""
        self._stop = min(max(mute_point, self.floor), self.handed)

    def release(self, at_ns: int) -> None:
        """The speaker goes on with the very next sample after the mute point."""
        if self._stop is not None:
            first = max(self._stop, self.floor)
            self._start(first, at_ns)
            self._stop = None

    def cut(self, at_ns: int) -> None:
        """The speaker threw away what it held. All that was handed is over."""
        self.floor = self.handed
        self._stop = None
        self._started = None
        self._since_ns = at_ns

    def _start(self, sample: int, at_ns: int) -> None:
        # What the device still holds of before is heard until then; an estimate of it that is
        # low by a gap lasts for the lag only.
        self.floor = self.heard(at_ns)
        self._base_ns, self._base_sample = at_ns + self.lag_ns, sample
        self._started = (at_ns, sample)
        self._since_ns = at_ns
