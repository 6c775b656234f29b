"""A speech model behind the OpenAI Realtime protocol, as one stage.

The decisions are in `framepipe.realtime.client_protocol`, and `framepipe.realtime.client_sockets`
carries them over sockets. Here frames become what the protocol is told, and what it says becomes
frames, tools that run, and answers for whoever waits.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import anyio
from attrs import field, frozen

from framepipe.conversation.report import InterruptionLog
from framepipe.errors import (
    FrameError,
    FramepipeError,
    LocalProtocolError,
    RemoteProtocolError,
    TransportBroken,
)
from framepipe.frames import (
    AudioDone,
    AudioIn,
    AudioOut,
    ConnectionState,
    DropParked,
    End,
    GuardTools,
    Heard,
    Hold,
    Interrupt,
    InterruptionReport,
    InterruptionTotals,
    Problem,
    Proceed,
    Release,
    ReplyPending,
    Revoke,
    Say,
    Speak,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    TextIn,
    TextOut,
    ToolCall,
    ToolResult,
    Transcript,
    Undo,
    Usage,
    Withdrawn,
    evolve,
)
from framepipe.processor import Emit, on
from framepipe.realtime import events as wire
from framepipe.realtime.address import OPENAI_MODEL, ServiceAddress, hidden, realtime_url
from framepipe.realtime.client_outputs import (
    BesideDone,
    Fail,
    OpenTurn,
    Output,
    ResponseEnded,
    Retrieved,
    Send,
    Told,
    Updated,
    Withdraw,
)
from framepipe.realtime.client_protocol import ClientProtocol
from framepipe.realtime.client_sockets import ClientSockets, only_ours
from framepipe.realtime.codings import codings_of
from framepipe.realtime.connection import Connect
from framepipe.realtime.connection import connect as connect_socket
from framepipe.realtime.items import user_text
from framepipe.realtime.reconnect import Retries, RetryPolicy
from framepipe.realtime.session import Owner, SessionSettings
from framepipe.realtime.tool_runner import Outcome, ToolRunner
from framepipe.realtime.tools import Tool, by_name
from framepipe.realtime.waiting import Awaited

_log: Final = logging.getLogger("framepipe")

Made: TypeAlias = (
    AudioOut
    | AudioDone
    | TextOut
    | Transcript
    | ToolCall
    | ToolResult
    | ReplyPending
    | SpeechStarted
    | SpeechStopped
    | Usage
    | Problem
    | ConnectionState
    | Interrupt
    | InterruptionReport
    | InterruptionTotals
    | Withdrawn
)
"""What this stage emits."""


@frozen
class RealtimeStatistics:
    """What a call has cost so far.

    Attributes:
        responses: Responses that told their usage.
        input_text_tokens: Text read.
        input_audio_tokens: Audio read.
        input_cached_tokens: Part of what was read that the service had at hand.
        output_text_tokens: Text written.
        output_audio_tokens: Audio spoken.
        reconnects: New sockets after the first, renewals included.
        tools_running: Tool calls without an output.
        interruptions: What the interruptions of the call come to.
    """

    responses: int = 0
    input_text_tokens: int = 0
    input_audio_tokens: int = 0
    input_cached_tokens: int = 0
    output_text_tokens: int = 0
    output_audio_tokens: int = 0
    reconnects: int = 0
    tools_running: int = 0
    interruptions: InterruptionTotals = field(factory=InterruptionTotals)


class Realtime:
    """Talk with a speech model over the Realtime protocol.

    Takes mono microphone audio (24 kHz; 8 kHz when the session's input is G.711) and makes the
    agent's: `AudioOut` and `AudioDone` in turns of its own, each announced by `ReplyPending`; the
    service's `SpeechStarted` and `SpeechStopped`; `Transcript`, `ToolCall`, `ToolResult`, `Usage`,
    `Problem`, `ConnectionState`, `InterruptionReport`, at the end `InterruptionTotals`; and, when
    the agent falls silent, what was heard of its words as a `Transcript` that is an estimate.
    Takes `TextIn`, `Say` and `ToolResult` from above, and from below `Speak`. On an `Interrupt` it
    truncates what was not heard and cancels; on a `Revoke` it takes back what was said and begun
    because of a user turn. Where `Turns` stands below it, tools with effects wait until their turn
    is committed. At the end of the call it finishes the answer that is owed, then closes.

    A connection that is lost is made again: the new session has the settings, the conversation as
    the user heard it, and the microphone audio since the user's last words (30 s at most). What
    is audible plays on. A session is renewed before it expires. A service that was never reached,
    a key that is refused, and an error that no retry can mend end the call.

    Args:
        session: What the session shall be.
        url: Where the service is; ``wss://…`` or ``ws://…``; ``None`` is OpenAI, or ``base_url``.
            Azure's is known by its host (`framepipe.realtime.address.azure_url`).
        base_url: The same as other clients of the service take it: ``https://host/v1``.
        model: Goes into the URL, unless that names one.
        key: The service's key, or an ephemeral one; ``None`` takes it from ``OPENAI_API_KEY``
            (``AZURE_OPENAI_API_KEY``). A server on this machine, or a ``connect`` of your own,
            needs none.
        owner: Who decides that the agent is interrupted; "client" tells the service not to.
        tools: Functions that the model may call, each made by `framepipe.realtime.tools.tool`.
            Tools that ``session.tools`` declares besides are answered by a `ToolResult` frame.
        greeting: What the agent says first; ``None``: it waits for the user.
        retry: How a lost connection is tried again.
        seed: Of the chance in the pauses between two tries; ``None``: another one each time.
        connect: Makes the connection from a URL and headers.
        unix_s: The time of day, in which the service says when a session expires.

    Attributes:
        rates_hz: The microphone's rate.
        made_rates_hz: The voice's rate.

    Raises:
        LocalProtocolError: A URL, or a tool, that is none.
    """

    def __init__(
        self,
        session: SessionSettings = SessionSettings(),  # noqa: B008 - frozen
        *,
        url: str | None = None,
        base_url: str | None = None,
        model: str = OPENAI_MODEL,
        key: str | None = None,
        owner: Owner = "client",
        tools: tuple[Tool[..., Any], ...] = (),
        greeting: str | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        seed: int | None = None,
        connect: Connect = connect_socket,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._address = ServiceAddress(realtime_url(url, base_url=base_url, model=model), key)
        self._owner: Owner = owner
        self._runner = ToolRunner(by_name(tools), self._tell)
        heard, spoken = codings_of(session.wire(owner))
        self.rates_hz: dict[type[AudioIn], int] = {AudioIn: heard.rate_hz}
        self.made_rates_hz: dict[type[AudioOut], int] = {AudioOut: spoken.rate_hz}
        self._rate_hz = heard.rate_hz
        self._settings = session
        self._report = InterruptionLog()
        self._sockets = ClientSockets(
            self._address,
            self._wire(session),
            heard.rate_hz,
            connect=connect,
            retries=Retries(retry, random.Random(seed).random),
            unix_s=unix_s,
            perform=self._performed,
            appended=self._report.audio_sent,
            lost=self._connection_lost,
            has_effects=self._has_effects,
        )
        if greeting is not None:
            self._protocol.say(greeting, 0)
        self._statistics = RealtimeStatistics()
        self._awaited = Awaited[Updated | Retrieved | BesideDone]()
        self._emit: Emit[Made] | None = None

    def __repr__(self) -> str:
        return f"Realtime(url={hidden(self._address.url)!r}, owner={self._owner!r})"

    @property
    def makes_transcripts(self) -> bool:
        """Whether the user's words come as text; a stage with ``needs_transcripts`` wants it."""
        return self._settings.transcription is not None

    def attach(self, emit: Emit[Made]) -> None:
        """Keep what the engine lends."""
        self._emit = emit
        self._sockets.attach(emit)

    # --- from above ---

    @on(AudioIn)
    def hear(self, frame: AudioIn) -> None:
        """Microphone audio waits for the socket.

        Raises:
            FrameError: It is not mono, or of another rate than the session's input.
        """
        if frame.rate_hz != self._rate_hz or frame.channels != 1:
            raise FrameError(
                f"microphone audio has {frame.rate_hz} Hz and {frame.channels} channels; Realtime "
                f"takes {self._rate_hz} Hz mono: put Resample({self._rate_hz}) before it"
            )
        self._report.audio_in(frame)
        if not self._sockets.over:
            self._sockets.hear(frame)

    @on(TextIn)
    def read(self, frame: TextIn) -> list[Made]:
        """Typed words become an item, and are answered when it may be."""
        at_ns = self._now_ns()
        if frame.respond:
            outputs = self._protocol.typed(frame.text, at_ns)
        else:
            _, outputs = self._protocol.add(user_text(frame.text))
        return self._performed(outputs, at_ns)

    @on(Say)
    def say(self, frame: Say) -> list[Made]:
        """The model speaks the text, when it may speak."""
        at_ns = self._now_ns()
        outputs = self._protocol.say(frame.text, at_ns, interruptible=frame.interruptible)
        return self._performed(outputs, at_ns)

    @on(ToolResult)
    def answer_call(self, frame: ToolResult) -> list[Made | ToolResult]:
        """Somebody else ran the tool."""
        at_ns = self._now_ns()
        outputs = self._protocol.answer_call(frame.call_id, frame.output, at_ns)
        return [frame, *self._performed(outputs, at_ns)]

    @on(SpeechStarted)
    def note_onset(self, frame: SpeechStarted) -> SpeechStarted:
        """The local detector's onset is the beginning of an interruption's account."""
        self._report.speech_started(frame)
        return frame

    @on(End)
    def end(self, frame: End) -> None:
        """The microphone is gone: ``run`` finishes what is owed."""
        self._sockets.end()

    # --- from below ---

    @on(Hold)
    def note_hold(self, frame: Hold) -> Hold:
        """The agent fell silent."""
        if frame.audible:
            self._report.held(self._protocol.newest_turn, self._now_ns())
        return frame

    @on(Release)
    def note_release(self, frame: Release) -> list[Release | InterruptionReport]:
        """It goes on: it was no speech."""
        reports = self._report.released(self._now_ns())
        return [frame] if self._sockets.over else [frame, *reports]

    @on(Interrupt)
    def interrupt(self, frame: Interrupt) -> list[Made]:
        """Truncate what was not heard, then cancel."""
        at_ns = self._now_ns()
        self._report.cut(frame, at_ns)
        made = self._performed(self._protocol.cut(frame, at_ns), at_ns)
        heard = [words for one in frame.heard for words in self._words_heard(one)]
        return [frame, *made, *heard]

    @on(Heard)
    def settle(self, frame: Heard) -> list[Made | Heard]:
        """A position that was an estimate at the cut is known now, or the agent fell silent."""
        at_ns = self._now_ns()
        if frame.final:
            self._report.settled(frame)
        outputs = self._protocol.settle(frame, at_ns)
        return [frame, *self._performed(outputs, at_ns), *self._words_heard(frame)]

    @on(Swallow)
    def swallow(self, frame: Swallow) -> list[Made]:
        """A user item was no speech: delete it with its answer."""
        at_ns = self._now_ns()
        return self._performed(self._protocol.swallow(frame.item_id, at_ns), at_ns)

    @on(Revoke)
    def revoke(self, frame: Revoke) -> list[Made]:
        """A user turn is void: take back what was said and begun because of it."""
        at_ns = self._now_ns()
        outputs = self._protocol.revoke(
            frame.item_ids, at_ns, hint=frame.hint, respond=frame.respond
        )
        return self._performed(outputs, at_ns)

    @on(GuardTools, Proceed)
    def guard(self, frame: GuardTools | Proceed) -> None:
        """Tools with effects wait from now on; or one of them need not wait any more."""
        if isinstance(frame, Proceed):
            self._runner.proceed(frame.call_id)
        else:
            self._runner.guard()

    @on(Speak)
    def speak(self, frame: Speak) -> list[Made]:
        """The model speaks the text, when it may speak."""
        at_ns = self._now_ns()
        return self._performed(self._protocol.say(frame.text, at_ns), at_ns)

    @on(Undo)
    def note_undo(self, frame: Undo) -> list[Made | Undo]:
        """What was cut goes on: the service is told as text what is heard of it from here on."""
        at_ns = self._now_ns()
        outputs = self._protocol.undo(at_ns)
        self._report.undone(at_ns)
        return [frame, *self._performed(outputs, at_ns)]

    @on(DropParked)
    def note_drop(self, frame: DropParked) -> list[Made | DropParked]:
        """What was cut will not go on."""
        self._report.dropped()
        return [frame, *self._performed([], self._now_ns())]

    def _words_heard(self, heard: Heard) -> list[Made]:
        """What of a part that was not heard to its end was heard, as text."""
        if heard.complete or not heard.heard_samples or self._sockets.over:
            return []
        text = self._protocol.words_heard(heard)
        if text is None:
            return []
        words = Transcript(
            who="agent", text=text, final=True, item_id=heard.item_id or "", estimate=True
        )
        return [evolve(words, at_ns=self._now_ns())]

    # --- what the application asks for ---

    def statistics(self) -> RealtimeStatistics:
        """What the call has cost so far."""
        return evolve(
            self._statistics,
            tools_running=self._protocol.tools_running,
            interruptions=self._report.totals,
        )

    async def update(self, session: SessionSettings) -> None:
        """Change the session in the middle of the call; it holds when this returns.

        Later sockets get it too. Cancellation leaves it sent.

        Raises:
            LocalProtocolError: A coding of audio would change; that needs a new call.
            RemoteProtocolError: The service refuses it, and says why.
            TransportBroken: The connection went before the answer came.
        """
        if codings_of(session.wire()) != codings_of(self._settings.wire()):
            raise LocalProtocolError(
                "input_format or output_format differs from the call's; they are fixed while it "
                "lasts"
            )
        name, outputs = self._protocol.update(self._wire(session), self._now_ns())
        if name:
            answered = await self._answer(name, outputs)
            assert isinstance(answered, Updated)
            if answered.error is not None:
                raise RemoteProtocolError(f"the session was not updated: {answered.error}")
        self._settings = session

    def add(self, item: wire.Item, *, after: str | None = None, respond: bool = False) -> str:
        """Put an item into the conversation: text, a picture, a word to the model.

        Args:
            item: See `framepipe.realtime.items`.
            after: The item that it follows; "root": none; ``None``: the last one.
            respond: The agent shall answer now.

        Returns:
            Its id, for `delete` and for ``after``.

        Raises:
            LocalProtocolError: Its id is too long or taken, or ``after`` is not known.
        """
        at_ns = self._now_ns()
        item_id, outputs = self._protocol.add(item, after)
        if respond:
            outputs += self._protocol.create(None, at_ns)
        self._perform_from_outside(outputs, at_ns)
        return item_id

    def delete(self, item_id: str) -> None:
        """Take an item out of the conversation."""
        self._perform_from_outside(self._protocol.delete(item_id), self._now_ns())

    def commit(self, *, respond: bool = True) -> None:
        """The user's turn has ended: push-to-talk, where ``turn_detection`` is ``None``.

        Less than 100 ms since the last one is no turn, and nothing comes of it.

        Args:
            respond: The agent shall answer it.

        Raises:
            LocalProtocolError: No session is open.
        """
        self._perform_from_outside(self._protocol.commit(respond=respond), self._now_ns())

    def clear(self) -> None:
        """Let the service forget what it heard since the last commit.

        Raises:
            LocalProtocolError: No session is open.
        """
        self._perform_from_outside(self._protocol.clear(), self._now_ns())

    async def retrieve(self, item_id: str) -> wire.Item | None:
        """An item as the service has it, with its audio; ``None``: it has none of this name.

        Raises:
            LocalProtocolError: No session is open.
        """
        outputs = self._protocol.retrieve(item_id)
        answered = await self._answer(f"retrieve-{item_id}", outputs)
        return answered.item if isinstance(answered, Retrieved) else None

    async def ask_beside(self, params: wire.ResponseParams) -> str:
        """A response beside the conversation: a summary, a classification. It is not heard.

        Args:
            params: At least instructions or an input; ask for text, audio is only paid for.

        Returns:
            What it says.

        Raises:
            LocalProtocolError: No session is open.
            RemoteProtocolError: The service refuses it, or it failed.
        """
        name, outputs = self._protocol.create_beside(params)
        answered = await self._answer(name, outputs)
        assert isinstance(answered, BesideDone)
        if answered.error is not None:
            raise RemoteProtocolError(f"no response beside the conversation: {answered.error}")
        return answered.text

    @property
    def _protocol(self) -> ClientProtocol:
        return self._sockets.protocol

    # --- the stage's own life ---

    async def run(self, emit: Emit[Made]) -> None:
        """Hold the session until the call ends, over as many sockets as it takes.

        Cancellation closes the connection; an unfinished answer is lost, running tools are
        cancelled.

        Raises:
            TransportBroken: There is no connection, or not any more.
            RemoteProtocolError: The service will not serve us.
            LocalProtocolError: There is no key.
        """
        self._emit = emit
        try:
            async with anyio.create_task_group() as tasks:
                self._runner.start(tasks)
                await self._sockets.run(emit)
                for report in self._report.close():
                    emit(report)
                emit(evolve(self._report.totals, at_ns=emit.now_ns()))
                closed = ConnectionState(state="closed", reason="the call ended")
                emit(evolve(closed, at_ns=emit.now_ns()))
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only_ours(group) or group from None
        finally:
            self._sockets.over = True
            self._runner.start(None)
            self._awaited.give_up()

    # --- what the protocol says ---

    def _performed(self, outputs: list[Output], at_ns: int) -> list[Made]:
        """Do what the protocol says; what is to be emitted is given back, in order."""
        frames: list[Made] = []
        for output in outputs:
            match output:
                case Send(event):
                    self._send(event, at_ns)
                case OpenTurn():
                    frames.append(self._open_turn(output, at_ns))
                case Withdraw():
                    frames.append(self._withdraw(output, at_ns))
                case ResponseEnded():
                    self._report.response_ended(output.response_id, output.late_ms, at_ns)
                case Fail():
                    self._sockets.fail(self._refusal(output))
                case Updated(name) | BesideDone(name):
                    self._awaited.give(name, output)
                case Retrieved(item_id):
                    self._awaited.give(f"retrieve-{item_id}", output)
                case ToolCall():
                    call = evolve(output, effects=self._has_effects(output.name))
                    frames.append(call)
                    self._call_tool(call)
                case _:
                    frames.append(self._noted(output))
        frames += self._report.finished()
        self._sockets.changed()
        return [] if self._sockets.over else frames

    def _send(self, event: wire.ClientEvent, at_ns: int) -> None:
        self._sockets.send(event)
        if isinstance(event, wire.ResponseCancel) and event.response_id is not None:
            self._report.cancel_sent(event.response_id, at_ns)
        elif isinstance(event, wire.ConversationItemTruncate):
            self._report.truncate_sent(event.item_id, event.content_index, event.audio_end_ms)

    def _open_turn(self, wanted: OpenTurn, at_ns: int) -> ReplyPending:
        assert self._emit is not None, "a server is heard in run only"
        turn = self._emit.new_turn()
        self._protocol.turn_opened(wanted.response_id, turn)
        return ReplyPending(
            turn=turn,
            interruptible=wanted.interruptible,
            response_id=wanted.response_id,
            item_ids=wanted.item_ids,
            at_ns=at_ns,
        )

    def _withdraw(self, void: Withdraw, at_ns: int) -> ToolResult:
        self._runner.withdraw(void.call_id)
        error = "withdrawn: the turn that it was for is void"
        return ToolResult(call_id=void.call_id, name=void.name, output="", error=error, at_ns=at_ns)

    def _noted(self, frame: Told) -> Made:
        if isinstance(frame, SpeechStarted):
            self._report.speech_started(frame)
        elif isinstance(frame, Usage):
            self._count(
                responses=1,
                input_text_tokens=frame.input_text_tokens,
                input_audio_tokens=frame.input_audio_tokens,
                input_cached_tokens=frame.input_cached_tokens,
                output_text_tokens=frame.output_text_tokens,
                output_audio_tokens=frame.output_audio_tokens,
            )
        elif isinstance(frame, Problem):
            _log.warning("Realtime: %s: %s", frame.code, self._address.without_key(frame.message))
            return evolve(frame, message=self._address.without_key(frame.message))
        return frame

    # --- who waits, and tools ---

    def _perform_from_outside(self, outputs: list[Output], at_ns: int) -> None:
        """Do what a method that no frame called wants: only sends."""
        for frame in self._performed(outputs, at_ns):
            if self._emit is not None:
                self._emit(frame)

    async def _answer(self, name: str, outputs: list[Output]) -> Updated | Retrieved | BesideDone:
        self._awaited.expect(name)
        self._perform_from_outside(outputs, self._now_ns())
        value = await self._awaited.answer(name)
        if value is None:
            raise TransportBroken("the call ended before the service answered")
        return value

    def _call_tool(self, call: ToolCall) -> None:
        if call.name in self._runner.tools or call.name not in self._declared():
            self._runner.run(call)

    async def _tell(self, call: ToolCall, outcome: Outcome) -> None:
        assert self._emit is not None, "a tool runs in run only"
        at_ns = self._emit.now_ns()
        error = None if outcome.error is None else self._address.without_key(outcome.error)
        result = ToolResult(
            call_id=call.call_id,
            name=call.name,
            output=self._address.without_key(outcome.output),
            error=error,
            at_ns=at_ns,
        )
        outputs = self._protocol.answer_call(call.call_id, result.output, at_ns)
        for frame in (result, *self._performed(outputs, at_ns)):
            await self._sockets.out(frame)

    def _has_effects(self, name: str) -> bool:
        tool = self._runner.tools.get(name)
        return tool is not None and tool.effects

    def _declared(self) -> set[str]:
        """Tools that the application answers by frames."""
        tools = self._protocol.session.tools
        return {str(tool.get("name")) for tool in tools} if isinstance(tools, list) else set()

    # --- small things ---

    def _now_ns(self) -> int:
        return 0 if self._emit is None else self._emit.now_ns()

    def _wire(self, session: SessionSettings) -> wire.Session:
        ours = tuple(tool.wire for tool in self._runner.tools.values())
        return evolve(session, tools=(*session.tools, *ours)).wire(self._owner)

    def _count(self, **more: int) -> None:
        now = {name: getattr(self._statistics, name) + n for name, n in more.items()}
        self._statistics = evolve(self._statistics, **now)

    def _connection_lost(self) -> None:
        self._report.connection_lost()
        self._count(reconnects=1)

    def _refusal(self, fail: Fail) -> FramepipeError:
        said = self._address.without_key(f"{fail.code}: {fail.message}")
        if fail.error_class == "reconnect":
            return TransportBroken(f"the service ended the session: {said}")
        return RemoteProtocolError(f"the service refuses to go on: {said}")
