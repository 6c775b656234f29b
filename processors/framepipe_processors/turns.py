"""Keep the user's turns: whose turn it is, which answer is heard, which tool may act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal, TypeAlias, cast

from attrs import frozen

from framepipe import Emit, on
from framepipe.conversation import endpointing, fallback
from framepipe.conversation.endpointing import EndOfTurnPolicy, GrowingSilence
from framepipe.conversation.fallback import LINES, FallbackCore, LineName, PlayLine
from framepipe.conversation.idle import IdleCore
from framepipe.conversation.objections import objects
from framepipe.conversation.relations import SpokenCorrections
from framepipe.conversation.turns import (
    Command,
    Corrections,
    EndOfTurn,
    Fact,
    Floor,
    TurnCore,
)
from framepipe.conversation.wordlists import ENGLISH, Language
from framepipe.errors import MailboxFull, WiringError
from framepipe.frames import (
    AudioDone,
    AudioOut,
    ConnectionState,
    End,
    Escalate,
    GuardTools,
    Heard,
    Interrupt,
    Played,
    Problem,
    Proceed,
    ReplyPending,
    Revoke,
    Speak,
    SpeechConfirmed,
    SpeechRejected,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    TextOut,
    ToolCall,
    Transcript,
    TurnAmended,
    UserTurn,
)
from framepipe.wav import WavReader

_Made: TypeAlias = (
    UserTurn
    | TurnAmended
    | Escalate
    | AudioOut
    | AudioDone
    | TextOut
    | ReplyPending
    | Interrupt
    | Revoke
    | Proceed
    | Speak
    | GuardTools
)


@frozen
class Line:
    """What is said when there is no answer.

    Attributes:
        text: For the model, when it can say it.
        clip: A WAV file for when it cannot; ``None`` says nothing then.
    """

    text: str
    clip: str | Path | None = None


class Turns:
    """Keep the user's turns.

    Tells what the user said, turn by turn, as a hypothesis that grows and is committed or revoked
    (`UserTurn`). After an interruption it holds answers until the user has certainly finished. An
    answer to half a turn is withdrawn, and so is the answer to what the user takes back; the
    service is told (`Revoke`). Calls of tools with effects wait until their turn is committed
    (`Proceed`). When there is no answer the user hears a line instead. See `TurnCore` and its
    table, `FallbackCore` and `IdleCore`.

    Stands between `Realtime` and `Playout`. Needs transcription.

    Args:
        language: Whose words they are. By default corrections and the end of turns are told in it
            (`SpokenCorrections`, `GrowingSilence`).
        corrections: Tells that words take back earlier words; ``None``: nobody does.
        end_of_turn: Tells how much silence ends a turn, or a policy that ends it; ``None``:
            ``cool_down_ms`` does.
        cool_down_ms: Silence after an interruption before an answer is heard.
        commit_ms: Silence after the last word that commits a turn.
        join_ms: If less of an answer was heard when the user went on, it came too early.
        hold: Hold answers after an "interruption", or "always".
        asks: The service does not answer by itself; ask for the answer when the turn is over.
        on_amended: Called with a correction that came after its turn was committed; the same
            `TurnAmended` is emitted.
        fallback: Say a line when there is no answer.
        lines: Texts and clips of these lines, in the place of the English ones.
        slow_ms: A wait this long is announced; ``None``: never.
        answer_ms: After this an answer is given up.
        offline_ms: A service that is gone for so long is told to the user.
        fallbacks_in_a_row: Then a person is asked for (`Escalate`).
        fallbacks_per_call: The same for the whole call.
        idle_ms: Silence of both sides after which the user is asked; ``None``: never.
        nudges: How often that is done.
        rate_hz: Rate of the microphone.
        voice_rate_hz: Rate of the agent's voice, to which clips are converted.

    Attributes:
        core: What it decides with.
        needs_transcripts: The session's transcription must be on.

    Raises:
        FrameError: A number is out of its range, or a clip is no WAV file.
    """

    needs_transcripts = True

    def __init__(
        self,
        *,
        language: Language = ENGLISH,
        corrections: Corrections | Literal["spoken"] | None = "spoken",
        end_of_turn: EndOfTurn | EndOfTurnPolicy | Literal["growing"] | None = "growing",
        cool_down_ms: int = 1_500,
        commit_ms: int = 1_500,
        join_ms: int = 1_000,
        hold: Literal["interruption", "always"] = "interruption",
        asks: bool = False,
        on_amended: Callable[[TurnAmended], None] | None = None,
        fallback: bool = True,
        lines: Mapping[LineName, Line] | None = None,
        slow_ms: int | None = 2_500,
        answer_ms: int = 10_000,
        offline_ms: int = 4_000,
        fallbacks_in_a_row: int = 2,
        fallbacks_per_call: int = 6,
        idle_ms: int | None = None,
        nudges: int = 2,
        rate_hz: int = 24_000,
        voice_rate_hz: int = 24_000,
    ) -> None:
        self._policy = GrowingSilence(language) if end_of_turn == "growing" else end_of_turn
        self.core = TurnCore(
            corrections=SpokenCorrections(language) if corrections == "spoken" else corrections,
            end_of_turn=self._policy,
            rate_hz=rate_hz,
            commit_ms=commit_ms,
            cool_down_ms=cool_down_ms,
            join_ms=join_ms,
            hold=hold,
            asks=asks,
            objects=partial(objects, language=language),
        )
        said: dict[LineName, Line] = {**_shipped_lines(), **(lines or {})}
        texts: dict[LineName, str] = {name: line.text for name, line in said.items()}
        self._clips = {name: _clip(line.clip, voice_rate_hz) for name, line in said.items()}
        self._voice_rate_hz = voice_rate_hz
        self._fallback = (
            FallbackCore(
                texts=texts,
                slow_ms=slow_ms,
                answer_ms=answer_ms,
                offline_ms=offline_ms,
                in_a_row=fallbacks_in_a_row,
                per_call=fallbacks_per_call,
            )
            if fallback
            else None
        )
        self._idle = (
            None if idle_ms is None else IdleCore(texts["idle"], idle_ms=idle_ms, nudges=nudges)
        )
        self._on_amended = on_amended
        self._floor = Floor()
        self._ended = False

    def attach(self, emit: Emit[_Made]) -> None:
        """Keep the way to the time and to new turns."""
        self._emit = emit

    # --- from above ---

    @on(SpeechStarted, SpeechStopped)
    def hear(
        self, frame: SpeechStarted | SpeechStopped
    ) -> Iterable[SpeechStarted | SpeechStopped | _Made]:
        """The user speaks, or has stopped. What follows from it goes first."""
        return [*self._told(frame), frame]

    @on(SpeechConfirmed, SpeechRejected)
    def judge(
        self, frame: SpeechConfirmed | SpeechRejected
    ) -> Iterable[SpeechConfirmed | SpeechRejected | _Made]:
        """The second stage has made up its mind. What follows from it goes first."""
        return [*self._told(frame), frame]

    @on(Transcript, ToolCall, ReplyPending)
    def read(
        self, frame: Transcript | ToolCall | ReplyPending
    ) -> Iterable[Transcript | ToolCall | ReplyPending | _Made]:
        """What the user said, and what the service makes of it."""
        made: list[Transcript | ToolCall | ReplyPending | _Made] = [frame, *self._told(frame)]
        if self._fallback is not None and isinstance(frame, Transcript):
            self._fallback.receive(frame, self._emit.now_ns())
        self._emit.wake()
        return made

    @on(AudioOut, AudioDone, TextOut)
    def speak(self, frame: AudioOut | AudioDone | TextOut) -> Iterable[_Made]:
        """An answer passes, or is held."""
        made = self._told(frame)
        self._emit.wake()
        return made

    @on(ConnectionState, Problem)
    def notice(
        self, frame: ConnectionState | Problem
    ) -> Iterable[ConnectionState | Problem | _Made]:
        """The service is there or not, or something went wrong."""
        at_ns = self._emit.now_ns()
        made: list[ConnectionState | Problem | _Made] = [frame]
        if isinstance(frame, ConnectionState):
            made += self._told(frame)
            if self._idle is not None:
                self._idle.receive(frame, at_ns)
        if self._fallback is not None:
            self._fallback.receive(frame, at_ns)
        self._emit.wake()
        return made

    @on(End)
    def end(self, frame: End) -> None:
        """Nobody will say any more: ``run`` commits what there is."""
        self._ended = True

    # --- from below ---

    @on(Interrupt)
    def interrupted(self, frame: Interrupt) -> Iterable[_Made]:
        """The voice was cut; what was held is accounted for as not heard."""
        return self._told(frame)

    @on(Swallow, Heard, Played)
    def follow(self, frame: Swallow | Heard | Played) -> Iterable[Swallow | Heard | Played | _Made]:
        """What was said was no speech; what was heard of the agent."""
        return [frame, *self._told(frame)]

    # --- what the application says ---

    def note(self, fact: endpointing.Fact) -> None:
        """Tell the policy something that no frame says, as that a button was pressed.

        Raises:
            WiringError: ``end_of_turn`` is no policy.
        """
        policy = self._policy
        if policy is None or not hasattr(policy, "judgement"):
            raise WiringError("end_of_turn is no policy that could be told; give it PushToTalk()")
        cast("EndOfTurnPolicy", policy).receive(fact)
        self._emit.wake()

    # --- the stage's own life ---

    async def run(self, emit: Emit[_Made]) -> None:
        """Do what is due by time. Cancellation drops what is held."""
        emit(GuardTools(at_ns=emit.now_ns()))
        while not self._ended:
            for frame in self._due(emit.now_ns()):
                await self._out(frame, emit)
            await emit.until(self._deadline_ns)
        for frame in self._told(End()):
            await self._out(frame, emit)

    @property
    def _deadline_ns(self) -> int | None:
        clocks = (self.core, self._fallback, self._idle)
        times = [clock.deadline_ns for clock in clocks if clock is not None]
        return min((time for time in times if time is not None), default=None)

    def _due(self, at_ns: int) -> list[_Made]:
        made: list[_Made] = self._seen(self.core.deadline_reached(at_ns), at_ns)
        if self._fallback is not None:
            for order in self._fallback.deadline_reached(at_ns):
                made += self._line(order, at_ns)
        if self._idle is not None:
            made += self._idle.deadline_reached(at_ns)
        return made

    def _told(self, fact: Fact) -> list[_Made]:
        at_ns = self._emit.now_ns()
        return self._seen(self.core.receive(fact, at_ns), at_ns)

    def _seen(self, made: list[Command], at_ns: int) -> list[_Made]:
        """What the core orders; the others are told who has the floor now."""
        for frame in made:
            if isinstance(frame, TurnAmended) and self._on_amended is not None:
                self._on_amended(frame)
        floor = self.core.floor
        if floor != self._floor:
            self._floor = floor
            for other in (self._fallback, self._idle):
                if other is not None:
                    other.receive(floor, at_ns)
        return [*made]

    def _line(self, order: fallback.Command, at_ns: int) -> list[_Made]:
        if not isinstance(order, PlayLine):
            return [order]
        pcm = self._clips[order.name]
        if not pcm:
            return []
        turn = self._emit.new_turn()
        pending = ReplyPending(turn=turn, at_ns=at_ns)
        made: list[_Made] = [pending, *self._told(pending)]
        sound = AudioOut(pcm=pcm, rate_hz=self._voice_rate_hz, turn=turn, at_ns=at_ns)
        made += self._told(sound)
        made += self._told(AudioDone(turn=turn, n_samples=sound.n_samples, at_ns=at_ns))
        return made

    async def _out(self, frame: _Made, emit: Emit[_Made]) -> None:
        while True:
            try:
                emit(frame)
            except MailboxFull:
                # Only with a slow async stage below and no Playout, which takes all there is.
                await emit.room()
            else:
                return


def _shipped_lines() -> dict[LineName, Line]:
    folder = resources.files("framepipe_processors").joinpath("clips")
    clips: dict[LineName, str] = {
        "missed": "missed.wav",
        "one_moment": "one_moment.wav",
        "offline": "offline.wav",
    }
    return {
        name: Line(text, str(folder.joinpath(clips[name])) if name in clips else None)
        for name, text in LINES.items()
    }


def _clip(path: str | Path | None, rate_hz: int) -> bytes:
    if path is None:
        return b""
    with WavReader(path) as wav:
        return b"".join(wav.read_at(rate_hz))
