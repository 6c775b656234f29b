"""The server half of the Realtime protocol: one session, decided without a socket or a clock.

Theory of operation. Client events go in with the time at which they came; server events come out
with the time at which they leave. What the session will do later (the next delta of an answer,
the end of one that was cancelled, a transcript) stands on its agenda; `deadline_ns` says when
`ServerProtocol.advance` has something to do. Nothing ticks: between a client's event and a
deadline nothing changes.

The user's side runs on *audio time*: milliseconds appended in this session, whenever they
arrived. The agent's side runs on the clock. They meet where speech cancels a response and where
the end of a turn creates one.

A response is planned whole when it is created (`answer_plan`) and is *active* until its
``response.done``, also between a cancel and the end that follows it some 200 ms later: a create
in that gap is refused, as the service refuses it.

Whatever a client sends, it hears of it by an ``error`` event and the session goes on. Only a mind
that raises ends it.

Source: realtime reference, sections 1.3 and 3.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias, cast

import msgspec
from attrs import define, evolve, field, frozen
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from framepipe.realtime.answer_plan import (
    Close,
    Content,
    Open,
    Pace,
    Planned,
    Say,
    Sound,
    audio_tokens_out,
    contents_of,
    limited,
    paced,
    text_tokens,
    word_pieces,
)
from framepipe.realtime.events import (
    CLIENT_EVENT_TYPES,
    Audio,
    AudioFormat,
    AudioOutput,
    CachedTokens,
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
    ErrorEvent,
    FailureDetail,
    InputAudioBufferAppend,
    InputAudioBufferClear,
    InputAudioBufferCleared,
    InputAudioBufferCommit,
    InputAudioBufferCommitted,
    InputAudioBufferSpeechStarted,
    InputAudioBufferSpeechStopped,
    InputAudioBufferTimeoutTriggered,
    InputAudioTranscriptionCompleted,
    InputAudioTranscriptionDelta,
    InputTokens,
    Item,
    KnownClientEvent,
    KnownServerEvent,
    MalformedEventError,
    OutputAudioBufferClear,
    OutputTokens,
    Part,
    RateLimit,
    RateLimitsUpdated,
    Response,
    ResponseCancel,
    ResponseContentPartAdded,
    ResponseContentPartDone,
    ResponseCreate,
    ResponseCreated,
    ResponseDone,
    ResponseFunctionCallArgumentsDelta,
    ResponseFunctionCallArgumentsDone,
    ResponseOutputAudioDelta,
    ResponseOutputAudioDone,
    ResponseOutputAudioTranscriptDelta,
    ResponseOutputAudioTranscriptDone,
    ResponseOutputItemAdded,
    ResponseOutputItemDone,
    ResponseOutputTextDelta,
    ResponseOutputTextDone,
    ResponseParams,
    ResponseUsage,
    SessionCreated,
    SessionUpdate,
    SessionUpdated,
    StatusDetails,
    TranscriptionUsage,
    UnknownEvent,
    decode_client,
    encode_audio,
)
from framepipe.realtime.mind import Ears, Mind, Question, text_of
from framepipe.realtime.refusals import (
    RefusedError,
    already_active,
    buffer_too_small,
    invalid_value,
    not_active,
)
from framepipe.realtime.server_audio import Incoming, outgoing, wire_place
from framepipe.realtime.server_conversation import (
    BYTES_PER_MS,
    Held,
    ServerConversation,
    audio_bytes,
    without_transcript,
)
from framepipe.realtime.server_session import (
    SESSION_LIMIT_S,
    check_answer_settings,
    check_names,
    default_session,
    idle_timeout_ms,
    input_format,
    tool_names,
    turn_detection,
    updated,
    vad_settings,
    wants_transcripts,
)
from framepipe.realtime.server_vad import (
    WINDOW_SAMPLES,
    SegmentClosed,
    SegmentOpened,
    ServerVad,
    SpeechDetector,
)
from framepipe.realtime.speech import Voice, VoiceError

Sent: TypeAlias = tuple[int, KnownServerEvent]
"""A server event and the time at which it leaves, in nanoseconds."""

_MS = 1_000_000
_S = 1_000_000_000

_LEAST_COMMIT_MS = 100
"""The service refuses to commit less."""

_LONGEST_APPEND = 20 * 1024 * 1024
"""Characters of base64 in one append: the service's 15 MiB of audio."""

