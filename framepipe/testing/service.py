"""A Realtime service that is a script of yours: what it says, and when, and what it was told.

The embedded server (`framepipe.realtime.server`) behaves as the service does. This one behaves as
you write it, also in ways in which no service should: for tests of what a client makes of it.

    async def script(service: ScriptedService) -> None:
        await service.greet()
        await service.user_turn(500, 1_500)
        await service.begin("R1")
        await service.speak("R1", ms=200)
        await service.hang_up()

    service = ScriptedService(script)
    pipeline = Pipeline(ScriptedUser(Pause(3_000)), Realtime(connect=service.connect), ...)

It works over memory, in virtual time, and its script is played anew on every connection.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import anyio

from framepipe.errors import TransportBroken
from framepipe.realtime import events as wire
from framepipe.realtime.connection import Connection, memory_pair

_Event = TypeVar("_Event")

_BYTES_PER_MS = 48


class ScriptedService:
    """The other end of the wire.

    Args:
        script: What it does on each connection. A client that leaves ends it; any other
            exception goes to whoever opened the connection.

    Attributes:
        got: Events of the client on the newest connection, as far as the script has read.
        got_on: The same for every connection.
        audio_ms: Microphone audio on the newest connection, in milliseconds.
        url: With which the client asked.
        headers: With which the client asked.
        n_sockets: Connections so far.
        connection: The server's side of the newest one.
    """

    def __init__(self, script: Callable[[ScriptedService], Awaitable[None]]) -> None:
        self.script = script
        self.got: list[wire.ClientEvent] = []
        self.got_on: list[list[wire.ClientEvent]] = []
        self.audio_ms = 0
        self.url = ""
        self.n_sockets = 0
        self.headers: Mapping[str, str] = {}
        self.connection: Connection

    @asynccontextmanager
    async def connect(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncGenerator[Connection, None]:
        """Connect to it, as `framepipe.realtime.connection.connect` does.

        Args:
            url: Kept in ``url``.
            headers: Kept in ``headers``.
        """
        self.url, self.headers = url, headers
        ours, theirs = memory_pair()
        self.n_sockets += 1
        self.audio_ms = 0
        self.got = []
        self.got_on.append(self.got)
        self.connection = theirs
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._play)
            try:
                yield ours
            finally:
                await ours.aclose()
                tasks.cancel_scope.cancel()
        await theirs.aclose()

    async def _play(self) -> None:
        with suppress(TransportBroken):  # the client has left
            await self.script(self)

    # --- what a script may say ------------------------------------------------------------------

    async def send(self, *events: wire.ServerEvent) -> None:
        """Send events as they are."""
        for event in events:
            await self.connection.send(wire.encode(event))

    async def greet(self) -> None:
        """Open the session, and agree to whatever the client wants."""
        await self.send(wire.SessionCreated(session=wire.Session()))
        update = await self.until(wire.SessionUpdate)
        await self.send(wire.SessionUpdated(session=update.session))

    async def until(self, kind: type[_Event], audio_ms: int = 0) -> _Event:
        """Read until an event of a type, and until so much audio has come.

        Args:
            kind: A class of `framepipe.realtime.events`.
            audio_ms: Microphone audio since the connection was made, in milliseconds.

        Returns:
            The event.
        """
        while True:
            event = wire.decode_client(await self.connection.receive())
            self.got.append(event)
            if isinstance(event, wire.InputAudioBufferAppend):
                self.audio_ms += len(wire.decode_audio(event.audio)) // _BYTES_PER_MS
            if isinstance(event, kind) and self.audio_ms >= audio_ms:
                return event

    async def read_on(self) -> None:
        """Read for as long as the client is there."""
        await self.until(wire.OutputAudioBufferClear)  # which never comes

    async def user_turn(self, start_ms: int, end_ms: int, item_id: str = "U1") -> None:
        """Hear a turn of the user: started, stopped, committed.

        Args:
            start_ms: Where the speech begins on the connection's audio.
            end_ms: Where it ends.
            item_id: The item that it becomes.
        """
        await self.until(wire.InputAudioBufferAppend, audio_ms=start_ms + 100)
        await self.send(
            wire.InputAudioBufferSpeechStarted(item_id=item_id, audio_start_ms=start_ms - 300)
        )
        await self.until(wire.InputAudioBufferAppend, audio_ms=end_ms + 500)
        await self.send(
            wire.InputAudioBufferSpeechStopped(item_id=item_id, audio_end_ms=end_ms + 500),
            wire.InputAudioBufferCommitted(item_id=item_id),
        )

    async def begin(self, response_id: str, **metadata: str) -> None:
        """Begin a response."""
        response = wire.Response(id=response_id, conversation_id="c", metadata=metadata or None)
        await self.send(wire.ResponseCreated(response=response))

    async def speak(self, response_id: str, ms: int = 200) -> None:
        """Send a delta of silence of the response's only item, ``A-`` and its id."""
        await self.send(
            wire.ResponseOutputAudioDelta(
                response_id=response_id,
                item_id=f"A-{response_id}",
                delta=wire.encode_audio(bytes(ms * _BYTES_PER_MS)),
            )
        )

    async def finish(self, response_id: str, status: str = "completed") -> None:
        """End a response."""
        response = wire.Response(id=response_id, status=status, conversation_id="c")
        await self.send(wire.ResponseDone(response=response))

    async def hang_up(self, code: int = 1001) -> None:
        """Close the connection from this side."""
        await self.connection.aclose(code, "on purpose")
