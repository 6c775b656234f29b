"""Hand the agent's audio to the speaker just in time, and know what the user heard."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from framepipe import Emit, on
from framepipe.conversation.playout import PlayoutLedger
from framepipe.frames import (
    AudioDone,
    AudioOut,
    Drained,
    DropParked,
    End,
    Heard,
    Hold,
    Interrupt,
    Played,
    Problem,
    Release,
    ReplyPending,
    ReplyReady,
    Undo,
    Withdrawn,
)

_Made: TypeAlias = AudioOut | AudioDone | ReplyReady | Drained | Heard | Problem


class Playout:
    """The queue between a service that answers at once and a speaker that takes its time.

    Keeps at most 60 ms in the speaker, so that an interruption finds the rest here. Adds to an
    `Interrupt` what was heard of every part; tells of a reply before its first sample
    (`ReplyReady`) and after its last (`Drained`); tells upstream what was heard of each part when
    that is certain, and how far they are at a hold (`Heard`). A hold keeps the samples, an undo
    lets the remainder of a cut reply go on. See `PlayoutLedger`.

    Stands before the speaker with nothing between them that keeps audio back or changes its rate.

    Args:
        ahead_ms: Audio the speaker may have in advance, beside what its device holds.
        capacity_s: Audio that may wait, in seconds of 24 kHz mono. What is more is refused with
            a `Problem`.

    Attributes:
        ledger: What it knows.
        counts_for_sink: The pipeline refuses a stage between this one and the sink that changes
            the rate or has a mailbox.

    Raises:
        FrameError: From the handler: audio out of sequence, or of another format than before.
    """

    counts_for_sink: Final = True

    def __init__(self, *, ahead_ms: int = 60, capacity_s: int = 600) -> None:
        self.ledger = PlayoutLedger(
            ahead_ms=ahead_ms,
            block_ms=min(20, ahead_ms),
            capacity_bytes=capacity_s * 48_000,
        )

    def attach(self, emit: Emit[_Made]) -> None:
        """Keep the way to the time and to new turns."""
        self._emit = emit

    @on(AudioOut, AudioDone, Withdrawn)
    def queue(self, frame: AudioOut | AudioDone | Withdrawn) -> None:
        """Keep it until it is due, or throw it away if it shall not be heard."""
        self.ledger.receive(frame, self._emit.now_ns())
        self._emit.wake()

    @on(Hold)
    def hold(self, frame: Hold) -> Iterable[Hold | Heard]:
        """Stand still, and say how far the user has heard."""
        at_ns = self._emit.now_ns()
        self.ledger.receive(frame, at_ns)
        return [frame, *self.ledger.heard_so_far(at_ns)]

    @on(Release, Played)
    def follow(self, frame: Release | Played) -> Release | Played:
        """Go on, or know better where the ear is."""
        self.ledger.receive(frame, self._emit.now_ns())
        return frame

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt:
        """Empty the queue, and say what was heard."""
        return self.ledger.cut(frame, self._emit.now_ns())

    @on(Undo)
    def undo(self, frame: Undo) -> Iterable[Undo | ReplyPending]:
        """Let what is parked go on as a new turn."""
        turn = self._emit.new_turn()
        self.ledger.undo(turn)
        return frame, ReplyPending(turn=turn, at_ns=self._emit.now_ns())

    @on(DropParked)
    def drop(self, frame: DropParked) -> DropParked:
        """Forget what is parked."""
        self.ledger.receive(frame, self._emit.now_ns())
        return frame

    @on(End)
    def end(self, frame: End) -> None:
        """Nothing more will come; `run` returns when the rest was heard."""
        self.ledger.receive(frame, self._emit.now_ns())

    async def run(self, emit: Emit[_Made]) -> None:
        """Emit what is due. Cancellation leaves the rest in the queue."""
        while not self.ledger.is_over:
            await emit.room()
            frame = self.ledger.next_frame(emit.now_ns())
            if frame is not None:
                emit(frame)
            elif not self.ledger.is_over:
                deadline_ns = self.ledger.deadline_ns
                await emit.until(deadline_ns)
