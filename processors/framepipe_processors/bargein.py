"""Let the user interrupt the agent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from framepipe import Emit, on
from framepipe.conversation.bargein import BargeInCore, Command, SecondStageReady
from framepipe.frames import (
    ConnectionState,
    Drained,
    Interrupt,
    ReplyPending,
    ReplyReady,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
)

_F = TypeVar(
    "_F",
    bound=SpeechStarted
    | SpeechStopped
    | SpeechConfirmed
    | SpeechRejected
    | ReplyPending
    | ReplyReady
    | Drained
    | Interrupt
    | ConnectionState
    | SecondStageReady,
)


class BargeIn:
    """Silence the agent as soon as the user seems to speak; cut it when that is confirmed.

    Whoever hears the user first, the local detector or the service, mutes. The second stage, if
    there is one (`LocalVad` has it), confirms or rejects; without it the service's word
    confirms. If no verdict comes in time the agent goes on at the very next sample. See
    `BargeInCore` and its table.

    Stands before the speaker, below whatever tells of speech and of replies.

    Args:
        two: A second stage is present; the service's word alone does not confirm then. ``None``:
            as the stages above say, before the first sound (`SecondStageReady`).
        cause: Written on every `Interrupt`; by default the source that decided it.
        mutes_per_5_s: Wrong mutes within five seconds after which the local detector does not
            mute any more.

    Attributes:
        core: What it decides with.

    Raises:
        FrameError: A number is not positive.
    """

    def __init__(
        self, *, two: bool | None = None, cause: str | None = None, mutes_per_5_s: int = 3
    ) -> None:
        self.core = BargeInCore(two=two, cause=cause, mutes_per_5_s=mutes_per_5_s)

    def attach(self, emit: Emit[Command]) -> None:
        """Keep the way to the time."""
        self._emit = emit

    @on(SpeechStarted, SpeechStopped)
    def hear(
        self, frame: SpeechStarted | SpeechStopped
    ) -> Iterable[SpeechStarted | SpeechStopped | Command]:
        """The user may speak, or has stopped."""
        return self._decide(frame)

    @on(SpeechConfirmed, SpeechRejected, SecondStageReady)
    def judge(
        self, frame: SpeechConfirmed | SpeechRejected | SecondStageReady
    ) -> Iterable[SpeechConfirmed | SpeechRejected | SecondStageReady | Command]:
        """The second stage is there, or has made up its mind."""
        return self._decide(frame)

    @on(ReplyPending, ReplyReady, Drained)
    def watch(
        self, frame: ReplyPending | ReplyReady | Drained
    ) -> Iterable[ReplyPending | ReplyReady | Drained | Command]:
        """A reply is on its way, begins, or is over."""
        return self._decide(frame)

    @on(Interrupt)
    def interrupted(self, frame: Interrupt) -> Iterable[Interrupt | Command]:
        """Somebody else cut the agent, or this stage did."""
        return self._decide(frame)

    @on(ConnectionState)
    def connection(self, frame: ConnectionState) -> Iterable[ConnectionState | Command]:
        """The service is there, or not."""
        self._emit.wake()  # this frame is ordered: it does not wake `run` by itself
        return self._decide(frame)

    async def run(self, emit: Emit[Command]) -> None:
        """Give the orders that are due by time. Cancellation leaves nothing behind."""
        while True:
            deadline_ns = self.core.deadline_ns
            await emit.until(deadline_ns)
            for order in self.core.deadline_reached(emit.now_ns()):
                emit(order)

    def _decide(self, fact: _F) -> list[_F | Command]:
        return [fact, *self.core.receive(fact, self._emit.now_ns())]
