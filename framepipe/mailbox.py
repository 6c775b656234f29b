"""The queue before an async stage: bounded, and blind to what has been cut.

A mailbox holds frames and counts; it decides nothing and waits for nothing. The engine puts, the
stage's task takes. Frames of a cut turn stop counting at the cut itself, by arithmetic on the
number of frames per turn, so that a cut costs the same whether one frame waits or five hundred;
they are thrown away when the reader or the next purge meets them.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType

from attrs import field, frozen

from framepipe.frames import AudioIn, End, Frame, Interruptible, Ordered


class TurnLine:
    """The one growing line of turns of an outermost pipeline.

    Attributes:
        opened: The newest turn; 0 before the first.
        cut: Every turn up to this one is over.
    """

    __slots__ = ("cut", "opened")

    def __init__(self) -> None:
        self.opened = 0
        self.cut = 0


def frozen_counts(counts: Mapping[str, int]) -> Mapping[str, int]:
    """A copy that nobody can change."""
    return MappingProxyType(dict(counts))


@frozen(kw_only=True)
class MailboxStatistics:
    """What a mailbox answers when asked.

    Attributes:
        depth: Frames that wait, those of cut turns not counted.
        capacity: Frames that may wait.
        peak: The greatest depth so far.
        dropped: How many frames were dropped, by reason.
        waiting_for_room: Emitters that wait for this mailbox.
        reader_waits: The stage has nothing to do.
    """

    depth: int
    capacity: int
    peak: int
    dropped: Mapping[str, int] = field(converter=frozen_counts)
    waiting_for_room: int
    reader_waits: bool


class Mailbox:
    """A bounded queue of ordered frames.

    Args:
        line: Where turns are cut.
        capacity: Frames that may wait.
        lossy: Drop the oldest frame instead of making emitters wait.
    """

    __slots__ = (
        "_frames",
        "_has_end",
        "_line",
        "_live_by_turn",
        "capacity",
        "depth",
        "dropped",
        "lossy",
        "on_drop",
        "peak",
        "room_waiters",
        "wake_reader",
    )

    def __init__(self, line: TurnLine, capacity: int, *, lossy: bool) -> None:
        self.capacity = capacity
        self.lossy = lossy
        self.depth = 0
        self.peak = 0
        self.dropped: defaultdict[str, int] = defaultdict(int)
        self.wake_reader: Callable[[], object] | None = None
        self.room_waiters: list[Callable[[], object]] = []
        self.on_drop: Callable[[Frame], None] | None = None
        self._line = line
        self._frames: deque[Ordered] = deque()
        self._live_by_turn: dict[int, int] = {}
        self._has_end = False

    def put(self, frame: Ordered) -> None:
        """Add a frame that no interruption drops."""
        if self.lossy:
            self._make_lossy_room()
        self._frames.append(frame)
        self.depth += 1
        if self.depth > self.peak:
            self.peak = self.depth
        if self.wake_reader is not None:
            self._wake_reader()

    def put_interruptible(self, frame: Interruptible) -> None:
        """Add a frame of a turn that is not cut."""
        if len(self._frames) > 2 * self.capacity + self.depth:
            self._purge()
        self._live_by_turn[frame.turn] = self._live_by_turn.get(frame.turn, 0) + 1
        self.put(frame)

    def put_end(self, frame: End) -> None:
        """Add the end, which takes no slot."""
        self._has_end = True
        self._frames.append(frame)
        if self.wake_reader is not None:
            self._wake_reader()

    def take(self) -> Ordered | None:
        """The oldest frame that is not cut, or ``None`` when nothing waits."""
        frames = self._frames
        if not self.depth and not self._has_end and self.on_drop is None:
            frames.clear()  # all that waits was cut, and nobody wants to know of each
            return None
        while frames:
            frame = frames.popleft()
            if isinstance(frame, Interruptible):
                if frame.turn <= self._line.cut:
                    self._tell_drop(frame)
                    continue
                self._forget_turn(frame.turn)
            elif frame.__class__ is End:
                return frame
            self.depth -= 1
            if self.room_waiters:
                self.wake_emitters()
            return frame
        return None

    def wake_emitters(self) -> None:
        """Let those who wait for room look again."""
        waiters, self.room_waiters = self.room_waiters, []
        for wake in waiters:
            wake()

    def cut(self) -> None:
        """Stop counting frames of cut turns, and wake everybody whom that concerns."""
        self.wake_emitters()  # one may wait with a frame that nobody wants any more
        gone = [turn for turn in self._live_by_turn if turn <= self._line.cut]
        if not gone:
            return
        n_frames = sum(self._live_by_turn.pop(turn) for turn in gone)
        self.dropped["cut"] += n_frames
        self.depth -= n_frames
        self._wake_reader()

    def shed_audio(self) -> bool:
        """Drop the oldest waiting microphone audio; ``False`` when there is none."""
        for index, frame in enumerate(self._frames):
            if isinstance(frame, AudioIn):
                del self._frames[index]
                self._drop(frame, "shed")
                return True
        return False

    def statistics(self) -> MailboxStatistics:
        """How full it is, was, and what it dropped."""
        return MailboxStatistics(
            depth=self.depth,
            capacity=self.capacity,
            peak=self.peak,
            dropped=self.dropped,
            waiting_for_room=len(self.room_waiters),
            reader_waits=self.wake_reader is not None,
        )

    def _make_lossy_room(self) -> None:
        while self.depth >= self.capacity:
            frame = self._frames.popleft()
            if isinstance(frame, Interruptible):
                if frame.turn <= self._line.cut:
                    self._tell_drop(frame)
                    continue
                self._forget_turn(frame.turn)
            self._drop(frame, "lossy")

    def _purge(self) -> None:
        # Nobody has read since several cuts: forget the frames that no longer count, or they
        # would pile up behind a handler that waits for long.
        cut = self._line.cut
        kept: deque[Ordered] = deque()
        for frame in self._frames:
            if isinstance(frame, Interruptible) and frame.turn <= cut:
                self._tell_drop(frame)
            else:
                kept.append(frame)
        self._frames = kept

    def _forget_turn(self, turn: int) -> None:
        left = self._live_by_turn[turn] - 1
        if left:
            self._live_by_turn[turn] = left
        else:
            del self._live_by_turn[turn]

    def _drop(self, frame: Frame, reason: str) -> None:
        self.dropped[reason] += 1
        self._one_less()
        self._tell_drop(frame)

    def _one_less(self) -> None:
        self.depth -= 1
        if self.room_waiters:
            self.wake_emitters()

    def _tell_drop(self, frame: Frame) -> None:
        if self.on_drop is not None:
            self.on_drop(frame)

    def _wake_reader(self) -> None:
        wake, self.wake_reader = self.wake_reader, None
        if wake is not None:
            wake()
