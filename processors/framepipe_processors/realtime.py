"""A speech model behind the OpenAI Realtime protocol, as one stage.

The decisions are in `framepipe.realtime.client_protocol`; this is the shell: it connects, reads,
writes, keeps the time, runs tools, and performs what the protocol says.

Two lanes lead to the socket. Orders (a truncate, a cancel, a create) go first and in their own
order; microphone audio waits behind them in a ring, and is encoded only when it is its turn, so
that a socket that is stuck costs the oldest audio (it becomes silence of the same length) and no
more. When a socket is lost there is a new `ClientProtocol` at once: what the pipeline decides
meanwhile is kept by it, and the ring begins again where the service may lack something.
The socket is always read: what the service says about the user must not wait behind what it
says itself.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

import anyio
from anyio.abc import TaskGroup
from attrs import frozen

from framepipe.conversation.report import InterruptionLog
from framepipe.errors import (
    FrameError,
    FramepipeError,
    LocalProtocolError,
    MailboxFull,
    ProtocolError,
    RemoteProtocolError,
    TransportBroken,
)
from framepipe.frames import (
    NS_PER_S,
    AudioDone,
    AudioIn,
    AudioOut,
    ConnectionState,
    End,
    Heard,
    Hold,
    Interrupt,
    InterruptionReport,
    Problem,
    Release,
    ReplyPending,
    Say,
    SpeechStarted,
    SpeechStopped,
    Swallow,
    TextIn,
    TextOut,
    ToolCall,
    ToolResult,
    Transcript,
    Usage,
    evolve,
)
from framepipe.processor import Emit, on
from framepipe.realtime import events as wire
from framepipe.realtime.address import (
    OPENAI_MODEL,
    headers,
    hidden,
    key_variable,
    realtime_url,
    without_key,
)
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
)
from framepipe.realtime.client_protocol import ClientProtocol
from framepipe.realtime.codings import codings_of
from framepipe.realtime.connection import (
    OPEN_TIMEOUT_S,
    Connect,
    Connection,
    HandshakeRefused,
    is_loopback,
)
from framepipe.realtime.connection import connect as connect_socket
from framepipe.realtime.items import user_text
from framepipe.realtime.mic_ring import MicRing
from framepipe.realtime.reconnect import Retries, RetryPolicy
from framepipe.realtime.session import Owner, SessionSettings
from framepipe.realtime.tool_runner import Outcome, failed, run_tool
from framepipe.realtime.tools import Tool, by_name

_log: Final = logging.getLogger("framepipe")

FINISH_LIMIT_NS: Final = 30 * NS_PER_S
"""How long the end of the call waits for the answer to the last words. Generation is several
times faster than speech, so this is minutes of it."""

SESSION_LIMIT_S: Final = 3_600
"""How long the service keeps a session that does not say when it expires."""

RENEW_EARLY_S: Final = 120
"""How long before its end a session is renewed, at the first moment between two turns."""

RENEW_AT_LAST_S: Final = 10
"""How long before its end it is renewed even if somebody speaks."""

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
    """

    responses: int = 0
    input_text_tokens: int = 0
    input_audio_tokens: int = 0
    input_cached_tokens: int = 0
    output_text_tokens: int = 0
    output_audio_tokens: int = 0
    reconnects: int = 0
    tools_running: int = 0