_KEPT_BEFORE_SPEECH_MS = 500
"""Silence kept beyond the prefix while the server waits for speech."""

_LONGEST_BUFFER_MS = 600_000
"""Uncommitted audio kept when turns are the client's affair: ten minutes, then the oldest goes."""

_INPUT_TOKEN_MS = 100
"""One input token is 100 ms of audio."""

_UNHEARD = "[speech]"
"""Transcript of what the ears could not make out."""

_TRANSCRIPT_AFTER_MS = (120, 300)
"""From the commit to the first transcript event: in recordings it lags the response slightly."""

_TRANSCRIPT_WORD_MS = 40

_IDLE_PROMPT = "The user has not spoken for a while. Ask whether they are still there."
"""What the service tells its model when the idle timeout fires; the wording is ours."""

_RATE_LIMITS_AFTER_MS = (0, 40)
"""In every recording the limits come this long after ``response.done``."""


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


@define(eq=False)
class _OpenItem:
    """An item of a response that is being made."""

    index: int
    content: Content
    held: Held
    call_id: str
    wire: bytes = b""  # the audio in the format of the response
    said: str = ""
    sent_bytes: int = 0  # of the 24 kHz PCM
    closed: bool = False


@define(eq=False)
class _Running:
    """A response that is active."""

    response: Response
    contents: Sequence[Content]
    context_tokens: InputTokens
    in_conversation: bool
    incomplete: bool = False
    failure: str | None = None
    cancel_reason: str | None = None
    silenced: bool = False
    items: list[_OpenItem] = field(factory=list[_OpenItem])


