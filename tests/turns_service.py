"""A whole call with `Turns` in it: a user of noise bursts, known words, the embedded server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from attrs import field, frozen

from framepipe import Frame, Pipeline
from framepipe.clock import now_ns
from framepipe.frames import (
    Interrupt,
    Proceed,
    Revoke,
    TextIn,
    ToolCall,
    Transcript,
    UserTurn,
)
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.booking import Booking
from framepipe.realtime.mind import Mind, given_words
from framepipe.realtime.server import ServerSettings, server_in_process
from framepipe.realtime.session import ServerVad, SessionSettings, Transcription
from framepipe.realtime.tools import tool
from framepipe.realtime.voice import ShippedClips
from framepipe.realtime.window_detectors import LoudWindows
from framepipe.testing import Act, Pause, ScriptedUser, Speech, run_virtual
from framepipe_processors import BargeIn, LocalVad, Playout, Realtime, Turns, WavSink
from tests.interruption_call import Outside

_F = TypeVar("_F")

Said = tuple[int, int, str]
"""When somebody begins to speak, for how long (milliseconds), and what he says."""

Typed = tuple[int, str]
"""When somebody has typed something (milliseconds), and what."""


@frozen(kw_only=True)
class Call:
    """What happened in one call.

    Attributes:
        bookings: Origin and destination of every flight that was booked, and when.
        frames: Every frame that was emitted, and when (milliseconds).
        heard_ms: When something of the agent reached the ear, and for how long.
        heard_turns: The agent's turns of which something did, in order.
        items: The conversation as the service has it at the end: role or type, and text.
    """

    bookings: list[tuple[int, str, str]] = field(factory=list[tuple[int, str, str]])
    frames: list[tuple[int, Frame]] = field(factory=list[tuple[int, Frame]])
    heard_ms: list[tuple[int, int]] = field(factory=list[tuple[int, int]])
    heard_turns: list[int] = field(factory=list[int])
    items: list[tuple[str, str]] = field(factory=list[tuple[str, str]])

    def of(self, kind: type[_F]) -> list[_F]:
        return [frame for _, frame in self.frames if isinstance(frame, kind)]

    def timeline(self) -> str:
        """For a person who looks into a failure."""
        shown = (UserTurn, Transcript, Revoke, Proceed, Interrupt, ToolCall)
        lines = [f"{at:6d} {frame}" for at, frame in self.frames if isinstance(frame, shown)]
        return "\n".join(lines)


def _acts(said: Sequence[Said], length_ms: int) -> list[Act]:
    acts: list[Act] = []
    at_ms = 0
    for start_ms, speech_ms, _ in said:
        acts += [Pause(start_ms - at_ms), Speech(speech_ms)]
        at_ms = start_ms + speech_ms
    return [*acts, Pause(length_ms - at_ms)]


async def _call(
    said: Sequence[Said],
    length_ms: int,
    mind: Mind,
    pace: Pace,
    silence_ms: int,
    create_response: bool,
    typed: Sequence[Typed],
    options: dict[str, Any],
) -> Call:
    call = Call()

    @tool(effects=True)
    async def book_flight(origin: str, destination: str, day: str) -> str:
        """Book a flight.

        Args:
            origin: From where.
            destination: To where.
            day: When.
        """
        call.bookings.append((now_ns() // 1_000_000, origin, destination))
        return f"{origin} to {destination}, {day}"

    settings = ServerSettings(
        mind=mind,
        ears=given_words([words for _, _, words in said]),
        voice=ShippedClips(),
        detector=LoudWindows,
        pace=pace,
        seed=1,
    )
    session = SessionSettings(
        transcription=Transcription(),
        turn_detection=ServerVad(
            silence_duration_ms=silence_ms, prefix_padding_ms=0, create_response=create_response
        ),
    )
    sink = WavSink(None, block_ms=20)

    def watch(what: str, _: str, frame: Frame) -> None:
        if what == "emitted":
            call.frames.append((now_ns() // 1_000_000, frame))

    async with server_in_process(settings) as server:
        pipeline = Pipeline(
            ScriptedUser(*_acts(said, length_ms), block_ms=20),
            LocalVad(second_stage=False),
            Outside(*((at_ms, TextIn(text=text)) for at_ms, text in typed)),
            Realtime(session, connect=server.connect, tools=(book_flight,), seed=1),
            Turns(**options),
            Playout(),
            BargeIn(),
            sink,
        )
        pipeline.observe(watch)
        await pipeline.run()
        for item in next(reversed(list(server.sessions))).conversation.items:
            parts = item.content if isinstance(item.content, list) else []
            text = " ".join(
                str(words)
                for part in parts
                for words in (part.text, part.transcript)
                if isinstance(words, str)
            )
            role = item.role if isinstance(item.role, str) else item.type
            call.items.append((role, text))
    for run in sink.heard_log:
        call.heard_ms.append((run.at_ns // 1_000_000, run.n_samples // 24))
        if run.turn not in call.heard_turns:
            call.heard_turns.append(run.turn)
    return call


def call(
    *said: Said,
    length_ms: int,
    mind: Mind | None = None,
    pace: Pace | None = None,
    silence_ms: int = 500,
    create_response: bool = True,
    typed: Sequence[Typed] = (),
    **options: Any,
) -> Call:
    """One whole call in virtual time."""
    mind = Booking() if mind is None else mind
    pace = Pace(first_audio_ms=(300, 300)) if pace is None else pace
    return run_virtual(
        _call, said, length_ms, mind, pace, silence_ms, create_response, typed, options
    )
