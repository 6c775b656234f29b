"""A speech model behind the OpenAI Realtime protocol, as one stage.

The decisions are in `framepipe.realtime.client_protocol`; this is the shell: it connects, reads,
writes, keeps the time, and performs what the protocol says.

Two lanes lead to the socket. Orders (a truncate, a cancel, a create) go first and in their own
order; microphone audio waits behind them, and is encoded only when it is its turn, so that a
socket that is stuck costs the oldest audio (it becomes silence of the same length) and no more.
The socket is always read: what the service says about the user must not wait behind what it
says itself.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import ClassVar, Final, TypeAlias, cast
from urllib.parse import urlencode, urlsplit, urlunsplit

import anyio

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
    SpeechStarted,
    SpeechStopped,
    Swallow,
    TextOut,
    Transcript,
    Usage,
    evolve,
)
from framepipe.processor import Emit, on
from framepipe.realtime import events as wire
from framepipe.realtime.client_protocol import (
    ClientProtocol,
    Fail,
    OpenTurn,
    Output,
    ResponseEnded,
    Send,
    Told,
)
from framepipe.realtime.connection import OPEN_TIMEOUT_S, Connect, Connection, is_loopback
from framepipe.realtime.connection import connect as connect_socket
from framepipe.realtime.session import Owner, SessionSettings

_log: Final = logging.getLogger("framepipe")

OPENAI_URL: Final = "wss://api.openai.com/v1/realtime"
"""Where the service is, unless the caller says otherwise."""

OPENAI_MODEL: Final = "gpt-realtime-2.1"
"""The current speech model, November 2026."""

KEY_VARIABLE: Final = "OPENAI_API_KEY"
"""Where the key is looked for."""

RATE_HZ: Final = 24_000
"""Samples per second in both directions."""

MIC_CAPACITY_S: Final = 30
"""Microphone audio that waits for a slow socket; the oldest is shed beyond it."""

FINISH_LIMIT_NS: Final = 30 * NS_PER_S
"""How long the end of the call waits for the answer to the last words. Generation is several
times faster than speech, so this is minutes of it."""

Made: TypeAlias = (
    AudioOut
    | AudioDone
    | TextOut
    | Transcript
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


class Realtime:
    """Talk with a speech model over the Realtime protocol.

    Takes 24 kHz mono microphone audio and makes the agent's: `AudioOut` and `AudioDone` in turns
    of its own, each announced by `ReplyPending`; the service's `SpeechStarted` and
    `SpeechStopped`; `Transcript`, `Usage`, `Problem`, `ConnectionState`, `InterruptionReport`.
    On an `Interrupt` it truncates what was not heard and cancels. At the end of the call it
    finishes the answer that is owed, then closes.

    Args:
        session: What the session shall be.
        url: Where the service is; ``wss://…`` or ``ws://…``.
        model: Goes into the URL, unless that names one.
        key: The service's key; ``None`` takes it from ``OPENAI_API_KEY``. A server on this
            machine, or a ``connect`` of your own, needs none.
        owner: Who decides that the agent is interrupted; "client" tells the service not to.
        connect: Makes the connection from a URL and headers.

    Raises:
        LocalProtocolError: A coding of audio that this stage does not speak.
    """

    rates_hz: ClassVar[dict[type[AudioIn], int]] = {AudioIn: RATE_HZ}

    def __init__(
        self,
        session: SessionSettings = SessionSettings(),  # noqa: B008 - frozen
        *,
        url: str = OPENAI_URL,
        model: str = OPENAI_MODEL,
        key: str | None = None,
        owner: Owner = "client",
        connect: Connect = connect_socket,
    ) -> None:
        for name, coding in (
            ("input_format", session.input_format),
            ("output_format", session.output_format),
        ):
            if coding != "audio/pcm":
                raise LocalProtocolError(
                    f"{name} is {coding!r}; Realtime speaks audio/pcm at {RATE_HZ} Hz only"
                )
        self._url = _with_model(url, model)
        self._key = key
        self._owner: Owner = owner
        self._connect = connect
        self._protocol = ClientProtocol(session.wire(owner))
        self._report = InterruptionLog()
        self._emit: Emit[Made] | None = None
        self._orders: deque[wire.ClientEvent] = deque()
        self._appends: deque[wire.ClientEvent] = deque()
        self._mic: deque[AudioIn] = deque()
        self._mic_samples = 0
        self._failure: FramepipeError | None = None
        self._something_to_send = _Bell()
        self._something_changed = _Bell()
        self._microphone_gone = _Bell()
        self._ending = False
        self._over = False

    def __repr__(self) -> str:
        return f"Realtime(url={self._url!r}, owner={self._owner!r})"

    def attach(self, emit: Emit[Made]) -> None:
        """Keep what the engine lends."""
        self._emit = emit

    # --- from above ---

    @on(AudioIn)
    def hear(self, frame: AudioIn) -> None:
        """Microphone audio waits for the socket.

        Raises:
            FrameError: It is not 24 kHz mono.
        """
        if frame.rate_hz != RATE_HZ or frame.channels != 1:
            raise FrameError(
                f"microphone audio has {frame.rate_hz} Hz and {frame.channels} channels; Realtime "
                f"takes {RATE_HZ} Hz mono: put Resample({RATE_HZ}) before it"
            )
        self._report.audio_in(frame)
        if self._over:
            return
        self._mic.append(frame)
        self._mic_samples += frame.n_samples
        while self._mic_samples > MIC_CAPACITY_S * RATE_HZ and len(self._mic) > 1:
            # What is shed leaves a gap, and a gap is sent as silence and reported.
            self._mic_samples -= self._mic.popleft().n_samples
        self._something_to_send.ring()

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

    # --- the stage's own life ---

    async def run(self, emit: Emit[Made]) -> None:
        """Hold the session until the call ends.

        Cancellation closes the connection; an unfinished answer is lost.

        Raises:
            TransportBroken: There is no connection, or not any more.
            RemoteProtocolError: The service will not serve us.
            LocalProtocolError: There is no key.
        """
        self._emit = emit
        try:
            await self._one_session(emit)
        finally:
            self._over = True

    async def _one_session(self, emit: Emit[Made]) -> None:
        emit(ConnectionState(state="connecting", at_ns=emit.now_ns()))
        async with self._connect(self._url, self._headers()) as connection:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read, connection, emit, name="Realtime reader")
                    tasks.start_soon(self._write, connection, emit, name="Realtime writer")
                    tasks.start_soon(self._keep_time, emit, name="Realtime clock")
                    await self._greeted(emit)
                    emit(ConnectionState(state="open", at_ns=emit.now_ns()))
                    await self._finished(emit)
                    tasks.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                # Three tasks share one fate; the first error is the cause of the others.
                error = _first(group)
                if error is None:
                    raise
                raise error from None
        for report in self._report.close():
            emit(report)
        emit(ConnectionState(state="closed", reason="the call ended", at_ns=emit.now_ns()))

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
            elif self._mic and self._protocol.ready:
                frame = self._mic.popleft()
                self._mic_samples -= frame.n_samples
                at_ns = emit.now_ns()
                outputs = self._protocol.append(frame.start_sample, frame.pcm_bytes())
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
            unsent = bool(self._orders or self._appends or self._mic)
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

    # --- small things ---

    def _changed(self) -> None:
        self._something_changed.ring()
        self._something_to_send.ring()
        if self._emit is not None and not self._over:
            self._emit.wake()

    def _now_ns(self) -> int:
        return 0 if self._emit is None else self._emit.now_ns()

    def _headers(self) -> dict[str, str]:
        key = self._key or os.environ.get(KEY_VARIABLE)
        if key:
            return {"Authorization": f"Bearer {key}"}
        if self._connect is connect_socket and not is_loopback(self._url):
            raise LocalProtocolError(
                f"no key for {_host(self._url)}: set {KEY_VARIABLE} or give Realtime(key=…)"
            )
        return {}

    def _without_key(self, text: str) -> str:
        for key in (self._key, os.environ.get(KEY_VARIABLE)):
            if key:
                text = text.replace(key, "…")
        return text

    def _problem(self, code: str, message: str) -> Problem:
        message = self._without_key(message)
        _log.warning("Realtime: %s: %s", code, message)
        return Problem(where="realtime", code=code, message=message, at_ns=self._now_ns())

    def _refusal(self, fail: Fail) -> FramepipeError:
        said = self._without_key(f"{fail.code}: {fail.message}")
        if fail.error_class == "reconnect":
            return TransportBroken(f"the service ended the session: {said}")
        return RemoteProtocolError(f"the service refuses to go on: {said}")


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


def _with_model(url: str, model: str) -> str:
    parts = urlsplit(url)
    if "model=" in parts.query or not model:
        return url
    query = "&".join(filter(None, (parts.query, urlencode({"model": model}))))
    return urlunsplit(parts._replace(query=query))


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