_Due: TypeAlias = tuple[int, int, Callable[[], None], str | None]
"""When, in which order among equal times, what, and the response it belongs to."""


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
    ) -> None:
        self._mind = mind
        self._voice = voice
        self._ears = ears
        self._pace = pace or Pace()
        self._chance = Random(seed)
        self._limit_s = limit_s
        self._tag = "".join(self._chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=6))
        self._ids = 0
        self.session = default_session(
            session_id=self._new_id("sess"),
            model=model,
            expires_at=started_unix_s + round(limit_s),
        )
        self._conversation_id = self._new_id("conv")
        self.conversation = ServerConversation(self._new_id)
        self.truncations: list[Truncation] = []
        self.ended: ConnectionEnd | None = None
        self._vad = ServerVad(detector)
        self._vad.configure(vad_settings(self.session))
        self._incoming = Incoming(input_format(self.session))
        self._buffer = bytearray()
        self._buffer_start = 0  # sample of the session at which the buffer begins
        self._committed_until = 0  # sample up to which audio was committed or cleared
        self._segment_item_id = ""
        self._segment_start = 0
        self._idle_since: int | None = None  # sample at which the wait for the user began
        self._waits = 0
        self._audio_items = 0
        self._answered = 0
        self._has_spoken = False
        self._running: dict[str, _Running] = {}
        self._agenda: list[_Due] = []
        self._planned = 0
        self._tokens_left = 15_000_000
        self._out: list[Sent] = []
        self._now_ns = 0

    # --- facts in, events out ---------------------------------------------------------------

    @property
    def deadline_ns(self) -> int | None:
        """When `advance` has something to do; ``None`` when only the client can change things."""
        while self._agenda and self._is_void(self._agenda[0]):
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

    @property
    def appended_ms(self) -> float:
        """Audio appended in this session, in milliseconds: the clock of the speech events."""
        return self._vad.appended_samples * 1000 / 24_000

    @property
    def active_response_ids(self) -> tuple[str, ...]:
        """Responses whose ``response.done`` was not sent yet."""
        return tuple(self._running)

    def open(self, at_ns: int) -> list[Sent]:
        """Begin: the client is there."""
        self._now_ns = at_ns
        self._plan(at_ns + round(self._limit_s * _S), self._expire)
        self._send(SessionCreated(session=self.session))
        return self._take()

    def advance(self, at_ns: int) -> list[Sent]:
        """Do what is due until ``at_ns``."""
        while self.ended is None:
            deadline_ns = self.deadline_ns
            if deadline_ns is None or deadline_ns > at_ns:
                break
            _, _, act, _ = heapq.heappop(self._agenda)
            self._now_ns = max(self._now_ns, deadline_ns)
            act()
        self._now_ns = max(self._now_ns, at_ns)
        return self._take()

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
            self._fail(wrong.detail(error.event_id))
            return sent + self._take()
        except RefusedError as refused:
            self._fail(refused.detail(event_id))
            return sent + self._take()
        return sent + self.receive(event, at_ns)

    def refuse(self, why: str, at_ns: int) -> list[Sent]:
        """Answer a message that is no text at all: the client hears of it, nothing else."""
        sent = self.advance(at_ns)
        if self.ended is None:
            self._fail(RefusedError("invalid_event", why).detail(None))
        return sent + self._take()

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
            self._fail(refused.detail(said if isinstance(said, str) else None))
        return sent + self._take()

    def _do(self, event: KnownClientEvent | UnknownEvent) -> None:
        match event:
            case InputAudioBufferAppend():
                self._append(event)
            case SessionUpdate(session=update):
                self.session = updated(self.session, update, has_spoken=self._has_spoken)
                self._vad.configure(vad_settings(self.session))
                if self._incoming.kind != input_format(self.session):
                    self._incoming = Incoming(input_format(self.session))
                self._send(SessionUpdated(session=self.session))
            case InputAudioBufferCommit():
                self._commit_by_hand()
            case InputAudioBufferClear():
                self._clear()
            case ConversationItemCreate(item=item, previous_item_id=previous_item_id):
                held, previous = self.conversation.create(
                    item, previous_item_id, self._incoming.kind
                )
                self._send(ConversationItemAdded(previous_item_id=previous, item=held.item))
                self._send(ConversationItemDone(previous_item_id=previous, item=held.item))
            case ConversationItemRetrieve(item_id=item_id):
                item = self.conversation.retrieved(item_id)
                self._send(ConversationItemRetrieved(item=item))
            case ConversationItemTruncate():
                self._truncate(event)
            case ConversationItemDelete(item_id=item_id):
                self.conversation.delete(item_id)
                self._send(ConversationItemDeleted(item_id=item_id))
            case ResponseCreate(response=params):
                self._create(params or ResponseParams())
            case ResponseCancel(response_id=response_id):
                self._cancel_by_client(response_id)
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

    # --- the user's audio -------------------------------------------------------------------

    def _append(self, event: InputAudioBufferAppend) -> None:
        if len(event.audio) > _LONGEST_APPEND:
            raise invalid_value(
                f"Invalid 'audio': {len(event.audio)} characters of base64. Expected at most "
                "15 MiB of audio.",
                "audio",
            )
        pcm = self._incoming.pcm(audio_bytes(event.audio, "audio", self._incoming.sample_bytes))
        self._buffer += pcm
        for edge in self._vad.receive(pcm):
            match edge:
                case SegmentOpened(detected_sample=detected):
                    self._speech_started(detected)
                case SegmentClosed(end_sample=end):
                    self._speech_stopped(end)
        self._trim()

    def _speech_started(self, detected_sample: int) -> None:
        turns = turn_detection(self.session)
        settings = self._vad.settings
        if turns is None or settings is None:
            return
        self._stop_waiting()
        self._segment_item_id = self._new_id("item")
        self._segment_start = max(
            self._buffer_start, detected_sample - settings.prefix_padding_ms * 24
        )
        self._send(
            InputAudioBufferSpeechStarted(
                audio_start_ms=max(0, detected_sample // 24 - settings.prefix_padding_ms),
                item_id=self._segment_item_id,
            )
        )
        if turns.interrupt_response is True:
            for running in list(self._running.values()):
                if running.in_conversation and running.cancel_reason is None:
                    self._cancel(
                        running, "turn_detected", late_deltas=self._pace.late_deltas_after_speech
                    )

    def _speech_stopped(self, end_sample: int) -> None:
        turns = turn_detection(self.session)
        item_id = self._segment_item_id
        self._send(InputAudioBufferSpeechStopped(audio_end_ms=end_sample // 24, item_id=item_id))
        self._commit(item_id, self._segment_start, end_sample)
        if turns is not None and turns.create_response is True:
            # A response that still runs is no reason to wait: the service tries and fails too.
            try:
                self._create(ResponseParams())
            except RefusedError as refused:
                self._fail(refused.detail(None))

    def _commit_by_hand(self) -> None:
        start = max(self._buffer_start, self._committed_until)
        buffered_ms = (self._vad.appended_samples - start) / 24
        if buffered_ms < _LEAST_COMMIT_MS:
            raise buffer_too_small(buffered_ms)
        self._vad.forget()
        self._commit(self._new_id("item"), start, self._vad.appended_samples)

    def _commit(
        self, item_id: str, start_sample: int, end_sample: int, *, silent: bool = False
    ) -> None:
        pcm = bytes(
            self._buffer[
                2 * (start_sample - self._buffer_start) : 2 * (end_sample - self._buffer_start)
            ]
        )
        self._committed_until = end_sample
        item = Item(
            id=item_id,
            type="message",
            status="completed",
            role="user",
            content=[Part(type="input_audio", transcript=None)],
        )
        held = Held(item, pcm=pcm, audio_bytes=len(pcm))
        if silent:
            held.heard = ""
        else:
            held.heard = self._ears(self._audio_items, pcm) if self._ears else None
            self._audio_items += 1
        previous = self.conversation.append(held)
        self._send(InputAudioBufferCommitted(previous_item_id=previous, item_id=item_id))
        self._send(ConversationItemAdded(previous_item_id=previous, item=item))
        self._send(ConversationItemDone(previous_item_id=previous, item=item))
        if wants_transcripts(self.session):
            self._transcribe(held)
        self._trim()

    def _transcribe(self, held: Held) -> None:
        text = _UNHEARD if held.heard is None else held.heard
        at_ns = self._now_ns + self._drawn_ns(_TRANSCRIPT_AFTER_MS)
        for word in word_pieces(text):
            delta = InputAudioTranscriptionDelta(
                item_id=held.item_id, delta=word, obfuscation=_padding(word)
            )
            self._plan(at_ns, self._sending(delta))
            at_ns += _TRANSCRIPT_WORD_MS * _MS

        def complete() -> None:
            if isinstance(held.item.content, list):
                part = replace(held.item.content[0], transcript=text)
                held.item = replace(held.item, content=[part])
            self._send(
                InputAudioTranscriptionCompleted(
                    item_id=held.item_id,
                    transcript=text,
                    usage=TranscriptionUsage(
                        type="duration", seconds=-(-held.audio_bytes // (1000 * BYTES_PER_MS))
                    ),
                )
            )

        self._plan(at_ns + _TRANSCRIPT_WORD_MS * _MS, complete)

    def _clear(self) -> None:
        self._vad.forget()
        self._buffer.clear()
        self._buffer_start = self._committed_until = self._vad.appended_samples
        self._send(InputAudioBufferCleared())

    def _trim(self) -> None:
        """Let go of audio that nothing can need any more."""
        keep_from = self._vad.appended_samples - _LONGEST_BUFFER_MS * 24
        if self._vad.settings is not None and not self._vad.speaking:
            kept_ms = self._vad.settings.prefix_padding_ms + _KEPT_BEFORE_SPEECH_MS
            keep_from = max(keep_from, self._vad.appended_samples - kept_ms * 24)
            if self._idle_since is not None:
                keep_from = min(keep_from, self._idle_since)
        if keep_from > self._buffer_start:
            del self._buffer[: 2 * (keep_from - self._buffer_start)]
            self._buffer_start = keep_from
            self._segment_start = max(self._segment_start, keep_from)

    # --- the user who says nothing ----------------------------------------------------------

    def _wait_for_user(self, heard_ms: int) -> None:
        """Begin to wait when the answer has been played, which the server can only guess."""
        self._stop_waiting()
        timeout_ms = idle_timeout_ms(self.session)
        if timeout_ms is None:
            return
        wait = self._waits

        def begin() -> None:
            if wait == self._waits:
                self._idle_since = self._judged_samples
                self._plan(self._now_ns + timeout_ms * _MS, end)

        def end() -> None:
            if wait == self._waits and self._idle_since is not None:
                self._speak_up(self._idle_since, self._judged_samples)

        self._plan(self._now_ns + heard_ms * _MS, begin)

    def _stop_waiting(self) -> None:
        self._waits += 1
        self._idle_since = None

    @property
    def _judged_samples(self) -> int:
        return self._vad.appended_samples - self._vad.appended_samples % WINDOW_SAMPLES

    def _speak_up(self, start_sample: int, end_sample: int) -> None:
        """The idle timeout: a turn of silence, and an answer to it."""
        start_sample = max(start_sample, self._buffer_start)
        if end_sample <= start_sample:
            return  # a client that sends no audio is not idle, it is absent
        item_id = self._new_id("item")
        self._send(
            InputAudioBufferTimeoutTriggered(
                item_id=item_id, audio_start_ms=start_sample // 24, audio_end_ms=end_sample // 24
            )
        )
        prompt = Item(
            id=self._new_id("item"),
            type="message",
            status="completed",
            role="system",
            content=[Part(type="input_text", text=_IDLE_PROMPT)],
        )
        previous = self.conversation.append(Held(prompt))
        self._send(ConversationItemAdded(previous_item_id=previous, item=prompt))
        self._send(ConversationItemDone(previous_item_id=previous, item=prompt))
        self._commit(item_id, start_sample, end_sample, silent=True)
        try:
            self._create(ResponseParams())
        except RefusedError as refused:
            self._fail(refused.detail(None))

    # --- cuts -------------------------------------------------------------------------------

    def _truncate(self, event: ConversationItemTruncate) -> None:
        made_bytes = self.conversation.find("truncate", event.item_id).audio_bytes
        self.conversation.truncate(event.item_id, event.content_index, event.audio_end_ms)
        self.truncations.append(
            Truncation(
                item_id=event.item_id,
                content_index=event.content_index,
                audio_end_ms=event.audio_end_ms,
                received_ms=made_bytes // BYTES_PER_MS,
                at_ns=self._now_ns,
            )
        )
        self._send(
            ConversationItemTruncated(
                item_id=event.item_id,
                content_index=event.content_index,
                audio_end_ms=event.audio_end_ms,
            )
        )

    # --- responses --------------------------------------------------------------------------

    def _create(self, params: ResponseParams) -> None:
        check_answer_settings(params, "response")
        if params.conversation not in (UNSET, "auto", "none"):
            raise invalid_value(
                f"Invalid value: '{params.conversation}'. Supported values are: 'auto' and 'none'.",
                "response.conversation",
            )
        if isinstance(params.metadata, dict) and len(params.metadata) > 16:
            raise invalid_value(
                f"Invalid 'metadata': {len(params.metadata)} pairs. Expected at most 16.",
                "response.metadata",
            )
        in_conversation = params.conversation != "none"
        if in_conversation:
            for active in self._running.values():
                if active.in_conversation:
                    raise already_active(active.response.id)
        self._stop_waiting()
        question = self._question(params)
        modalities = cast(
            "list[str]",
            self.session.output_modalities
            if params.output_modalities is UNSET
            else params.output_modalities,
        )
        limit = (
            self.session.max_output_tokens
            if params.max_output_tokens is UNSET
            else params.max_output_tokens
        )
        response = Response(
            id=self._new_id("resp"),
            conversation_id=self._conversation_id if in_conversation else None,
            output_modalities=modalities,
            max_output_tokens=cast("int | str", limit),
            audio=self._audio_of(params),
            metadata=params.metadata if isinstance(params.metadata, dict) else None,
        )
        contents: Sequence[Content] = ()
        cut, failure = False, None
        try:
            outputs = self._mind.answer(question)
            contents = contents_of(outputs, modalities[0], self._voice, self._speed)
            if isinstance(limit, int):
                contents, cut = limited(contents, limit)
        except VoiceError as error:
            failure = str(error)
        self._answered += 1
        running = _Running(
            response, contents, self._context_tokens(question), in_conversation, cut, failure
        )
        self._running[response.id] = running
        self._send(ResponseCreated(response=response))
        self._schedule(running)

    def _schedule(self, running: _Running) -> None:
        owner = running.response.id
        end_ns = self._now_ns
        plan = paced(running.contents, self._pace, self._chance, interleaved=self._is_newer_model)
        for planned in plan:
            end_ns = self._now_ns + planned.after_ns
            self._plan(end_ns, self._stepping(running, planned), owner)
        if not running.contents:
            end_ns += self._drawn_ns(self._pace.first_audio_ms)
        self._plan(end_ns, lambda: self._finish(running, by_cancel=False), owner)

    def _question(self, params: ResponseParams) -> Question:
        own_input = isinstance(params.input, list)
        newest = self.conversation.newest_of_user()
        instructions = (
            self.session.instructions if params.instructions is UNSET else params.instructions
        )
        question = Question(
            items=self.conversation.items,
            instructions=str(instructions),
            heard=newest.heard if newest else None,
            recording=newest.pcm if newest else b"",
            said=self.conversation.said,
            tools=tool_names(self.session.tools if params.tools is UNSET else params.tools),
            answered=self._answered,
        )
        if not own_input:
            return question
        items = self.conversation.resolved(cast("list[Item]", params.input))
        said = tuple(text_of(item) or "" for item in items if item.role == "user")
        heard = _words_of(items)
        return evolve(question, items=items, heard=heard, recording=b"", said=said)

    def _stepping(self, running: _Running, planned: Planned) -> Callable[[], None]:
        def act() -> None:
            if running.silenced:
                return
            match planned.step:
                case Open():
                    self._open_item(running, planned.output_index)
                case Say(text=text):
                    self._say(running, running.items[planned.output_index], text)
                case Sound(end_byte=end_byte):
                    self._sound(running, running.items[planned.output_index], end_byte)
                case Close():
                    self._close_item(running, running.items[planned.output_index])

        return act

    def _open_item(self, running: _Running, index: int) -> None:
        content = running.contents[index]
        item_id = self._new_id("item")
        call_id = ""
        if content.kind == "call":
            call_id = self._new_id("call")
            item = Item(
                id=item_id,
                type="function_call",
                status="in_progress",
                name=content.name,
                call_id=call_id,
                arguments="",
            )
        else:
            item = Item(
                id=item_id,
                type="message",
                status="in_progress",
                role="assistant",
                content=[],
                phase=self._phase(running, index),
            )
        held = Held(item, made_by_model=True)
        wire = outgoing(content.pcm, _format_of(running))
        opened = _OpenItem(index, content, held, call_id, wire)
        running.items.append(opened)
        response_id = running.response.id
        self._send(ResponseOutputItemAdded(response_id=response_id, output_index=index, item=item))
        if running.in_conversation:
            previous = self.conversation.append(held)
            self._send(ConversationItemAdded(previous_item_id=previous, item=item))
        if content.kind != "call":
            self._send(
                ResponseContentPartAdded(
                    response_id=response_id,
                    item_id=item_id,
                    output_index=index,
                    part=_wire_part(opened),
                )
            )

    @property
    def _is_newer_model(self) -> bool:
        return "realtime-2" in str(self.session.model)

    def _phase(self, running: _Running, index: int) -> str | UnsetType:
        """Newer models tell what is said before a tool call from the answer itself."""
        if not self._is_newer_model:
            return UNSET
        later = running.contents[index + 1 :]
        return "commentary" if any(one.kind == "call" for one in later) else "final_answer"

    def _say(self, running: _Running, opened: _OpenItem, text: str) -> None:
        opened.said += text
        where = _where(running, opened)
        match opened.content.kind:
            case "audio":
                event: KnownServerEvent = ResponseOutputAudioTranscriptDelta(
                    **where, delta=text, obfuscation=_padding(text)
                )
            case "text":
                event = ResponseOutputTextDelta(**where, delta=text, obfuscation=_padding(text))
            case "call":
                event = ResponseFunctionCallArgumentsDelta(
                    **where, call_id=opened.call_id, delta=text, obfuscation=_padding(text)
                )
        self._send(event)

    def _sound(self, running: _Running, opened: _OpenItem, end_byte: int) -> None:
        kind = _format_of(running)
        begin, end = wire_place(opened.sent_bytes, kind), wire_place(end_byte, kind)
        delta = encode_audio(opened.wire[begin:end])
        self._send(ResponseOutputAudioDelta(**_where(running, opened), delta=delta))
        opened.sent_bytes = end_byte
        self._has_spoken = True
        if not opened.held.truncated:
            opened.held.audio_bytes = end_byte

    def _close_item(self, running: _Running, opened: _OpenItem, status: str = "completed") -> None:
        opened.closed = True
        held = opened.held
        where = _where(running, opened)
        match opened.content.kind:
            case "audio":
                self._send(ResponseOutputAudioDone(**where))
                self._send(ResponseOutputAudioTranscriptDone(**where, transcript=opened.said))
                content = [Part(type="output_audio", transcript=opened.said)]
                item = replace(held.item, status=status, content=content)
            case "text":
                self._send(ResponseOutputTextDone(**where, text=opened.said))
                content = [Part(type="output_text", text=opened.said)]
                item = replace(held.item, status=status, content=content)
            case "call":
                self._send(
                    ResponseFunctionCallArgumentsDone(
                        **where,
                        call_id=opened.call_id,
                        name=opened.content.name,
                        arguments=opened.said,
                    )
                )
                item = replace(held.item, status=status, arguments=opened.said)
        if opened.content.kind != "call":
            self._send(ResponseContentPartDone(**where, part=_wire_part(opened)))
        # What the events tell is what was generated; what a truncate left is what is kept.
        held.item = without_transcript(item) if held.truncated else item
        held.pcm = opened.content.pcm[: held.audio_bytes]
        if running.in_conversation:
            self.conversation.retain(held)
            previous = self.conversation.before(held)
            self._send(ConversationItemDone(previous_item_id=previous, item=item))
        self._send(
            ResponseOutputItemDone(
                response_id=running.response.id, output_index=opened.index, item=item
            )
        )
        running.response = replace(running.response, output=[*running.response.output, item])

    def _cancel_by_client(self, response_id: str | None) -> None:
        # Without an id the service cancels the one that writes to the conversation.
        candidates = [
            running
            for running in self._running.values()
            if running.cancel_reason is None
            and (
                running.in_conversation
                if response_id is None
                else running.response.id == response_id
            )
        ]
        if not candidates:
            raise not_active()
        for running in candidates:
            self._cancel(running, "client_cancelled", late_deltas=self._pace.late_deltas)

    def _cancel(self, running: _Running, reason: str, *, late_deltas: bool) -> None:
        running.cancel_reason = reason
        running.silenced = not late_deltas
        self._plan(
            self._now_ns + self._pace.cancel_latency_ms * _MS,
            lambda: self._finish(running, by_cancel=True),
            running.response.id,
        )

    def _finish(self, running: _Running, *, by_cancel: bool) -> None:
        """End a response: whole, cancelled, cut by its limit, or failed.

        A cancel that comes so late that the answer is whole before it takes effect has lost the
        race: the response completes, as if nothing had been asked.
        """
        if running.silenced and not by_cancel:
            return
        for opened in running.items:
            if not opened.closed:
                self._close_item(running, opened, "incomplete")
        status, details = "completed", None
        if by_cancel:
            status = "cancelled"
            details = StatusDetails(type=status, reason=str(running.cancel_reason))
        elif running.failure is not None:
            status = "failed"
            details = StatusDetails(
                type=status,
                error=FailureDetail(
                    type="server_error", code="voice_failed", message=running.failure
                ),
            )
        elif running.incomplete:
            status = "incomplete"
            details = StatusDetails(type=status, reason="max_output_tokens")
        usage = _usage(running)
        del self._running[running.response.id]
        self._send(
            ResponseDone(
                response=replace(
                    running.response, status=status, status_details=details, usage=usage
                )
            )
        )
        if running.in_conversation:
            heard_bytes = sum(opened.sent_bytes for opened in running.items)
            self._wait_for_user(heard_bytes // BYTES_PER_MS)
        self._tokens_left = max(0, self._tokens_left - usage.total_tokens)
        limits = RateLimit(
            name="tokens", limit=15_000_000, remaining=self._tokens_left, reset_seconds=0.002
        )
        self._plan(
            self._now_ns + self._drawn_ns(_RATE_LIMITS_AFTER_MS),
            self._sending(RateLimitsUpdated(rate_limits=[limits])),
        )

    def _context_tokens(self, question: Question) -> InputTokens:
        """What the model reads: one token each 100 ms of audio, the words by their length."""
        text = text_tokens(question.instructions) + sum(
            text_tokens(text_of(item) or "") for item in question.items
        )
        audio = self.conversation.user_audio_ms // _INPUT_TOKEN_MS
        return InputTokens(
            text_tokens=text,
            audio_tokens=audio,
            image_tokens=0,
            cached_tokens=0,
            cached_tokens_details=CachedTokens(),
        )

    def _audio_of(self, params: ResponseParams) -> Audio:
        output = cast("AudioOutput", cast("Audio", self.session.audio).output)
        voice, sound = output.voice, output.format
        if isinstance(params.audio, Audio) and isinstance(params.audio.output, AudioOutput):
            asked = params.audio.output
            voice = voice if asked.voice is UNSET else asked.voice
            sound = sound if asked.format is UNSET else asked.format
        return Audio(output=AudioOutput(format=sound, voice=voice))

    @property
    def _speed(self) -> float:
        return float(
            cast("float", cast("AudioOutput", cast("Audio", self.session.audio).output).speed)
        )

    # --- the agenda -------------------------------------------------------------------------

    def _expire(self) -> None:
        minutes = self._limit_s / 60
        message = f"Your session hit the maximum duration of {minutes:g} minutes."
        self._fail(ErrorDetail(code="session_expired", message=message))
        self.ended = ConnectionEnd(code=1001, reason=message)

    def _plan(self, at_ns: int, act: Callable[[], None], owner: str | None = None) -> None:
        self._planned += 1
        heapq.heappush(self._agenda, (at_ns, self._planned, act, owner))

    def _is_void(self, due: _Due) -> bool:
        """Whether it belongs to a response that is over."""
        owner = due[3]
        return owner is not None and owner not in self._running

    def _sending(self, event: KnownServerEvent) -> Callable[[], None]:
        return lambda: self._send(event)

    def _drawn_ns(self, bounds_ms: tuple[float, float]) -> int:
        return round(self._chance.uniform(*bounds_ms) * _MS)

    def _fail(self, detail: ErrorDetail) -> None:
        self._send(ErrorEvent(error=detail))

    def _send(self, event: KnownServerEvent) -> None:
        self._out.append((self._now_ns, replace(event, event_id=self._new_id("event"))))

    def _take(self) -> list[Sent]:
        sent, self._out = self._out, []
        return sent

    def _new_id(self, prefix: str) -> str:
        self._ids += 1
        return f"{prefix}_{self._tag}{self._ids:08d}"


def _format_of(running: _Running) -> str:
    """How the response's audio is coded."""
    output = cast("AudioOutput", cast("Audio", running.response.audio).output)
    return cast("AudioFormat", output.format).type


def _where(running: _Running, opened: _OpenItem) -> dict[str, Any]:
    """The fields that say which part of which item of which response."""
    return {
        "response_id": running.response.id,
        "item_id": opened.held.item_id,
        "output_index": opened.index,
    }


def _wire_part(opened: _OpenItem) -> Part:
    """A part as ``response.content_part`` events show it: "audio", not "output_audio"."""
    if opened.content.kind == "audio":
        return Part(type="audio", transcript=opened.said)
    return Part(type="text", text=opened.said)


def _words_of(items: tuple[Item, ...]) -> str | None:
    """What the user said last."""
    users = (item for item in reversed(items) if item.role == "user")
    newest = next(users, None)
    return None if newest is None else text_of(newest)


def _padding(text: str) -> str:
    """The service hides the length of a delta by padding; here it is only there."""
    return "0" * (16 - len(text) % 16)


def _usage(running: _Running) -> ResponseUsage:
    """What the response cost: the words and the audio that were made of it."""
    if not running.items:
        return ResponseUsage()
    text = sum(text_tokens(opened.said) for opened in running.items)
    audio = sum(audio_tokens_out(opened.sent_bytes) for opened in running.items)
    read = running.context_tokens
    n_read = read.text_tokens + read.audio_tokens
    return ResponseUsage(
        total_tokens=n_read + text + audio,
        input_tokens=n_read,
        output_tokens=text + audio,
        input_token_details=read,
        output_token_details=OutputTokens(text_tokens=text, audio_tokens=audio),
    )
