"""The server half of the Realtime protocol: one session, decided without a socket or a clock.

Theory of operation. Client events go in with the time at which they came; server events come out
with the time at which they leave. What the session will do later (the next delta of an answer,
the end of one that was cancelled, a transcript) stands on its agenda; `deadline_ns` says when
`ServerProtocol.advance` has something to do. Nothing ticks: between a client's event and a
deadline nothing changes.

The user's side (`server_hearing`) runs on audio time, the agent's (`server_responses`) on the
clock. They know nothing of each other and meet here, where speech cancels a response and where
the end of a turn creates one. What was said is in `server_conversation`.

Whatever a client sends, it hears of it by an ``error`` event and the session goes on. Only a mind
that raises ends it.

Source: realtime reference, sections 1.3 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from attrs import frozen

from framepipe.frames import NS_PER_S
from framepipe.realtime.answer_plan import Pace
from framepipe.realtime.events import (
    CLIENT_EVENT_TYPES,
    ConversationItemAdded,
    ConversationItemCreate,
    ConversationItemDelete,
    ConversationItemDeleted,
    ConversationItemDone,
    ConversationItemRetrieve,
    ConversationItemRetrieved,
    ConversationItemTruncate,
    ConversationItemTruncated,
    ErrorDetail,
    InputAudioBufferAppend,
    InputAudioBufferClear,
    InputAudioBufferCommit,
    Json,
    KnownClientEvent,
    MalformedEventError,
    OutputAudioBufferClear,
    ResponseCancel,
    ResponseCreate,
    ResponseParams,
    SessionCreated,
    SessionUpdate,
    SessionUpdated,
    UnknownEvent,
    decode_client,
)
from framepipe.realtime.mind import Ears, Mind
from framepipe.realtime.refusals import RefusedError, invalid_value
from framepipe.realtime.server_agenda import Agenda, Sent
from framepipe.realtime.server_conversation import BYTES_PER_MS, ServerConversation
from framepipe.realtime.server_hearing import ServerHearing
from framepipe.realtime.server_mcp import McpListings
from framepipe.realtime.server_responses import ServerResponses
from framepipe.realtime.server_session import (
    SESSION_LIMIT_S,
    check_names,
    default_session,
    shown,
    transcription_session,
    updated,
)
from framepipe.realtime.server_vad import SpeechDetector
from framepipe.realtime.speech import Voice


@frozen(kw_only=True)
class ConnectionEnd:
    """The session is over: close the connection.

    Attributes:
        code: WebSocket close code.
        reason: For the peer.
    """

    code: int
    reason: str


@frozen(kw_only=True)
class Truncation:
    """A truncate that was done, for those who check what a client did.

    Attributes:
        item_id: The item.
        content_index: Its part.
        audio_end_ms: Where it was cut.
        received_ms: How much of it the server had made until then.
        at_ns: When.
    """

    item_id: str
    content_index: int
    audio_end_ms: int
    received_ms: int
    at_ns: int


class ServerProtocol:
    """One session of the embedded server.

    Args:
        mind: What it answers.
        voice: How that sounds.
        detector: Judges the user's audio, 32 ms at a time. It belongs to this session.
        ears: The user's words; without them a transcript says that there was speech.
        pace: How fast it answers and stops.
        model: As in the URL.
        seed: Two sessions with the same seed and the same input do the same.
        started_unix_s: Wall clock at the beginning, told in ``expires_at``.
        limit_s: Length after which the session ends itself, in seconds.
        transcribes_only: It hears and writes, and answers nothing.
        mcp_servers: The tools of MCP servers, by label; others cannot be reached.

    Attributes:
        session: The settings as they are.
        truncations: Every truncate that was done, in order.
        ended: Set when the session is over; the events before it are still to be sent.
    """

    def __init__(
        self,
        *,
        mind: Mind,
        voice: Voice,
        detector: SpeechDetector,
        ears: Ears | None = None,
        pace: Pace | None = None,
        model: str = "gpt-realtime-2.1",
        seed: int = 0,
        started_unix_s: int = 0,
        limit_s: float = SESSION_LIMIT_S,
        transcribes_only: bool = False,
        mcp_servers: Mapping[str, Sequence[dict[str, Json]]] | None = None,
    ) -> None:
        self._limit_s = limit_s
        self._agenda = Agenda(seed)
        begin = transcription_session if transcribes_only else default_session
        self.session = begin(
            session_id=self._agenda.new_id("sess"),
            model=model,
            expires_at=started_unix_s + round(limit_s),
        )
        conversation_id = self._agenda.new_id("conv")
        self.conversation = ServerConversation(self._agenda.new_id)
        self.truncations: list[Truncation] = []
        self.ended: ConnectionEnd | None = None
        self._hearing = ServerHearing(
            self._agenda,
            self.conversation,
            detector,
            ears,
            self.session,
            speech_began=lambda: self._responses.cancel_for_speech(),
            turn_ended=self._answer_turn,
        )
        self._responses = ServerResponses(
            self._agenda,
            self.conversation,
            mind,
            voice,
            pace or Pace(),
            self.session,
            conversation_id=conversation_id,
            began=self._hearing.stop_waiting,
            ended=self._hearing.wait_for_user,
        )

        self._mcp = McpListings(self._agenda, self.conversation, mcp_servers or {})

    # --- facts in, events out ---------------------------------------------------------------

    @property
    def deadline_ns(self) -> int | None:
        """When `advance` has something to do; ``None`` when only the client can change things."""
        return self._agenda.deadline_ns

    @property
    def appended_ms(self) -> float:
        """Audio appended in this session, in milliseconds: the clock of the speech events."""
        return self._hearing.appended_ms

    @property
    def active_response_ids(self) -> tuple[str, ...]:
        """Responses whose ``response.done`` was not sent yet."""
        return self._responses.active_ids

    def open(self, at_ns: int) -> list[Sent]:
        """Begin: the client is there."""
        self._agenda.now_ns = at_ns
        self._agenda.plan(at_ns + round(self._limit_s * NS_PER_S), self._expire)
        self._agenda.send(SessionCreated(session=shown(self.session)))
        return self._agenda.take()

    def advance(self, at_ns: int) -> list[Sent]:
        """Do what is due until ``at_ns``."""
        while self.ended is None and self._agenda.run_next(at_ns):
            pass
        return self._agenda.take()

    def receive_text(self, text: str, at_ns: int) -> list[Sent]:
        """Take a message of the client's as it came from the wire; never raises for its sake."""
        sent = self.advance(at_ns)
        if self.ended is not None:
            return sent
        event_id: str | None = None
        try:
            event = decode_client(text)
            if isinstance(event, SessionUpdate):
                event_id = event.event_id
                check_names(msgspec.json.decode(text))
        except MalformedEventError as error:
            wrong = RefusedError(error.code, str(error), error.param)
            self._agenda.refuse(wrong.detail(error.event_id))
            return sent + self._agenda.take()
        except RefusedError as refused:
            self._agenda.refuse(refused.detail(event_id))
            return sent + self._agenda.take()
        return sent + self.receive(event, at_ns)

    def refuse(self, why: str, at_ns: int) -> list[Sent]:
        """Answer a message that is no text at all: the client hears of it, nothing else."""
        sent = self.advance(at_ns)
        if self.ended is None:
            self._agenda.refuse(RefusedError("invalid_event", why).detail(None))
        return sent + self._agenda.take()

    def receive(self, event: KnownClientEvent | UnknownEvent, at_ns: int) -> list[Sent]:
        """Take an event of the client's.

        Args:
            event: The event.
            at_ns: When it came; what was due before comes first in the answer.

        Returns:
            What leaves until ``at_ns``, in order.
        """
        sent = self.advance(at_ns)
        if self.ended is not None:
            return sent
        try:
            self._do(event)
        except RefusedError as refused:
            said = event.event_id
            self._agenda.refuse(refused.detail(said if isinstance(said, str) else None))
        return sent + self._agenda.take()

    def _do(self, event: KnownClientEvent | UnknownEvent) -> None:
        match event:
            case InputAudioBufferAppend():
                self._hearing.append(event)
            case SessionUpdate(session=update):
                self.session = updated(self.session, update, has_spoken=self._responses.has_spoken)
                self._hearing.configure(self.session)
                self._responses.configure(self.session)
                self._agenda.send(SessionUpdated(session=shown(self.session)))
                self._mcp.ask(self.session.tools)
            case InputAudioBufferCommit():
                self._hearing.commit()
            case InputAudioBufferClear():
                self._hearing.clear()
            case ConversationItemCreate(item=item, previous_item_id=previous_item_id):
                held, previous = self.conversation.create(
                    item, previous_item_id, self._hearing.coding
                )
                self._agenda.send(ConversationItemAdded(previous_item_id=previous, item=held.item))
                self._agenda.send(ConversationItemDone(previous_item_id=previous, item=held.item))
            case ConversationItemRetrieve(item_id=item_id):
                item = self.conversation.retrieved(item_id)
                self._agenda.send(ConversationItemRetrieved(item=item))
            case ConversationItemTruncate():
                self._truncate(event)
            case ConversationItemDelete(item_id=item_id):
                self.conversation.delete(item_id)
                self._agenda.send(ConversationItemDeleted(item_id=item_id))
            case ResponseCreate(response=params):
                self._responses.create(params or ResponseParams())
            case ResponseCancel(response_id=response_id):
                self._responses.cancel(response_id)
            case OutputAudioBufferClear():
                raise invalid_value(
                    "Invalid value: 'output_audio_buffer.clear'. It works over WebRTC and SIP "
                    "only: stop the playback and truncate the item.",
                    "type",
                )
            case UnknownEvent(type=kind):
                known = ", ".join(f"'{name}'" for name in sorted(CLIENT_EVENT_TYPES))
                raise invalid_value(
                    f"Invalid value: '{kind}'. Supported values are: {known}.", "type"
                )

    def _truncate(self, event: ConversationItemTruncate) -> None:
        made_bytes = self.conversation.find("truncate", event.item_id).audio_bytes
        self.conversation.truncate(event.item_id, event.content_index, event.audio_end_ms)
        self.truncations.append(
            Truncation(
                item_id=event.item_id,
                content_index=event.content_index,
                audio_end_ms=event.audio_end_ms,
                received_ms=made_bytes // BYTES_PER_MS,
                at_ns=self._agenda.now_ns,
            )
        )
        self._agenda.send(
            ConversationItemTruncated(
                item_id=event.item_id,
                content_index=event.content_index,
                audio_end_ms=event.audio_end_ms,
            )
        )

    # --- what the parts tell each other ------------------------------------------------------

    def _answer_turn(self) -> None:
        # A response that still runs is no reason to wait: the service tries and fails too.
        try:
            self._responses.create(ResponseParams())
        except RefusedError as refused:
            self._agenda.refuse(refused.detail(None))

    def _expire(self) -> None:
        minutes = self._limit_s / 60
        message = f"Your session hit the maximum duration of {minutes:g} minutes."
        self._agenda.refuse(ErrorDetail(code="session_expired", message=message))
        self.ended = ConnectionEnd(code=1001, reason=message)
