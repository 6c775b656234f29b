"""The agent's side of a session of the embedded server: responses, from create to done.

A response is planned whole when it is created (`answer_plan`) and is *active* until its
``response.done``, also between a cancel and the end that follows it some 200 ms later: a create
in that gap is refused, as the service refuses it. Several may run beside the conversation; at
most one writes to it.

Sans-IO: it runs on the clock of the agenda. What a client asks for and cannot have raises
`RefusedError`.

Source: realtime reference, sections 1.3, 3.1 and 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import define, evolve, field
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
    drawn_ms,
    limited,
    paced,
    text_tokens,
)
from framepipe.realtime.events import (
    Audio,
    AudioFormat,
    AudioOutput,
    CachedTokens,
    ConversationItemAdded,
    ConversationItemDone,
    FailureDetail,
    InputTokens,
    Item,
    Json,
    KnownServerEvent,
    OutputTokens,
    Part,
    RateLimit,
    RateLimitsUpdated,
    Response,
    ResponseContentPartAdded,
    ResponseContentPartDone,
    ResponseCreated,
    ResponseDone,
    ResponseFunctionCallArgumentsDelta,
    ResponseFunctionCallArgumentsDone,
    ResponseMcpCallArgumentsDelta,
    ResponseMcpCallArgumentsDone,
    ResponseMcpCallCompleted,
    ResponseMcpCallFailed,
    ResponseMcpCallInProgress,
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
    Session,
    StatusDetails,
    encode_audio,
)
from framepipe.realtime.mind import Mind, Question, text_of
from framepipe.realtime.refusals import RefusedError, already_active, invalid_value, not_active
from framepipe.realtime.server_agenda import MS, Agenda, padding
from framepipe.realtime.server_audio import outgoing, wire_place
from framepipe.realtime.server_conversation import (
    BYTES_PER_MS,
    Held,
    ServerConversation,
    without_transcript,
)
from framepipe.realtime.server_session import check_answer_settings, tool_names
from framepipe.realtime.speech import Voice, VoiceError

_INPUT_TOKEN_MS = 100
"""One input token is 100 ms of audio."""

_RATE_LIMITS_AFTER_MS = (0, 40)
"""In every recording the limits come this long after ``response.done``."""


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


class ServerResponses:
    """Makes the responses of one session.

    Args:
        agenda: The session's.
        conversation: Where the agent's items go.
        mind: What is answered.
        voice: How that sounds.
        pace: How fast it comes and stops.
        conversation_id: Told in each response of the conversation.
        session: The settings.
        began: Called when a response begins.
        ended: Called when one of the conversation has ended, with the milliseconds of audio
            that were sent of it.
    """

    def __init__(
        self,
        agenda: Agenda,
        conversation: ServerConversation,
        mind: Mind,
        voice: Voice,
        pace: Pace,
        session: Session,
        *,
        conversation_id: str,
        began: Callable[[], None],
        ended: Callable[[int], None],
    ) -> None:
        self._agenda = agenda
        self._conversation = conversation
        self._mind = mind
        self._voice = voice
        self._pace = pace
        self._session = session
        self._conversation_id = conversation_id
        self._began = began
        self._ended = ended
        self._running: dict[str, _Running] = {}
        self._answered = 0
        self._tokens_left = 15_000_000
        self.has_spoken = False
        """Audio of the agent exists, which settles its voice."""

    @property
    def active_ids(self) -> tuple[str, ...]:
        """Responses whose ``response.done`` was not sent yet."""
        return tuple(self._running)

    def configure(self, session: Session) -> None:
        """Go by these settings from now on."""
        self._session = session

    def create(self, params: ResponseParams) -> None:
        """Begin a response.

        Raises:
            RefusedError: A value is not allowed, one is active in the conversation, or the
                session only transcribes.
        """
        if self._session.type == "transcription":
            raise RefusedError(
                "invalid_event", "A transcription session makes no responses.", "type"
            )
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
        self._began()
        question = self._question(params)
        modalities = cast(
            "list[str]",
            self._session.output_modalities
            if params.output_modalities is UNSET
            else params.output_modalities,
        )
        limit = (
            self._session.max_output_tokens
            if params.max_output_tokens is UNSET
            else params.max_output_tokens
        )
        response = Response(
            id=self._agenda.new_id("resp"),
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
        self._agenda.send(ResponseCreated(response=response))
        self._schedule(running)

    def _schedule(self, running: _Running) -> None:
        owner = running.response.id
        end_ns = self._agenda.now_ns
        plan = paced(
            running.contents, self._pace, self._agenda.chance, interleaved=self._is_newer_model
        )
        for planned in plan:
            end_ns = self._agenda.now_ns + planned.after_ns
            self._agenda.plan(end_ns, self._stepping(running, planned), owner)
        if not running.contents:
            end_ns += round(drawn_ms(self._pace.first_audio_ms, self._agenda.chance) * MS)
        self._agenda.plan(end_ns, lambda: self._finish(running, by_cancel=False), owner)

    def _question(self, params: ResponseParams) -> Question:
        own_input = isinstance(params.input, list)
        newest = self._conversation.newest_of_user()
        instructions = (
            self._session.instructions if params.instructions is UNSET else params.instructions
        )
        question = Question(
            items=self._conversation.items,
            instructions=str(instructions),
            heard=newest.heard if newest else None,
            recording=newest.pcm if newest else b"",
            said=self._conversation.said,
            tools=tool_names(self._session.tools if params.tools is UNSET else params.tools),
            answered=self._answered,
        )
        if not own_input:
            return question
        items = self._conversation.resolved(cast("list[Item]", params.input))
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
        item_id = self._agenda.new_id("item")
        call_id = ""
        if content.kind == "call":
            call_id = self._agenda.new_id("call")
            item = Item(
                id=item_id,
                type="function_call",
                status="in_progress",
                name=content.name,
                call_id=call_id,
                arguments="",
            )
        elif content.mcp is not None:
            item = Item(
                id=item_id,
                type="mcp_call",
                name=content.name,
                server_label=content.mcp.server_label,
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
        self._agenda.send(
            ResponseOutputItemAdded(response_id=response_id, output_index=index, item=item)
        )
        if running.in_conversation:
            previous = self._conversation.append(held)
            self._agenda.send(ConversationItemAdded(previous_item_id=previous, item=item))
        if content.kind in ("audio", "text"):
            self._agenda.send(
                ResponseContentPartAdded(
                    response_id=response_id,
                    item_id=item_id,
                    output_index=index,
                    part=_wire_part(opened),
                )
            )

    @property
    def _is_newer_model(self) -> bool:
        return "realtime-2" in str(self._session.model)

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
                    **where, delta=text, obfuscation=padding(text)
                )
            case "text":
                event = ResponseOutputTextDelta(**where, delta=text, obfuscation=padding(text))
            case "call":
                event = ResponseFunctionCallArgumentsDelta(
                    **where, call_id=opened.call_id, delta=text, obfuscation=padding(text)
                )
            case "mcp":
                event = ResponseMcpCallArgumentsDelta(
                    **where, delta=text, obfuscation=padding(text)
                )
        self._agenda.send(event)

    def _sound(self, running: _Running, opened: _OpenItem, end_byte: int) -> None:
        kind = _format_of(running)
        begin, end = wire_place(opened.sent_bytes, kind), wire_place(end_byte, kind)
        delta = encode_audio(opened.wire[begin:end])
        self._agenda.send(ResponseOutputAudioDelta(**_where(running, opened), delta=delta))
        opened.sent_bytes = end_byte
        self.has_spoken = True
        if not opened.held.truncated:
            opened.held.audio_bytes = end_byte

    def _close_item(self, running: _Running, opened: _OpenItem, status: str = "completed") -> None:
        opened.closed = True
        held = opened.held
        where = _where(running, opened)
        match opened.content.kind:
            case "audio":
                self._agenda.send(ResponseOutputAudioDone(**where))
                self._agenda.send(
                    ResponseOutputAudioTranscriptDone(**where, transcript=opened.said)
                )
                content = [Part(type="output_audio", transcript=opened.said)]
                item = replace(held.item, status=status, content=content)
            case "text":
                self._agenda.send(ResponseOutputTextDone(**where, text=opened.said))
                content = [Part(type="output_text", text=opened.said)]
                item = replace(held.item, status=status, content=content)
            case "call":
                self._agenda.send(
                    ResponseFunctionCallArgumentsDone(
                        **where,
                        call_id=opened.call_id,
                        name=opened.content.name,
                        arguments=opened.said,
                    )
                )
                item = replace(held.item, status=status, arguments=opened.said)
            case "mcp":
                item = self._called(opened, where, is_whole=status == "completed")
        if opened.content.kind in ("audio", "text"):
            self._agenda.send(ResponseContentPartDone(**where, part=_wire_part(opened)))
        # What the events tell is what was generated; what a truncate left is what is kept.
        held.item = without_transcript(item) if held.truncated else item
        held.pcm = opened.content.pcm[: held.audio_bytes]
        if running.in_conversation:
            self._conversation.retain(held)
            previous = self._conversation.before(held)
            self._agenda.send(ConversationItemDone(previous_item_id=previous, item=item))
        self._agenda.send(
            ResponseOutputItemDone(
                response_id=running.response.id, output_index=opened.index, item=item
            )
        )
        running.response = replace(running.response, output=[*running.response.output, item])

    def _called(self, opened: _OpenItem, where: dict[str, Any], *, is_whole: bool) -> Item:
        """The service uses a tool by itself, once the arguments are whole."""
        use = opened.content.mcp
        item = replace(opened.held.item, arguments=opened.said)
        self._agenda.send(ResponseMcpCallArgumentsDone(**where, arguments=opened.said))
        if use is None or not is_whole:
            return item
        place: dict[str, Any] = {"item_id": opened.held.item_id, "output_index": opened.index}
        self._agenda.send(ResponseMcpCallInProgress(**place))
        if use.error is None:
            self._agenda.send(ResponseMcpCallCompleted(**place))
            return replace(item, output=use.output)
        self._agenda.send(ResponseMcpCallFailed(**place))
        error: dict[str, Json] = {"type": "tool_execution_error", "message": use.error}
        return replace(item, error=error)

    def cancel(self, response_id: str | None) -> None:
        """End the response of this name; ``None``: the one of the conversation.

        Raises:
            RefusedError: There is none.
        """
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

    def cancel_for_speech(self) -> None:
        """The user speaks, and the session lets that interrupt the conversation's response."""
        for running in list(self._running.values()):
            if running.in_conversation and running.cancel_reason is None:
                late_deltas = self._pace.late_deltas_after_speech
                self._cancel(running, "turn_detected", late_deltas=late_deltas)

    def _cancel(self, running: _Running, reason: str, *, late_deltas: bool) -> None:
        running.cancel_reason = reason
        running.silenced = not late_deltas
        self._agenda.plan(
            self._agenda.now_ns + self._pace.cancel_latency_ms * MS,
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
        self._agenda.forget(running.response.id)
        self._agenda.send(
            ResponseDone(
                response=replace(
                    running.response, status=status, status_details=details, usage=usage
                )
            )
        )
        if running.in_conversation:
            sent_bytes = sum(opened.sent_bytes for opened in running.items)
            self._ended(sent_bytes // BYTES_PER_MS)
        self._tokens_left = max(0, self._tokens_left - usage.total_tokens)
        limits = RateLimit(
            name="tokens", limit=15_000_000, remaining=self._tokens_left, reset_seconds=0.002
        )
        self._agenda.send_later(
            self._agenda.now_ns + self._agenda.drawn_ns(_RATE_LIMITS_AFTER_MS),
            RateLimitsUpdated(rate_limits=[limits]),
        )

    def _context_tokens(self, question: Question) -> InputTokens:
        """What the model reads: one token each 100 ms of audio, the words by their length."""
        text = text_tokens(question.instructions) + sum(
            text_tokens(text_of(item) or "") for item in question.items
        )
        audio = self._conversation.user_audio_ms // _INPUT_TOKEN_MS
        return InputTokens(
            text_tokens=text,
            audio_tokens=audio,
            image_tokens=0,
            cached_tokens=0,
            cached_tokens_details=CachedTokens(),
        )

    def _audio_of(self, params: ResponseParams) -> Audio:
        output = cast("AudioOutput", cast("Audio", self._session.audio).output)
        voice, sound = output.voice, output.format
        if isinstance(params.audio, Audio) and isinstance(params.audio.output, AudioOutput):
            asked = params.audio.output
            voice = voice if asked.voice is UNSET else asked.voice
            sound = sound if asked.format is UNSET else asked.format
        return Audio(output=AudioOutput(format=sound, voice=voice))

    @property
    def _speed(self) -> float:
        return float(
            cast("float", cast("AudioOutput", cast("Audio", self._session.audio).output).speed)
        )


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
