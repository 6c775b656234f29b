"""The sockets of one call, one after the other: the shell around the client's protocol.

Three lanes lead to a socket. Orders (a truncate, a cancel, a create) go first and in their own
order; microphone audio waits behind them in a ring, and is encoded only when it is its turn, so
that a socket that is stuck costs the oldest audio (it becomes silence of the same length) and no
more. A commit by hand is about the audio before it, so it goes behind all of it. The socket is
always read: what the service says about the user must not wait behind what it says itself.

When a socket is lost there is a new `ClientProtocol` at once: what the pipeline decides meanwhile
is kept by it, and the ring begins again where the service may lack something. A session is
renewed before it expires.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

import anyio

from framepipe.errors import (
    FramepipeError,
    LocalProtocolError,
    MailboxFull,
    ProtocolError,
    TransportBroken,
)
from framepipe.frames import NS_PER_S, SAMPLE_BYTES, AudioIn, ConnectionState, Frame
from framepipe.processor import Emit
from framepipe.realtime import events as wire
from framepipe.realtime.address import ServiceAddress
from framepipe.realtime.client_outputs import Output, problem
from framepipe.realtime.client_protocol import ClientProtocol, Leftover
from framepipe.realtime.connection import (
    OPEN_TIMEOUT_S,
    Connect,
    Connection,
    HandshakeRefused,
    is_loopback,
)
from framepipe.realtime.connection import connect as connect_socket
from framepipe.realtime.mic_ring import MicRing
from framepipe.realtime.reconnect import Retries
from framepipe.realtime.waiting import Bell

FINISH_LIMIT_NS: Final = 30 * NS_PER_S
"""How long the end of the call waits for the answer to the last words. Generation is several
times faster than speech, so this is minutes of it."""

SESSION_LIMIT_S: Final = 3_600
"""How long the service keeps a session that does not say when it expires."""

RENEW_EARLY_S: Final = 120
"""How long before its end a session is renewed, at the first moment between two turns."""

RENEW_AT_LAST_S: Final = 10
"""How long before its end it is renewed even if somebody speaks."""

NO_UNDO: Final = "transcription is off, so a cut that was none cannot be undone"
"""Said when a session opens: the verdict between a word and an "mm-hm" needs the text."""

Perform: TypeAlias = Callable[[list[Output], int], Iterable[Frame]]
"""Does what the protocol says, at a time; gives back what is to be emitted, in order."""


class ClientSockets:
    """Carries one call over as many sockets as it takes.

    Args:
        address: Where the service is.
        session: What the session shall be.
        rate_hz: The microphone's.
        connect: Makes a connection from a URL and headers.
        retries: When a lost connection is tried again.
        unix_s: The time of day, in which the service says when a session expires.
        perform: Does what the protocol says.
        appended: Is told the start and the number of the samples that the service is sent.
        lost: Is told that a socket is gone, before what it leaves is performed.
        has_effects: Whether a tool changes something in the world, by its name.

    Attributes:
        protocol: Of the present socket, or of the next one.
        ring: The microphone audio that is kept.
        over: The call has ended; nothing is sent or emitted any more.
    """

    def __init__(
        self,
        address: ServiceAddress,
        session: wire.Session,
        rate_hz: int,
        *,
        connect: Connect,
        retries: Retries,
        unix_s: Callable[[], float] = time.time,
        perform: Perform,
        appended: Callable[[int, int], None],
        lost: Callable[[], None],
        has_effects: Callable[[str], bool],
    ) -> None:
        self.ring = MicRing(rate_hz)
        self._rate_hz = rate_hz
        self._has_effects = has_effects
        self.protocol = self._new_protocol(session, None)
        self._address = address
        self._connect = connect
        self._retries = retries
        self._unix_s = unix_s
        self._perform = perform
        self._appended = appended
        self._lost = lost
        self._emit: Emit[Any] | None = None
        self._orders: deque[wire.ClientEvent] = deque()
        self._appends: deque[wire.ClientEvent] = deque()
        self._after_audio: deque[wire.ClientEvent] = deque()
        self._failure: FramepipeError | None = None
        self._something_to_send = Bell()
        self._something_changed = Bell()
        self._microphone_gone = Bell()
        self._was_open = False
        self._ending = False
        self.over = False

    # --- from the stage ---

    def attach(self, emit: Emit[Any]) -> None:
        """Keep what the engine lends."""
        self._emit = emit

    def hear(self, frame: AudioIn) -> None:
        """Microphone audio waits for the socket."""
        self.ring.put(frame)
        self._something_to_send.ring()

    def send(self, event: wire.ClientEvent) -> None:
        """An event waits in its lane."""
        if isinstance(event, wire.InputAudioBufferAppend):
            self._appends.append(event)
        elif isinstance(event, wire.InputAudioBufferCommit | wire.InputAudioBufferClear):
            self._after_audio.append(event)
        else:
            self._orders.append(event)
        self._something_to_send.ring()

    def fail(self, error: FramepipeError) -> None:
        """The session cannot go on; it ends when the event in hand is dealt with."""
        self._failure = error

    def end(self) -> None:
        """The microphone is gone: `run` finishes what is owed."""
        self._ending = True
        self._microphone_gone.ring()
        self.changed()

    def changed(self) -> None:
        """The protocol knows something new: deadlines and the end are looked at again."""
        self._something_changed.ring()
        self._something_to_send.ring()
        if self._emit is not None and not self.over:
            self._emit.wake()

    async def out(self, frame: Frame) -> None:
        """Emit a frame from one of the tasks of the call."""
        assert self._emit is not None, "frames leave in run only"
        while True:
            try:
                self._emit(frame)
            except MailboxFull:
                # Only with a slow async stage below and no Playout, which takes all there is.
                await self._emit.room()
            else:
                return

    # --- the call ---

    async def run(self, emit: Emit[Any]) -> None:
        """Hold the session until the call ends. Cancellation closes the connection.

        Raises:
            TransportBroken: There is no connection, or not any more.
            RemoteProtocolError: The service will not serve us.
            LocalProtocolError: There is no key.
        """
        self._emit = emit
        emit(ConnectionState(state="connecting", at_ns=emit.now_ns()))
        while True:
            try:
                await self._one_session(emit)
                break
            except TransportBroken as error:
                due_ns = self._next_try(error, emit.now_ns())
                if due_ns is None:
                    raise
                why = self._address.without_key(str(error))
            except _RenewalDueError as error:
                due_ns, why = emit.now_ns(), str(error)
            await self._move_on(why, emit)
            if self._ending and self.protocol.settled:
                await self._tell_unheard(emit.now_ns())
                break
            while not await emit.until(due_ns):
                pass

    async def _one_session(self, emit: Emit[Any]) -> None:
        try:
            async with (
                self._connect(self._address.url, self._headers()) as connection,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._read, connection, emit, name="Realtime reader")
                tasks.start_soon(self._write, connection, emit, name="Realtime writer")
                tasks.start_soon(self._keep_time, emit, name="Realtime clock")
                await self._greeted(emit)
                self._was_open = True
                self._retries.opened(emit.now_ns())
                tasks.start_soon(self._renew_in_time, emit, name="Realtime renewal")
                told = self.protocol.transcribes
                reason = "" if told else NO_UNDO
                emit(
                    ConnectionState(
                        state="open", reason=reason, transcripts=told, at_ns=emit.now_ns()
                    )
                )
                await self._finished(emit)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # These tasks, and a connection's own, share one fate: the first error caused the rest.
            raise only_ours(group) or group from None

    def _next_try(self, error: TransportBroken, at_ns: int) -> int | None:
        comes_back = False
        if isinstance(error, HandshakeRefused):
            if error.is_final:
                return None
            comes_back = error.status >= 400  # 200 is a web page, 302 leads elsewhere
        if not (self._was_open or comes_back):
            return None  # who begins a call is still there to read what is wrong
        return self._retries.failed(at_ns)

    async def _move_on(self, why: str, emit: Emit[Any]) -> None:
        """Leave a lost socket behind."""
        at_ns = emit.now_ns()
        outputs, leftover = self.protocol.hand_over(at_ns)
        self.protocol = self._new_protocol(self.protocol.session, leftover)
        self._orders.clear()
        self._appends.clear()
        self._after_audio.clear()
        self._failure = None
        self._lost()
        frames = self._perform(outputs, at_ns)
        self.ring.rewind(leftover.resume_sample)
        for frame in frames:
            await self.out(frame)
        emit(ConnectionState(state="reconnecting", reason=why, at_ns=emit.now_ns()))

    async def _tell_unheard(self, at_ns: int) -> None:
        """The call is over without a socket: no service need have heard the end of it."""
        ms = self.ring.waiting_samples * 1_000 / self._rate_hz
        if ms:
            why = "the connection was lost, and the call over before there was another"
            lost = problem("audio_lost", f"{ms:g} ms of microphone audio: {why}", at_ns)
            for frame in self._perform([lost], at_ns):
                await self.out(frame)

    async def _renew_in_time(self, emit: Emit[Any]) -> None:
        """End the session before the service does, where that disturbs nobody."""
        told = self.protocol.session_told
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
    def _is_unsent(self) -> bool:
        lanes = self._orders or self._appends or self._after_audio
        return bool(lanes or self.ring.waiting)

    @property
    def _is_between_turns(self) -> bool:
        return self.protocol.settled and not self.protocol.speaking

    async def _read(self, connection: Connection, emit: Emit[Any]) -> None:
        while True:
            try:
                event = wire.decode_server(await connection.receive())
            except ProtocolError as error:
                at_ns = emit.now_ns()
                outputs: list[Output] = [problem("malformed_event", str(error), at_ns)]
            else:
                at_ns = emit.now_ns()
                outputs = self.protocol.receive(event, at_ns)
            for frame in self._perform(outputs, at_ns):
                await self.out(frame)
            if self._failure is not None:
                raise self._failure

    async def _write(self, connection: Connection, emit: Emit[Any]) -> None:
        while True:
            lane = self._orders or self._appends
            if lane:
                await connection.send(wire.encode(lane[0]))
                lane.popleft()
            elif self.ring.waiting and self.protocol.ready:
                at_ns = emit.now_ns()
                start_sample, pcm = self.ring.take()
                self._appended(start_sample, len(pcm) // SAMPLE_BYTES)
                outputs = self.protocol.append(start_sample, pcm)
                for told in self._perform(outputs, at_ns):
                    await self.out(told)
            elif self._after_audio:
                await connection.send(wire.encode(self._after_audio[0]))
                self._after_audio.popleft()
            else:
                if self._ending:
                    self.changed()
                await self._something_to_send.wait()

    async def _keep_time(self, emit: Emit[Any]) -> None:
        while True:
            deadline_ns = self.protocol.deadline_ns
            if deadline_ns is None:
                await self._something_changed.wait()
            elif await emit.until(deadline_ns):
                at_ns = emit.now_ns()
                for frame in self._perform(self.protocol.advance(at_ns), at_ns):
                    await self.out(frame)

    async def _greeted(self, emit: Emit[Any]) -> None:
        limit_ns = emit.now_ns() + round(OPEN_TIMEOUT_S * NS_PER_S)
        while not self.protocol.ready:
            if await emit.until(limit_ns):
                raise TransportBroken(
                    f"{self._address.host}: it opened the connection and said nothing for "
                    f"{OPEN_TIMEOUT_S:g} s; a Realtime server greets with session.created"
                )

    async def _finished(self, emit: Emit[Any]) -> None:
        """Wait for the end of the call, and then for the answer to the last words."""
        if not self._ending:
            await self._microphone_gone.wait()
        limit_ns = emit.now_ns() + FINISH_LIMIT_NS
        # What the service makes of the last audio is on its way for a round trip.
        grace_ns = 2 * self.protocol.patience_ns
        quiet_since_ns: int | None = None
        hushed = False
        while (now_ns := emit.now_ns()) < limit_ns:
            unsent = self._is_unsent
            speaking = self.protocol.speaking
            if unsent or speaking or not self.protocol.settled:
                quiet_since_ns = None
                if speaking and not unsent and not hushed:
                    # Nobody will speak on, and without silence the service waits for ever.
                    hushed = True
                    self._perform(self.protocol.end_of_speech(), now_ns)
                await emit.until(limit_ns)
            elif quiet_since_ns is None:
                quiet_since_ns = now_ns
            elif now_ns >= quiet_since_ns + grace_ns:
                return
            else:
                await emit.until(quiet_since_ns + grace_ns)
        late = problem("unfinished", "the last answer did not end in time", emit.now_ns())
        for frame in self._perform([late], emit.now_ns()):
            await self.out(frame)

    def _new_protocol(self, session: wire.Session, leftover: Leftover | None) -> ClientProtocol:
        return ClientProtocol(
            session,
            leftover=leftover,
            audio_between=self.ring.between,
            has_effects=self._has_effects,
        )

    def _headers(self) -> Mapping[str, str]:
        keyless = self._connect is not connect_socket or is_loopback(self._address.url)
        if not keyless and not self._address.has_key:
            raise LocalProtocolError(
                f"no key for {self._address.host}: set {self._address.variable} or give "
                "Realtime(key=…)"
            )
        return self._address.headers


class _RenewalDueError(FramepipeError):
    """Not an error to anybody else: the session ends now, on purpose."""


def only_ours(group: BaseExceptionGroup[BaseException]) -> FramepipeError | None:
    """The first error of a group that holds none but ours."""
    first: FramepipeError | None = None
    for member in group.exceptions:
        error: BaseException | None = member
        if isinstance(member, BaseExceptionGroup):
            error = only_ours(cast("BaseExceptionGroup[BaseException]", member))
        if not isinstance(error, FramepipeError):
            return None
        first = first or error
    return first
