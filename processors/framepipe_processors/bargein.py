"""Let the user interrupt the agent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from framepipe import Emit, Frame, on
from framepipe.conversation.backchannels import Backchannels
from framepipe.conversation.bargein import (
    BargeInCore,
    BargeInStatistics,
    Command,
    Fact,
    SecondStageReady,
)
from framepipe.conversation.profiles import OnSuspicion, Profiles, UseProfile
from framepipe.conversation.profiles import profiles as table_of
from framepipe.conversation.third_stage import ThirdStage
from framepipe.errors import FrameError
from framepipe.frames import (
    ConnectionState,
    Drained,
    Interrupt,
    Problem,
    ReplyPending,
    ReplyReady,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    ToolCall,
    ToolResult,
    Transcript,
)

_F = TypeVar("_F", bound=Frame)


class BargeIn:
    """Silence the agent as soon as the user seems to speak; cut it when that is confirmed.

    Whoever hears the user first, the local detector or the service, mutes. The second stage, if
    there is one (`LocalVad` has it), confirms or rejects; without it the service's word
    confirms. If no verdict comes in time the agent goes on at the very next sample. After a cut
    the user's words, if they are transcribed, have the last say: where there are none, or only
    "mm-hm" and the like, what was cut goes on as a new turn, and the service forgets the user turn
    that was none. See `BargeInCore` and its table.

    Stands before the speaker, below whatever tells of speech, of replies and of words. A rule of
    your own confirms with a `SpeechConfirmed`, from any stage above; what it cut may still be
    undone by the words. An `Interrupt`, from anywhere, is final.

    Args:
        two: A second stage is present; the service's word alone does not confirm then. ``None``:
            as the stages above say, before the first sound (`SecondStageReady`).
        suspect: What a suspicion does: "mute" silences the agent and holds what it says, "duck"
            lets it go on 26 dB quieter. ``None``: as ``profiles`` say, which mute, and duck over
            the fillers of a running tool.
        profiles: How easily the agent is interrupted in each situation; ``None``: the usual table,
            with ``suspect`` in it.
        backchannels: What counts as "mm-hm"; ``None``: the lists that come with framepipe.
        cause: Written on every `Interrupt`; by default the source that decided it.
        mutes_per_5_s: Wrong mutes within five seconds after which the local detector does not
            mute any more; a `Problem` says so.
        rate_hz: Samples per second of the microphone that the service hears.

    Attributes:
        core: What it decides with.

    Raises:
        FrameError: A number is not positive, a situation has no profile, or both ``suspect`` and
            ``profiles`` are given.
    """

    def __init__(
        self,
        *,
        two: bool | None = None,
        suspect: OnSuspicion | None = None,
        profiles: Profiles | None = None,
        backchannels: Backchannels | None = None,
        cause: str | None = None,
        mutes_per_5_s: int = 3,
        rate_hz: int = 24_000,
    ) -> None:
        if suspect is not None and profiles is not None:
            raise FrameError(
                f"suspect={suspect!r} beside profiles; say it in the profiles, as in "
                f"profiles(suspect={suspect!r})"
            )
        self.core = BargeInCore(
            two=two,
            profiles=table_of(suspect=suspect) if profiles is None else profiles,
            cause=cause,
            mutes_per_5_s=mutes_per_5_s,
            rate_hz=rate_hz,
        )
        self._third = ThirdStage(backchannels or Backchannels())

    def attach(self, emit: Emit[Command]) -> None:
        """Keep the way to the time."""
        self._emit = emit

    @on(SpeechStarted, SpeechStopped)
    def hear(
        self, frame: SpeechStarted | SpeechStopped
    ) -> Iterable[SpeechStarted | SpeechStopped | Command]:
        """The user may speak, or has stopped."""
        return self._decide(frame, frame)

    @on(SpeechConfirmed, SpeechRejected, SecondStageReady)
    def judge(
        self, frame: SpeechConfirmed | SpeechRejected | SecondStageReady
    ) -> Iterable[SpeechConfirmed | SpeechRejected | SecondStageReady | Command]:
        """The second stage is there, or has made up its mind."""
        return self._decide(frame, frame)

    @on(ReplyPending, ReplyReady, Drained)
    def watch(
        self, frame: ReplyPending | ReplyReady | Drained
    ) -> Iterable[ReplyPending | ReplyReady | Drained | Command]:
        """A reply is on its way, begins, or is over."""
        return self._decide(frame, frame)

    @on(Interrupt)
    def interrupted(self, frame: Interrupt) -> Iterable[Interrupt | Command]:
        """Somebody else cut the agent, or this stage did."""
        return self._decide(frame, frame)

    @on(UseProfile)
    def use(self, frame: UseProfile) -> Iterable[UseProfile | Command]:
        """From now on the agent is interrupted more easily, or less."""
        return self._decide(frame, frame)

    @on(Transcript, Problem)
    def read(self, frame: Transcript | Problem) -> Iterable[Transcript | Problem | Command]:
        """The words that interrupted, or the news that there are none."""
        verdict = self._third.receive(frame)
        return [frame] if verdict is None else self._decide_in_order(frame, verdict)

    @on(ConnectionState)
    def connection(self, frame: ConnectionState) -> Iterable[ConnectionState | Command]:
        """The service is there, or not."""
        return self._decide_in_order(frame, frame)

    @on(ToolCall, ToolResult)
    def tools(self, frame: ToolCall | ToolResult) -> Iterable[ToolCall | ToolResult | Command]:
        """A tool runs, or has answered."""
        return self._decide_in_order(frame, frame)

    def statistics(self) -> BargeInStatistics:
        """How often what was decided."""
        return self.core.statistics()

    async def run(self, emit: Emit[Command]) -> None:
        """Give the orders that are due by time. Cancellation leaves nothing behind."""
        while True:
            deadline_ns = self.core.deadline_ns
            await emit.until(deadline_ns)
            for order in self.core.deadline_reached(emit.now_ns()):
                emit(order)

    def _decide(self, frame: _F, fact: Fact) -> list[_F | Command]:
        return [frame, *self.core.receive(fact, self._emit.now_ns())]

    def _decide_in_order(self, frame: _F, fact: Fact) -> list[_F | Command]:
        self._emit.wake()  # an ordered frame does not wake `run` by itself
        return self._decide(frame, fact)