class Realtime:
    """Talk with a speech model over the Realtime protocol.

    Takes mono microphone audio (24 kHz; 8 kHz when the session's input is G.711) and makes the
    agent's: `AudioOut` and `AudioDone` in turns of its own, each announced by `ReplyPending`; the
    service's `SpeechStarted` and `SpeechStopped`; `Transcript`, `ToolCall`, `ToolResult`, `Usage`,
    `Problem`, `ConnectionState`, `InterruptionReport`. Takes `TextIn`, `Say` and `ToolResult` from
    above. On an `Interrupt` it truncates what was not heard and cancels. At the end of the call it
    finishes the answer that is owed, then closes.

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
        self._url = realtime_url(url, base_url=base_url, model=model)
        self._key = key
        self._owner: Owner = owner
        self._connect = connect
        self._tools = by_name(tools)
        self._retries = Retries(retry, random.Random(seed).random)
        self._unix_s = unix_s
        heard, spoken = codings_of(session.wire(owner))
        self.rates_hz: dict[type[AudioIn], int] = {AudioIn: heard.rate_hz}
        self.made_rates_hz: dict[type[AudioOut], int] = {AudioOut: spoken.rate_hz}
        self._rate_hz = heard.rate_hz
        self._ring = MicRing(heard.rate_hz)
        self._settings = session
        self._protocol = ClientProtocol(self._wire(session), audio_between=self._ring.between)
        if greeting is not None:
            self._protocol.say(greeting, 0)
        self._statistics = RealtimeStatistics()
        self._answers: dict[str, _Answer] = {}
        self._tasks: TaskGroup | None = None
        self._was_open = False
        self._report = InterruptionLog()
        self._emit: Emit[Made] | None = None
        self._orders: deque[wire.ClientEvent] = deque()
        self._appends: deque[wire.ClientEvent] = deque()
        self._failure: FramepipeError | None = None
        self._something_to_send = _Bell()
        self._something_changed = _Bell()
        self._microphone_gone = _Bell()
        self._ending = False
        self._over = False

    def __repr__(self) -> str:
        return f"Realtime(url={hidden(self._url)!r}, owner={self._owner!r})"

    def attach(self, emit: Emit[Made]) -> None:
        """Keep what the engine lends."""
        self._emit = emit

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
        if self._over:
            return
        self._ring.put(frame)
        self._something_to_send.ring()

    @on(TextIn)
    def read(self, frame: TextIn) -> list[Made]:
        """Typed words become an item, and are answered when it may be."""
        at_ns = self._now_ns()
        _, outputs = self._protocol.add(user_text(frame.text))
        if frame.respond:
            outputs += self._protocol.create(None, at_ns)
        return self._performed(outputs, at_ns)

    @on(Say)
    def say(self, frame: Say) -> list[Made]:
        """The model speaks the text, when it may speak."""
        at_ns = self._now_ns()
        return self._performed(self._protocol.say(frame.text, at_ns), at_ns)

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
        self._ending = True
        self._microphone_gone.ring()
        self._changed()

    # --- from below ---

    @on(Hold)
    def note_hold(self, frame: Hold) -> Hold:
        """The agent fell silent."""
        self._report.held(self._protocol.newest_turn, self._now_ns())
        return frame

    @on(Release)
    def note_release(self, frame: Release) -> list[Release | InterruptionReport]:
        """It goes on: it was no speech."""
        reports = self._report.released(self._now_ns())
        return [frame] if self._over else [frame, *reports]

    @on(Interrupt)
    def interrupt(self, frame: Interrupt) -> list[Made]:
        """Truncate what was not heard, then cancel."""
        at_ns = self._now_ns()
        self._report.cut(frame, at_ns)
        return [frame, *self._performed(self._protocol.cut(frame, at_ns), at_ns)]

    @on(Heard)
    def settle(self, frame: Heard) -> list[Made | Heard]:
        """A position that was an estimate at the cut is known now."""
        at_ns = self._now_ns()
        if frame.final:
            self._report.settled(frame)
        outputs = self._protocol.settle(frame, at_ns)
        return [frame, *self._performed(outputs, at_ns)]

    @on(Swallow)
    def swallow(self, frame: Swallow) -> list[Made]:
        """A user item was no speech: delete it with its answer."""
        at_ns = self._now_ns()
        return self._performed(self._protocol.swallow(frame.item_id, at_ns), at_ns)

    # --- what the application asks for ---

    def statistics(self) -> RealtimeStatistics:
        """What the call has cost so far."""
        return evolve(self._statistics, tools_running=self._protocol.tools_running)

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
                self._tasks = tasks
                await self._call(emit)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) or group from None
        finally:
            self._over, self._tasks = True, None
            for answer in self._answers.values():
                answer.give(None)

    async def _call(self, emit: Emit[Made]) -> None:
        emit(ConnectionState(state="connecting", at_ns=emit.now_ns()))
        while True:
            try:
                await self._one_session(emit)
                break
            except TransportBroken as error:
                due_ns = self._next_try(error, emit.now_ns())
                if due_ns is None:
                    raise
                why = without_key(str(error), *self._keys())
            except _RenewalDueError as error:
                due_ns, why = emit.now_ns(), str(error)
            await self._move_on(why, emit)
            if self._ending and self._protocol.settled:
                break
            while not await emit.until(due_ns):
                pass
        for report in self._report.close():
            emit(report)
        emit(ConnectionState(state="closed", reason="the call ended", at_ns=emit.now_ns()))

    async def _one_session(self, emit: Emit[Made]) -> None:
        try:
            async with (
                self._connect(self._url, self._headers()) as connection,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._read, connection, emit, name="Realtime reader")
                tasks.start_soon(self._write, connection, emit, name="Realtime writer")
                tasks.start_soon(self._keep_time, emit, name="Realtime clock")
                await self._greeted(emit)
                self._was_open = True
                self._retries.opened(emit.now_ns())
                tasks.start_soon(self._renew_in_time, emit, name="Realtime renewal")
                emit(ConnectionState(state="open", at_ns=emit.now_ns()))
                await self._finished(emit)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # These tasks, and a connection's own, share one fate: the first error caused the rest.
            raise _first(group) or group from None

    def _next_try(self, error: TransportBroken, at_ns: int) -> int | None:
        if isinstance(error, HandshakeRefused):
            if error.is_final:
                return None
        elif not self._was_open:
            return None  # who begins a call is still there to read what is wrong
        return self._retries.failed(at_ns)

    async def _move_on(self, why: str, emit: Emit[Made]) -> None:
        """Leave a lost socket behind."""
        at_ns = emit.now_ns()
        outputs, leftover = self._protocol.hand_over(at_ns)
        self._protocol = ClientProtocol(
            self._protocol.session, leftover=leftover, audio_between=self._ring.between
        )
        self._orders.clear()
        self._appends.clear()
        self._failure = None
        self._report.connection_lost()
        self._count(reconnects=1)
        frames = self._performed(outputs, at_ns)
        self._ring.rewind(leftover.resume_sample)
        for frame in frames:
            await self._out(frame, emit)
        emit(ConnectionState(state="reconnecting", reason=why, at_ns=emit.now_ns()))

    async def _renew_in_time(self, emit: Emit[Made]) -> None:
        """End the session before the service does, where that disturbs nobody."""
        told = self._protocol.session_told
        left_s = SESSION_LIMIT_S
        if told is not None and isinstance(told.expires_at, int):
            left_s = round(told.expires_at - self._unix_s())
            if not 0 < left_s <= 24 * SESSION_LIMIT_S:  # clocks that disagree
                left_s = SESSION_LIMIT_S
        early_s = min(RENEW_EARLY_S, left_s // 4)
        await anyio.sleep(left_s - early_s)
        limit_ns = emit.now_ns() + max(0, early_s - RENEW_AT_LAST_S) * NS_PER_S
        while not self._is_between_turns and not await emit.until(limit_ns):
            pass
        raise _RenewalDueError("the session is renewed before it expires")

    @property
    def _is_between_turns(self) -> bool:
        return self._protocol.settled and not self._protocol.speaking

    async def _read(self, connection: Connection, emit: Emit[Made]) -> None:
        while True:
            frames: list[Made] = []
            try:
                event = wire.decode_server(await connection.receive())
            except ProtocolError as error:
                frames = [self._problem("malformed_event", str(error))]
            else:
                at_ns = emit.now_ns()
                frames = self._performed(self._protocol.receive(event, at_ns), at_ns)
            for frame in frames:
                await self._out(frame, emit)
            if self._failure is not None:
                raise self._failure

    async def _write(self, connection: Connection, emit: Emit[Made]) -> None:
        while True:
            lane = self._orders or self._appends
            if lane:
                await connection.send(wire.encode(lane[0]))
                lane.popleft()
            elif self._ring.waiting and self._protocol.ready:
                at_ns = emit.now_ns()
                outputs = self._protocol.append(*self._ring.take())
                for told in self._performed(outputs, at_ns):
                    await self._out(told, emit)
            else:
                if self._ending:
                    self._changed()
                await self._something_to_send.wait()

    async def _keep_time(self, emit: Emit[Made]) -> None:
        while True:
            deadline_ns = self._protocol.deadline_ns
            if deadline_ns is None:
                await self._something_changed.wait()
            elif await emit.until(deadline_ns):
                at_ns = emit.now_ns()
                for frame in self._performed(self._protocol.advance(at_ns), at_ns):
                    await self._out(frame, emit)

    async def _greeted(self, emit: Emit[Made]) -> None:
        limit_ns = emit.now_ns() + round(OPEN_TIMEOUT_S * NS_PER_S)
        while not self._protocol.ready:
            if await emit.until(limit_ns):
                raise TransportBroken(
                    f"{_host(self._url)}: it opened the connection and said nothing for "
                    f"{OPEN_TIMEOUT_S:g} s; a Realtime server greets with session.created"
                )

    async def _finished(self, emit: Emit[Made]) -> None:
        """Wait for the end of the call, and then for the answer to the last words."""
        if not self._ending:
            await self._microphone_gone.wait()
        limit_ns = emit.now_ns() + FINISH_LIMIT_NS
        # What the service makes of the last audio is on its way for a round trip.
        grace_ns = 2 * self._protocol.patience_ns
        quiet_since_ns: int | None = None
        hushed = False
        while (now_ns := emit.now_ns()) < limit_ns:
            unsent = bool(self._orders or self._appends or self._ring.waiting)
            speaking = self._protocol.speaking
            if unsent or speaking or not self._protocol.settled:
                quiet_since_ns = None
                if speaking and not unsent and not hushed:
                    # Nobody will speak on, and without silence the service waits for ever.
                    hushed = True
                    self._performed(self._protocol.end_of_speech(), now_ns)
                await emit.until(limit_ns)
            elif quiet_since_ns is None:
                quiet_since_ns = now_ns
            elif now_ns >= quiet_since_ns + grace_ns:
                return
            else:
                await emit.until(quiet_since_ns + grace_ns)
        await self._out(self._problem("unfinished", "the last answer did not end in time"), emit)

    # --- what the protocol says ---

    def _performed(self, outputs: list[Output], at_ns: int) -> list[Made]:
        """Do what the protocol says; what is to be emitted is given back, in order."""
        frames: list[Made] = []
        for output in outputs:
            match output:
                case Send(event):
                    self._send(event, at_ns)
                case OpenTurn(response_id):
                    frames.append(self._open_turn(response_id, at_ns))
                case ResponseEnded():
                    self._report.response_ended(output.response_id, output.late_ms, at_ns)
                case Fail():
                    self._failure = self._refusal(output)
                case Updated(name) | BesideDone(name):
                    self._give(name, output)
                case Retrieved(item_id):
                    self._give(f"retrieve-{item_id}", output)
                case ToolCall():
                    frames.append(output)
                    self._call_tool(output)
                case _:
                    frames.append(self._noted(output))
        frames += self._report.finished()
        self._changed()
        return [] if self._over else frames

    def _send(self, event: wire.ClientEvent, at_ns: int) -> None:
        if isinstance(event, wire.InputAudioBufferAppend):
            self._appends.append(event)
        else:
            self._orders.append(event)
        if isinstance(event, wire.ResponseCancel) and event.response_id is not None:
            self._report.cancel_sent(event.response_id, at_ns)
        elif isinstance(event, wire.ConversationItemTruncate):
            self._report.truncate_sent(event.item_id, event.content_index, event.audio_end_ms)
        self._something_to_send.ring()

    def _open_turn(self, response_id: str, at_ns: int) -> ReplyPending:
        assert self._emit is not None, "a server is heard in run only"
        turn = self._emit.new_turn()
        self._protocol.turn_opened(response_id, turn)
        return ReplyPending(turn=turn, at_ns=at_ns)

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
            _log.warning("Realtime: %s: %s", frame.code, self._without_key(frame.message))
            return evolve(frame, message=self._without_key(frame.message))
        return frame

    async def _out(self, frame: Made, emit: Emit[Made]) -> None:
        while True:
            try:
                emit(frame)
            except MailboxFull:
                # Only with a slow async stage below and no Playout, which takes all there is.
                await emit.room()
            else:
                return

    # --- who waits, and tools ---

    def _perform_from_outside(self, outputs: list[Output], at_ns: int) -> None:
        """Do what a method that no frame called wants: only sends."""
        for frame in self._performed(outputs, at_ns):
            if self._emit is not None:
                self._emit(frame)

    async def _answer(self, name: str, outputs: list[Output]) -> Updated | Retrieved | BesideDone:
        answer = self._answers.setdefault(name, _Answer())
        self._perform_from_outside(outputs, self._now_ns())
        try:
            value = await answer.wait()
        finally:
            self._answers.pop(name, None)
        if value is None:
            raise TransportBroken("the call ended before the service answered")
        return value

    def _give(self, name: str, value: Updated | Retrieved | BesideDone) -> None:
        answer = self._answers.get(name)
        if answer is not None:
            answer.give(value)

    def _call_tool(self, call: ToolCall) -> None:
        assert self._tasks is not None, "a server is heard in run only"
        if call.name in self._tools or call.name not in self._declared():
            self._tasks.start_soon(self._run_tool, call, name=f"tool {call.name}")

    async def _run_tool(self, call: ToolCall) -> None:
        tool = self._tools.get(call.name)
        outcome = (
            failed(f"there is no tool named {call.name}")
            if tool is None
            else await run_tool(tool, call.arguments)
        )
        await self._tell(call, outcome)

    async def _tell(self, call: ToolCall, outcome: Outcome) -> None:
        assert self._emit is not None, "a tool runs in run only"
        at_ns = self._emit.now_ns()
        error = None if outcome.error is None else self._without_key(outcome.error)
        result = ToolResult(
            call_id=call.call_id,
            name=call.name,
            output=self._without_key(outcome.output),
            error=error,
            at_ns=at_ns,
        )
        outputs = self._protocol.answer_call(call.call_id, result.output, at_ns)
        for frame in (result, *self._performed(outputs, at_ns)):
            await self._out(frame, self._emit)

    def _declared(self) -> set[str]:
        """Tools that the application answers by frames."""
        tools = self._protocol.session.tools
        return {str(tool.get("name")) for tool in tools} if isinstance(tools, list) else set()

    # --- small things ---

    def _changed(self) -> None:
        self._something_changed.ring()
        self._something_to_send.ring()
        if self._emit is not None and not self._over:
            self._emit.wake()

    def _now_ns(self) -> int:
        return 0 if self._emit is None else self._emit.now_ns()

    def _wire(self, session: SessionSettings) -> wire.Session:
        ours = tuple(tool.wire for tool in self._tools.values())
        return evolve(session, tools=(*session.tools, *ours)).wire(self._owner)

    def _count(self, **more: int) -> None:
        now = {name: getattr(self._statistics, name) + n for name, n in more.items()}
        self._statistics = evolve(self._statistics, **now)

    def _keys(self) -> tuple[str | None, ...]:
        return self._key, os.environ.get(key_variable(self._url))

    def _headers(self) -> Mapping[str, str]:
        key = self._key or os.environ.get(key_variable(self._url))
        if not key and self._connect is connect_socket and not is_loopback(self._url):
            variable = key_variable(self._url)
            raise LocalProtocolError(
                f"no key for {_host(self._url)}: set {variable} or give Realtime(key=…)"
            )
        return headers(self._url, key)

    def _without_key(self, text: str) -> str:
        return without_key(text, *self._keys())

    def _problem(self, code: str, message: str) -> Problem:
        message = self._without_key(message)
        _log.warning("Realtime: %s: %s", code, message)
        return Problem(where="realtime", code=code, message=message, at_ns=self._now_ns())

    def _refusal(self, fail: Fail) -> FramepipeError:
        said = self._without_key(f"{fail.code}: {fail.message}")
        if fail.error_class == "reconnect":
            return TransportBroken(f"the service ended the session: {said}")
        return RemoteProtocolError(f"the service refuses to go on: {said}")


class _RenewalDueError(FramepipeError):
    """Not an error to anybody else: the session ends now, on purpose."""


class _Answer:
    """What somebody waits for; given once."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._value: Updated | Retrieved | BesideDone | None = None

    def give(self, value: Updated | Retrieved | BesideDone | None) -> None:
        self._value = self._value or value
        self._event.set()

    async def wait(self) -> Updated | Retrieved | BesideDone | None:
        await self._event.wait()
        return self._value


class _Bell:
    """Wakes one waiter; works, silently, where nobody waits and no loop runs."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        if self._event is not None:
            self._event.set()

    async def wait(self) -> None:
        self._event = anyio.Event()
        await self._event.wait()
        self._event = None


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2] or url


def _first(group: BaseExceptionGroup[BaseException]) -> FramepipeError | None:
    """The first error of a group that holds none but ours."""
    first: FramepipeError | None = None
    for member in group.exceptions:
        error: BaseException | None = member
        if isinstance(member, BaseExceptionGroup):
            error = _first(cast("BaseExceptionGroup[BaseException]", member))
        if not isinstance(error, FramepipeError):
            return None
        first = first or error
    return first
